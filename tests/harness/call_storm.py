# SPDX-License-Identifier: Apache-2.0
"""Many callers of one unary method at once, each with one call in flight, faster than gRPC libraries in Python are.

Speaks just enough HTTP/2: requests are the same bytes but for the stream's id, and of an answer only the message is
read. An answer without one is a failed call.
"""

import selectors
import socket
import ssl
import struct
import time
from collections.abc import Callable

_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _ACK, _END_HEADERS = 1, 1, 4
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_FRAME_HEADER_SIZE = 9
_MESSAGE_PREFIX_SIZE = 5
_WINDOW_SIZE = 65_535
_WINDOW_SIZE_MAX = 2**31 - 1

OnAnswer = Callable[[bytes | None, float, float], None]
"""(message or None for a failed call, seconds of the monotonic clock when it was sent and when it came)"""


def _frame(kind: int, flags: int, stream_id: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream_id) + payload


def _literal(name: str, value: str) -> bytes:
    """Return a header without compression: never indexed, never Huffman-coded."""
    return bytes((0, len(name))) + name.encode() + bytes((len(value),)) + value.encode()


def headers_block(path: str, key: str) -> bytes:
    """Return the headers of a call; key: "" for a caller that a certificate names."""
    pairs = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        *([("authorization", f"Bearer {key}")] if key else []),
    ]
    return b"".join(_literal(name, value) for name, value in pairs)


class _Connection:
    """One connection with a number of callers."""

    def __init__(
        self, address: str, block: bytes, message: bytes, on_answer: OnAnswer, tls: ssl.SSLContext | None
    ) -> None:
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), 10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_hostname=host)
        self._block = block
        self._body = struct.pack(">BI", 0, len(message)) + message
        self._on_answer = on_answer
        self._next_stream_id = 1
        self._sent_at: dict[int, float] = {}
        self._messages: dict[int, bytes] = {}
        self._input = b""
        self._window = _WINDOW_SIZE
        self.answered = 0
        grow = _frame(_WINDOW_UPDATE, 0, 0, struct.pack(">I", _WINDOW_SIZE_MAX - _WINDOW_SIZE))
        self.socket.sendall(_PREFACE + _frame(_SETTINGS, 0, 0, b"") + grow)

    def calls(self, count: int) -> bytes:
        """Return the bytes of so many calls."""
        out = []
        for _ in range(count):
            stream_id = self._next_stream_id
            self._next_stream_id += 2
            self._window -= len(self._body)
            assert self._window > 0, "the server opens no room for requests"
            out.append(_frame(_HEADERS, _END_HEADERS, stream_id, self._block))
            out.append(_frame(_DATA, _END_STREAM, stream_id, self._body))
            self._sent_at[stream_id] = time.monotonic()
        return b"".join(out)

    def receive(self) -> int:
        """Read what has come; returns how many calls were answered."""
        data = self.socket.recv(1 << 18)
        assert data, "the server closed the connection"
        buffer, at, before = self._input + data, 0, self.answered
        while len(buffer) - at >= _FRAME_HEADER_SIZE:
            size = int.from_bytes(buffer[at : at + 3], "big")
            end = at + _FRAME_HEADER_SIZE + size
            if len(buffer) < end:
                break
            kind, flags = buffer[at + 3], buffer[at + 4]
            stream_id = int.from_bytes(buffer[at + 5 : at + 9], "big")
            self._note(kind, flags, stream_id, buffer[at + _FRAME_HEADER_SIZE : end])
            at = end
        self._input = buffer[at:]
        return self.answered - before

    def _note(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if kind == _DATA and payload:
            self._messages[stream_id] = payload[_MESSAGE_PREFIX_SIZE:]
        if kind in (_DATA, _HEADERS) and flags & _END_STREAM:
            sent_at = self._sent_at.pop(stream_id)
            self._on_answer(self._messages.pop(stream_id, None), sent_at, time.monotonic())
            self.answered += 1
        elif kind == _WINDOW_UPDATE and stream_id == 0:
            self._window += int.from_bytes(payload, "big")
        elif kind == _SETTINGS and not flags & _ACK:
            self.socket.sendall(_frame(_SETTINGS, _ACK, 0, b""))
        elif kind == _PING and not flags & _ACK:
            self.socket.sendall(_frame(_PING, _ACK, 0, payload))
        else:
            assert kind not in (_RST_STREAM, _GOAWAY), f"the server sent frame {kind}: {payload!r}"


def storm(
    address: str,
    block: bytes,
    message: bytes,
    *,
    connections: int,
    callers: int,
    is_over: Callable[[int], bool],
    on_answer: OnAnswer,
    tls: ssl.SSLContext | None = None,
) -> int:
    """Let callers spread over connections repeat the call until is_over(calls answered).

    Returns how many calls were answered; none is left open.
    """
    selector = selectors.DefaultSelector()
    made = [_Connection(address, block, message, on_answer, tls) for _ in range(connections)]
    for connection in made:
        selector.register(connection.socket, selectors.EVENT_READ, connection)
        connection.socket.sendall(connection.calls(callers // connections))
    in_flight, answered = callers // connections * connections, 0
    while in_flight:
        ready = selector.select(10)
        assert ready, "the server does not answer"
        for key, _ in ready:
            connection = key.data
            done = connection.receive()
            answered += done
            if is_over(answered):
                in_flight -= done
            elif done:
                connection.socket.sendall(connection.calls(done))
    for connection in made:
        connection.socket.close()
    selector.close()
    return answered
