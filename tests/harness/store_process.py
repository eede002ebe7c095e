# SPDX-License-Identifier: Apache-2.0
"""A store that a test runs itself: on its own settings, to be killed, stopped and cut at will."""

import os
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis

from taximeter_server.embedded_store import find_store_binary

START_TIMEOUT_S = 10
DEBIAN_REDIS = Path("/usr/bin/redis-server")
_POLL_S = 0.01
_SETTINGS = {
    "appendonly": "yes",
    "appendfsync": "everysec",
    "maxmemory-policy": "noeviction",
    "save": "",
    "daemonize": "no",
    "aof-load-truncated": "yes",
}


class StoreProcess:
    """A Valkey or Redis on a Unix socket, and on a port where one is named. The directory stays."""

    def __init__(
        self,
        directory: Path,
        *,
        binary: Path | None = None,
        port: int = 0,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """directory: short, because the socket lies in it. settings: in place of the safe ones."""
        self.directory = directory
        self.socket_path = directory / "store.sock"
        self.url = f"unix://{self.socket_path}" if port == 0 else f"redis://127.0.0.1:{port}"
        self._binary = find_store_binary() if binary is None else binary
        self._settings = _SETTINGS | {"port": str(port)} | dict(settings or {})
        self._process: subprocess.Popen[bytes] | None = None

    def client(self) -> Any:
        """Return a client of its own connections."""
        return redis.Redis(unix_socket_path=str(self.socket_path), socket_timeout=5)

    def start(self) -> Self:
        """Start and wait until it serves. Raises AssertionError."""
        self.directory.mkdir(mode=0o700, exist_ok=True)
        command = [str(self._binary), "--dir", str(self.directory), "--unixsocket", str(self.socket_path)]
        for name, value in self._settings.items():
            command += [f"--{name}", value]
        with (self.directory / "store.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + START_TIMEOUT_S
        with self.client() as client:
            while True:
                assert self._process.poll() is None, (self.directory / "store.log").read_text()[-2000:]
                assert time.monotonic() < deadline, "the store does not serve"
                try:
                    client.ping()
                except redis.RedisError:
                    time.sleep(_POLL_S)
                else:
                    return self

    @property
    def pid(self) -> int:
        """Process id of the running store."""
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """Kill -9."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Let it write out what it holds, and end."""
        self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.send_signal(signal.SIGCONT)
            self._process.wait(START_TIMEOUT_S)
            self._process = None

    def freeze(self) -> None:
        """Stop it where it is: connections stay open and nothing is answered."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen one go on."""
        os.kill(self.pid, signal.SIGCONT)

    def file_size_bytes(self) -> int:
        """Return the length of the append-only file's newest increment, with all that was written so far."""
        return self._newest().stat().st_size

    def cut(self, size_bytes: int) -> None:
        """Shorten the append-only file of a killed store."""
        os.truncate(self._newest(), size_bytes)

    def _newest(self) -> Path:
        files = (self.directory / "appendonlydir").glob("*.incr.aof")
        return max(files, key=lambda path: int(path.name.split(".")[-3]))

    def __enter__(self) -> Self:
        """Start, unless it runs already."""
        return self if self._process is not None else self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Kill what still runs."""
        self.kill()
