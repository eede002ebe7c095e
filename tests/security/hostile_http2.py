# SPDX-License-Identifier: Apache-2.0
"""HTTP/2 frames made by hand, for clients that mean harm."""

import contextlib
import socket
import struct
import time
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import hpack

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, END_HEADERS, ACK = 1, 4, 1
INITIAL_WINDOW_SIZE = 4
ENHANCE_YOUR_CALM = 11
SEND_TIMEOUT_S = 30


def frame(kind: int, payload: bytes = b"", *, flags: int = 0, stream: int = 0) -> bytes:
    """Return one frame."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def block(headers: Iterable[tuple[str, str]]) -> bytes:
    """Return a header block that needs no table."""
    encoded: bytes = hpack.Encoder().encode(list(headers), huffman=False)
    return encoded


@dataclass
class End:
    """How the server ended a connection. error_code: of GOAWAY, None without one."""

    error_code: int | None = None


class HostileClient:
    """One connection on which anything may be sent. What comes back is thrown away, but for GOAWAY."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), SEND_TIMEOUT_S)
        self.end: End | None = None
        self._received = b""
        self._error_code: int | None = None

    def __enter__(self) -> Self:
        """Return the client."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the socket."""
        self.socket.close()

    def greet(self, settings: bytes = b"") -> None:
        """Send the preface, as a good client does."""
        self.send(PREFACE + frame(SETTINGS, settings))

    def send(self, data: bytes) -> bool:
        """Send, reading what comes meanwhile. False once the server has ended the connection."""
        view = memoryview(data)
        deadline = time.monotonic() + SEND_TIMEOUT_S
        self.socket.settimeout(0)
        while view and self.end is None and time.monotonic() < deadline:
            with contextlib.suppress(BlockingIOError):
                try:
                    view = view[self.socket.send(view) :]
                except (ConnectionResetError, BrokenPipeError):
                    self._finish()
            self._read()
        return self.end is None

    def wait_for_end(self, timeout_s: float) -> End | None:
        """Wait until the server ends the connection; None when it does not."""
        deadline = time.monotonic() + timeout_s
        self.socket.settimeout(0)
        while self.end is None and time.monotonic() < deadline:
            self._read()
            time.sleep(0.01)
        return self.end

    def _read(self) -> None:
        try:
            data = self.socket.recv(1 << 16)
        except BlockingIOError:
            return
        except ConnectionResetError:
            data = b""
        if not data:
            self._finish()
            return
        self._received += data
        while len(self._received) >= 9:
            length, kind = int.from_bytes(self._received[:3]), self._received[3]
            if len(self._received) < 9 + length:
                return
            if kind == GOAWAY:
                self._error_code = int.from_bytes(self._received[13:17])
            self._received = self._received[9 + length :]

    def _finish(self) -> None:
        self.end = End(self._error_code)
