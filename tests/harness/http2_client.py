# SPDX-License-Identifier: Apache-2.0
"""HTTP/2 by hand, for what a gRPC library would never send: odd headers, cut-off frames, compressed bombs."""

import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import h2.config
import h2.connection
import h2.events

from harness.secret_scan import SESSION

TIMEOUT_S = 10
Headers = Sequence[tuple[str, str]]


@dataclass
class Answer:
    """What came back on one stream. reset: error code of RST_STREAM; ended: the stream ended in order."""

    headers: dict[str, str] = field(default_factory=dict)
    trailers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    reset: int | None = None
    ended: bool = False

    @property
    def http_status(self) -> int:
        """The status of the HTTP response."""
        return int(self.headers[":status"])

    @property
    def grpc_status(self) -> int:
        """The status of the gRPC call, from the trailers or, without any, from the headers."""
        return int((self.trailers or self.headers)["grpc-status"])

    @property
    def grpc_message(self) -> str:
        """The message of the gRPC status."""
        return (self.trailers or self.headers).get("grpc-message", "")


def grpc_headers(path: str, key: str, *more: tuple[str, str]) -> list[tuple[str, str]]:
    """Return the headers of a gRPC call; more replaces those of the same name, or adds them."""
    headers = {
        ":method": "POST",
        ":scheme": "http",
        ":path": path,
        ":authority": "localhost",
        "content-type": "application/grpc",
        "te": "trailers",
        "authorization": f"Bearer {key}",
    }
    return [*(headers | dict(more)).items()]


def frame(message: bytes, *, compressed: bool = False, length: int | None = None) -> bytes:
    """Return a gRPC frame. length: what the frame says, where that is not the truth."""
    return struct.pack(">BI", compressed, len(message) if length is None else length) + message


class Http2Client:
    """One connection. Not thread-safe."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), TIMEOUT_S)
        configuration = h2.config.H2Configuration(
            header_encoding="utf-8", validate_outbound_headers=False, normalize_outbound_headers=False
        )
        self._connection = h2.connection.H2Connection(configuration)
        self._connection.initiate_connection()
        self._answers: dict[int, Answer] = {}
        self.is_closed = False
        self._flush()

    def __enter__(self) -> Self:
        """Return the client."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the socket."""
        self.socket.close()

    def call(self, headers: Headers, body: bytes = b"") -> Answer:
        """Send one request and wait for its answer."""
        stream_id = self.open(headers)
        self.send(stream_id, body, end=True)
        return self.answer(stream_id)

    def open(self, headers: Headers) -> int:
        """Send the headers of a request; returns the stream's id."""
        stream_id = self._connection.get_next_available_stream_id()
        self._answers[stream_id] = Answer()
        self._connection.send_headers(stream_id, list(headers))
        self._flush()
        return stream_id

    def send(self, stream_id: int, body: bytes, *, end: bool = False) -> None:
        """Send a part of the body, within the windows of flow control, until the server answers."""
        answer, sent = self._answers[stream_id], 0
        while sent < len(body) and not self._is_over(answer):
            room = self._connection.local_flow_control_window(stream_id)
            room = min(room, self._connection.max_outbound_frame_size)
            if room == 0:
                self._receive()
                continue
            self._connection.send_data(stream_id, body[sent : sent + room])
            sent += room
            self._flush()
        if end and not self._is_over(answer):
            self._connection.end_stream(stream_id)
            self._flush()

    def call_all(self, calls: Sequence[tuple[Headers, bytes]]) -> list[Answer]:
        """Send requests in one piece, and wait for all answers. They must fit into the windows of flow control."""
        opened = []
        for headers, body in calls:
            stream_id = self._connection.get_next_available_stream_id()
            self._answers[stream_id] = Answer()
            self._connection.send_headers(stream_id, list(headers))
            self._connection.send_data(stream_id, body, end_stream=True)
            opened.append(stream_id)
        self._flush()
        return [self.answer(stream_id) for stream_id in opened]

    def reset(self, stream_id: int) -> None:
        """Cancel the stream."""
        self._connection.reset_stream(stream_id, error_code=8)
        self._flush()

    def answer(self, stream_id: int) -> Answer:
        """Wait until the stream is over."""
        answer = self._answers[stream_id]
        while not self._is_over(answer):
            self._receive()
        return answer

    def _is_over(self, answer: Answer) -> bool:
        return answer.ended or answer.reset is not None or self.is_closed

    def _flush(self) -> None:
        self.socket.sendall(self._connection.data_to_send())

    def _receive(self) -> None:
        data = self.socket.recv(1 << 16)
        if not data:
            self.is_closed = True
            return
        for event in self._connection.receive_data(data):
            self._note(event)
        self._flush()

    def _note(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.ResponseReceived):
            self._answers[event.stream_id].headers = _decoded(event.headers)
            SESSION.note_status("\n".join(_decoded(event.headers).values()))
        elif isinstance(event, h2.events.TrailersReceived):
            self._answers[event.stream_id].trailers = _decoded(event.headers)
            SESSION.note_status("\n".join(_decoded(event.headers).values()))
        elif isinstance(event, h2.events.DataReceived):
            self._answers[event.stream_id].body += event.data
            self._connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            self._answers[event.stream_id].ended = True
        elif isinstance(event, h2.events.StreamReset):
            self._answers[event.stream_id].reset = int(event.error_code)
        elif isinstance(event, h2.events.ConnectionTerminated):
            self.is_closed = True


def _decoded(headers: object) -> dict[str, str]:
    assert isinstance(headers, list)
    return {str(name): str(value) for name, value in headers}
