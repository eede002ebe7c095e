# SPDX-License-Identifier: Apache-2.0
"""A TCP link to the real server that loses what a test wants lost: connections, answers, single answers of a batch.

It reads HTTP/2 frame headers and little more, so that it can count the calls that pass and cut the link exactly where
an answer begins: the server has done its work, and the client cannot know.
"""

import contextlib
import socket
import threading
from collections.abc import Iterator

from google.rpc import code_pb2

from taximeter.v1 import metering_service_pb2

_PREFACE_BYTES = len(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
_FRAME_HEADER_BYTES = 9
_DATA_FRAME, _HEADERS_FRAME = 0, 1
_MESSAGE_HEADER_BYTES = 5


class FaultyLink:
    """Forwards connections to `target`, "host:port", until it is told to lose something."""

    def __init__(self, target: str) -> None:
        """Listens on a port of its own."""
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = set()
        self.answers_to_lose = 0
        self.connections_to_refuse = 0
        self.items_to_lose: frozenset[int] = frozenset()
        self.call_count = 0
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self) -> str:
        """Where the link begins, "host:port"."""
        host, port = self._listener.getsockname()
        return f"{host}:{port}"

    def cut(self) -> None:
        """Cuts every connection."""
        for end in list(self._open):
            self._shut(end)

    def close(self) -> None:
        """Cuts every connection and takes no more."""
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.connections_to_refuse:
                self.connections_to_refuse -= 1
                client.close()
                continue
            server = socket.create_connection(self._target)
            self._open |= {client, server}
            for source, sink, preface in ((client, server, _PREFACE_BYTES), (server, client, 0)):
                threading.Thread(target=self._forward, args=(source, sink, preface), daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket, preface_bytes: int) -> None:
        from_client = preface_bytes > 0
        with contextlib.suppress(OSError), source.makefile("rb") as stream:
            sink.sendall(stream.read(preface_bytes))
            for kind, frame in _frames(stream):
                if kind == _HEADERS_FRAME and from_client:
                    self.call_count += 1
                elif kind == _HEADERS_FRAME and self.answers_to_lose:
                    self.answers_to_lose -= 1
                    break
                if kind == _DATA_FRAME and not from_client and self.items_to_lose:
                    frame = _without(frame, self.items_to_lose)  # noqa: PLW2901 (the same frame, as it goes on)
                    self.items_to_lose = frozenset()
                sink.sendall(frame)
        for end in (source, sink):
            self._shut(end)

    def _shut(self, end: socket.socket) -> None:
        self._open.discard(end)
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()


def _frames(stream: object) -> Iterator[tuple[int, bytes]]:
    """Yields the frames of one direction: type and bytes."""
    read = stream.read  # type: ignore[attr-defined]
    while len(header := read(_FRAME_HEADER_BYTES)) == _FRAME_HEADER_BYTES:
        yield header[3], header + read(int.from_bytes(header[:3]))


def _without(frame: bytes, items: frozenset[int]) -> bytes:
    """Put UNAVAILABLE in the place of some results of a RecordBatchResponse, which is one frame."""
    message = frame[_FRAME_HEADER_BYTES + _MESSAGE_HEADER_BYTES :]
    answer = metering_service_pb2.RecordBatchResponse.FromString(message)
    for item in items:
        answer.results[item].Clear()
        answer.results[item].error.code = code_pb2.UNAVAILABLE
    changed = answer.SerializeToString()
    body = b"\0" + len(changed).to_bytes(_MESSAGE_HEADER_BYTES - 1) + changed
    return len(body).to_bytes(3) + frame[3:_FRAME_HEADER_BYTES] + body
