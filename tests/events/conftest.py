# SPDX-License-Identifier: Apache-2.0
"""Tenants that use their limits, and somebody who listens."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from server.api import Api, connect, new_tenant, put_tenant, record

from harness.server_process import ServerProcess

WAIT_TIMEOUT_S = 60
"""The machine may be busy; what is waited for takes seconds."""


@dataclass(frozen=True)
class Message:
    """What was posted. headers: names in lower case."""

    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """A webhook endpoint on a real HTTP server. answers: the status of each post in turn; the last one goes on."""

    url: str = ""
    answers: list[int] = field(default_factory=lambda: [204])
    headers: dict[str, str] = field(default_factory=dict)
    messages: list[Message] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def wait_for(self, count: int) -> list[Message]:
        """Return what was posted once it is so many messages."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.messages) >= count, WAIT_TIMEOUT_S)
            return list(self.messages)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Somebody who listens on loopback."""
    found = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            with found.changed:
                found.messages.append(Message(self.path, headers, body))
                status = found.answers.pop(0) if len(found.answers) > 1 else found.answers[0]
                found.changed.notify_all()
            self.send_response(status)
            for name, value in found.headers.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, *_arguments: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http_server:
        found.url = f"http://127.0.0.1:{http_server.server_address[1]}/hook?of=quota"
        thread = threading.Thread(target=http_server.serve_forever)
        thread.start()
        yield found
        http_server.shutdown()
        thread.join()


@pytest.fixture
def api(server: ServerProcess) -> Iterator[Api]:
    """The API, called with the admin key."""
    with connect(server.address, server.admin_key) as found:
        yield found


def used_up(api: Any, tenant: str = "", *, tokens: int = 100) -> str:
    """Use so many of a tenant's 100 tokens per day; returns the tenant, a new one unless given."""
    name = tenant or new_tenant()
    put_tenant(api, name, tokens_per_day=100)
    record(api, name, tokens)
    return name
