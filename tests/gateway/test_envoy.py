# SPDX-License-Identifier: Apache-2.0
"""A real Envoy, by the configuration that the documentation shows, in front of a real server."""

import http.client
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from server.api import METER, connect, put_tenant

from harness.envoy_process import EnvoyProcess
from harness.server_process import ServerProcess

PAGE = Path(__file__).parents[2] / "docs" / "gateways.md"


class Model(BaseHTTPRequestHandler):
    """What stands behind the gateway."""

    def do_GET(self) -> None:
        """Answer 200."""
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def model_port() -> Iterator[int]:
    """The port of a running model."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Model) as model:
        thread = threading.Thread(target=model.serve_forever)
        thread.start()
        yield model.server_address[1]
        model.shutdown()
        thread.join()


def documented_config(ports: dict[int, int]) -> str:
    """Return the page's configuration with other ports."""
    found = re.search(r"^```yaml\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert found is not None
    config = found[1]
    for shown, used in ports.items():
        assert f"port_value: {shown}" in config
        config = config.replace(f"port_value: {shown}", f"port_value: {used}")
    return config


def get(address: str, headers: dict[str, str]) -> http.client.HTTPResponse:
    """Ask the gateway."""
    connection = http.client.HTTPConnection(address, timeout=30)
    try:
        connection.request("GET", "/v1/chat", headers=headers)
        return connection.getresponse()
    finally:
        connection.close()


def test_envoy_enforces_our_limits(
    fresh_server: Callable[[], ServerProcess], model_port: int, tmp_path: Path
) -> None:
    """Requests pass until the limit, then get 429 with Retry-After, and 503 when nothing can be decided."""
    server = fresh_server()
    with connect(server.address, server.admin_key) as api:
        put_tenant(api, "acme", requests_per_minute=2)
        key = dict(api.with_new_key(METER, "acme").metadata)["authorization"].removeprefix("Bearer ")
    port = int(server.address.rpartition(":")[2])
    config = documented_config({8080: 0, 7460: port, 9000: model_port})
    with EnvoyProcess(config, tmp_path, {"TAXIMETER_KEY": key}) as envoy:
        acme = {"x-tenant": "acme/chat", "x-model": "gpt-5"}
        answers = [get(envoy.address, acme) for _ in range(3)]
        without_tenant = get(envoy.address, {})
        server.kill()
        undecided = get(envoy.address, acme)

    assert [answer.status for answer in answers] == [200, 200, 429], envoy.log
    policy = '"requests_per_minute;acme";q=2;qu="requests";w=60'
    assert [answer.getheader("RateLimit-Policy") for answer in answers] == [policy] * 3
    assert [answer.getheader("RateLimit", "").split(";t=")[0] for answer in answers] == [
        f'"requests_per_minute;acme";r={left}' for left in (1, 0, 0)
    ]
    waits = [answer.getheader("Retry-After") for answer in answers]
    assert waits[:2] == [None, None]
    assert 0 < int(waits[2] or 0) <= 61
    assert without_tenant.status == 404
    assert undecided.status == 503
