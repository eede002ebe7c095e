# SPDX-License-Identifier: Apache-2.0
"""The real front before a server that shows what reaches it, in place of the services behind."""

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from taximeter_server import _native

UNARY = "/taximeter.v1.MeteringService/Report"
STREAM = "/taximeter.v1.MeteringService/ExportReport"
BIDI = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
# Served behind the front, but not in its table.
UNLISTED = "/taximeter.v1.MeteringService/Unlisted"
KEYS = {role: f"tx_{role}{'x' * (12 - len(role))}_secret_check" for role in ("admin", "meter", "read")}
CHUNK_BYTES = 64 << 10
STREAM_CHUNKS = 8_192

Behaviour = Callable[[bytes, grpc.ServicerContext], bytes]


def echo(request: bytes, _context: grpc.ServicerContext) -> bytes:
    """Answer with the request."""
    return request


@dataclass
class Backend:
    """A gRPC server on the private socket. unary: what it does with a call."""

    socket_path: Path
    unary: Behaviour = echo
    produced_chunks: int = 0
    cancelled: threading.Event = field(default_factory=threading.Event)
    server: Any = None

    def start(self) -> None:
        """Serve on the socket."""
        self.server = grpc.server(
            ThreadPoolExecutor(40),
            handlers=[_Handler(self)],
            options=[("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)],
        )
        assert self.server.add_insecure_port(f"unix:{self.socket_path}")
        self.server.start()

    def stop(self) -> None:
        """Go away at once."""
        self.server.stop(0).wait()

    def stream(self, _request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        """Stream half a GiB as fast as it is taken."""
        context.add_callback(self.cancelled.set)
        for _ in range(STREAM_CHUNKS):
            self.produced_chunks += 1
            yield bytes(CHUNK_BYTES)

    def bidi(self, requests: Iterator[bytes], _context: grpc.ServicerContext) -> Iterator[bytes]:
        """Answer each message when it comes."""
        for request in requests:
            yield b"answer to " + request

    def wait_for_cancellation(self, _request: bytes, context: grpc.ServicerContext) -> bytes:
        """Answer only once the caller has gone."""
        context.add_callback(self.cancelled.set)
        self.cancelled.wait(10)
        return b""


class _Handler(grpc.GenericRpcHandler):
    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def service(self, details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[bytes, bytes] | None":
        if details.method == STREAM:
            return grpc.unary_stream_rpc_method_handler(self._backend.stream)
        if details.method == BIDI:
            return grpc.stream_stream_rpc_method_handler(self._backend.bidi)
        return grpc.unary_unary_rpc_method_handler(self._backend.unary)


def describe(_request: bytes, context: grpc.ServicerContext) -> bytes:
    """Answer with the metadata and the deadline that arrived."""
    metadata = [
        [name, value if isinstance(value, str) else value.hex()]
        for name, value in context.invocation_metadata()
    ]
    return json.dumps({"metadata": metadata, "time_remaining_s": context.time_remaining()}).encode()


@dataclass
class ForwardProbe:
    """A front and what is behind it."""

    backend: Backend
    address: str

    def metadata(self, role: str = "admin") -> tuple[tuple[str, str], ...]:
        """Return the metadata of a caller."""
        return (("authorization", f"Bearer {KEYS[role]}"),)


def start_front(directory: Path, socket_path: Path) -> tuple[_native.Engine, _native.Front]:
    """Start a front with one key for each role. Its store does not matter: nothing is recorded."""
    engine = _native.Engine(
        store_url=f"unix://{directory}/none.sock",
        journal_dir=str(directory / "journal"),
        exclusive_store=True,
    )
    keys = [
        {
            "key_id": secret.split("_")[1],
            "secret_sha256": hashlib.sha256(secret.encode()).hexdigest(),
            "role": role,
            "tenants": ["acme", "beta/x"] if role == "read" else [],
            "expire_time_ms": None,
        }
        for role, secret in KEYS.items()
    ]
    engine.set_catalogue(json.dumps({"revision": 1, "timeline": [], "rate_cards": {}, "keys": keys}).encode())
    front = _native.Front(
        engine,
        listen="127.0.0.1:0",
        forward_socket=str(socket_path),
        calls_max=1_024,
        connections_max=1_000,
        connection_age_max_ms=1_800_000,
    )
    return engine, front


def wait_until(condition: Callable[[], bool], timeout_s: float = 5) -> bool:
    """Poll condition; tell whether it came true in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
