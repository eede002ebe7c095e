# SPDX-License-Identifier: Apache-2.0
"""The real server as a child process, started as an operator starts it: `taximeter-server serve --data DIR`.

Used by the tests, the fault tests and the benchmarks. Linux only: processes are found in /proc.
"""

import contextlib
import os
import re
import signal
import subprocess
import sysconfig
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis

from harness.secret_scan import SESSION

START_TIMEOUT_S = 30
STOP_TIMEOUT_S = 30
_POLL_S = 0.02
_LOG_TAIL_LINES = 30
_SERVING = re.compile(r"serving on (\[?[^\s\"\\]+:\d+)")


class ServerFailedError(Exception):
    """The server did not come up, or did not go down. The message ends with the tail of its log."""


def scripts_directory() -> Path:
    """The folder with the console scripts of the interpreter that runs this."""
    return Path(sysconfig.get_path("scripts"))


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment without the user's own Taximeter settings, and with extra."""
    inherited = os.environ  # noqa: TID251 (what a child process inherits)
    kept = {name: value for name, value in inherited.items() if not name.startswith("TAXIMETER_")}
    return kept | dict(extra or {})


class ServerProcess:
    """One server on one data directory. Start, stop and kill as often as wanted; the data stays.

    As a context manager it starts the server and stops it in the end, whatever happened in between.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        listen: str = "127.0.0.1:0",
    ) -> None:
        """Name the server; start() starts it.

        arguments: further flags of `serve`. environment: further variables. listen: "host:port", 0 picks one.
        """
        self.data_dir = data_dir
        self.log_file = data_dir.with_name(f"{data_dir.name}.log")
        self._command = [str(scripts_directory() / "taximeter-server"), "serve", "--data", str(data_dir)]
        self._command += ["--listen", listen, *arguments]
        # Tests tell records apart by attributes.
        self._environment = clean_environment({"TAXIMETER_ATTRIBUTE_SETS": "100000", **(environment or {})})
        self._process: subprocess.Popen[bytes] | None = None
        self._address = ""

    @property
    def address(self) -> str:
        """The running server's "host:port"."""
        if not self._address:
            raise ServerFailedError("the server is not running")
        return self._address

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The running server."""
        if self._process is None:
            raise ServerFailedError("the server is not running")
        return self._process

    @property
    def is_running(self) -> bool:
        """Whether the server was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def admin_key(self) -> str:
        """The key that the server made at its first start, "tx_..."."""
        return (self.data_dir / "admin.key").read_text().strip()

    @property
    def client_environment(self) -> dict[str, str]:
        """An environment in which the client and the CLI find this server and its admin key."""
        return clean_environment({"TAXIMETER_URL": f"http://{self.address}", "TAXIMETER_KEY": self.admin_key})

    @property
    def log(self) -> str:
        """Everything that the server has written since the first start."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    @property
    def store_pid(self) -> int:
        """Process id of the embedded store, the server's only child."""
        children = _children(self.process.pid)
        if len(children) != 1:
            raise ServerFailedError(f"expected one child process, the store; found {children}")
        return children[0]

    def store_client(self) -> Any:
        """Return a client of the embedded store that may do everything."""
        directory = self.data_dir / "store"
        found = re.search(r'^unixsocket "(.*)"$', (directory / "store.conf").read_text(), re.MULTILINE)
        if found is None:
            raise ServerFailedError("the store's configuration names no socket")
        password = (directory / "operator.password").read_text().strip()
        return redis.Redis(
            unix_socket_path=found[1], username="operator", password=password, driver_info=None
        )

    def store_refusals(self) -> list[str]:
        """Return what the embedded store has refused to the server since it was started."""
        with self.store_client() as client:
            refused = client.acl_log()
        # What a client is called is an offer, and no part of what the server does.
        return [
            f"{entry['username']}: {entry['reason']} {entry['object']}"
            for entry in refused
            if entry["object"] != "client|setinfo"
        ]

    def start(self, *, timeout_s: float = START_TIMEOUT_S) -> Self:
        """Start and wait until the server says that it serves. Raises ServerFailedError after timeout_s."""
        if self.is_running:
            raise ServerFailedError("the server is running already")
        log_offset = self.log_file.stat().st_size if self.log_file.exists() else 0
        with self.log_file.open("ab") as log:
            process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._environment
            )
        self._process = process
        deadline = time.monotonic() + timeout_s
        while True:
            # What earlier runs have written does not count.
            with self.log_file.open("rb") as log:
                log.seek(log_offset)
                found = _SERVING.search(log.read().decode(errors="replace"))
            if found is not None:
                self._address = found[1]
                SESSION.note_server(self.log_file, self.data_dir)
                return self
            if process.poll() is not None:
                raise self._failed(f"exited with {process.returncode} while starting")
            if time.monotonic() > deadline:
                self.kill()
                raise self._failed(f"does not serve after {timeout_s} s")
            time.sleep(_POLL_S)

    def stop(self, *, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """Send SIGTERM, wait and return the exit status.

        Kills after timeout_s and raises ServerFailedError.
        """
        process = self.process
        process.send_signal(signal.SIGTERM)
        try:
            status = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise self._failed(f"did not stop within {timeout_s} s") from None
        self._forget()
        return status

    def kill(self) -> None:
        """Kill -9 the server, and nothing else: the store has to notice by itself."""
        process = self.process
        process.kill()
        process.wait()
        self._forget()

    def kill_store(self) -> None:
        """Kill -9 the embedded store; the server has to notice by itself."""
        os.kill(self.store_pid, signal.SIGKILL)

    def restart(self, *, timeout_s: float = START_TIMEOUT_S) -> Self:
        """Start again on the same data directory, after stopping the server where it still runs."""
        if self.is_running:
            self.stop()
        self._forget()
        return self.start(timeout_s=timeout_s)

    def __enter__(self) -> Self:
        """Start, unless it runs already."""
        return self if self.is_running else self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop, whatever happened."""
        if self.is_running:
            self.stop()

    def _forget(self) -> None:
        self._process = None
        self._address = ""

    def _failed(self, problem: str) -> ServerFailedError:
        tail = "\n".join(self.log.splitlines()[-_LOG_TAIL_LINES:])
        return ServerFailedError(f"the server {problem}; it wrote:\n{tail}")


def _children(pid: int) -> list[int]:
    """Return the living children of a process."""
    found = []
    for path in Path("/proc").iterdir():
        if not path.name.isdecimal():
            continue
        # A process that ends meanwhile is no child.
        with contextlib.suppress(OSError):
            # "PID (NAME) STATE PPID ...", where NAME may hold anything.
            state, parent_pid, *_ = (path / "stat").read_text().rpartition(")")[2].split()
            if int(parent_pid) == pid and state != "Z":
                found.append(int(path.name))
    return sorted(found)
