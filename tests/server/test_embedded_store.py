# SPDX-License-Identifier: Apache-2.0
"""The embedded store: one per directory, never outliving its server, back at once when killed."""

import contextlib
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from server.waiting import eventually

from harness.stepped_clock import running_clock
from taximeter_server import embedded_store
from taximeter_server.data_directory import DataDirectory
from taximeter_server.embedded_store import EmbeddedStore, find_store_binary
from taximeter_server.errors import StoreStartError

_RESTART_SECONDS_MAX = 5

_HOLD_A_STORE = """
import sys, time
from pathlib import Path
from taximeter_server.data_directory import DataDirectory
from taximeter_server.embedded_store import EmbeddedStore
with DataDirectory(Path(sys.argv[1]), runtime_parent=Path(sys.argv[1]).parent) as directory:
    store = EmbeddedStore(directory=directory.store, socket_path=directory.socket_path("store.sock"))
    store.start()
    print("pid", store.pid, flush=True)
    time.sleep(600)
"""


def is_running(pid: int) -> bool:
    """Say whether the process exists and is no zombie."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


@contextlib.contextmanager
def connect(store: EmbeddedStore) -> Iterator[redis.Redis]:
    """Yield a client of the store."""
    client = redis.Redis.from_url(store.url, decode_responses=True, retry=None)
    with contextlib.closing(client):
        yield client


def answers(store: EmbeddedStore) -> bool:
    """Say whether the store answers PING."""
    with connect(store) as client:
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False


@contextlib.contextmanager
def server_process(directory: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Yield a process that owns directory and a store, and the store's pid."""
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLD_A_STORE, str(directory)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        line = next(line for line in process.stdout if line.startswith("pid "))
        yield process, int(line.removeprefix("pid "))
    finally:
        process.kill()
        process.communicate()


def open_store(directory: DataDirectory, binary: Path | None = None) -> EmbeddedStore:
    """Return a store on the directory, not yet started."""
    return EmbeddedStore(
        directory=directory.store, socket_path=directory.socket_path("store.sock"), binary=binary
    )


def store_binaries() -> list[Path]:
    """Return every engine on this machine that must work."""
    debian = shutil.which("redis-server")
    return [find_store_binary(), *([Path(debian)] if debian else [])]


@pytest.mark.parametrize("binary", store_binaries(), ids=lambda path: path.name)
def test_both_engines_take_our_settings(data_directory: DataDirectory, binary: Path) -> None:
    """Valkey and Redis run with our durability settings, on a socket that only we can reach."""
    store = open_store(data_directory, binary)
    store.start()
    try:
        with connect(store) as client:
            settings = client.config_get("*")
        socket_mode = stat.S_IMODE(data_directory.socket_path("store.sock").stat().st_mode)
    finally:
        store.stop()

    expected = {
        "appendonly": "yes",
        "appendfsync": "everysec",
        "no-appendfsync-on-rewrite": "no",
        "auto-aof-rewrite-min-size": str(256 * 2**20),
        "rdbcompression": "no",
        "maxmemory-policy": "noeviction",
        "hash-max-listpack-entries": "512",
        "port": "0",
        "save": "",
        "enable-debug-command": "no",
    }
    assert expected == {name: settings[name] for name in expected}
    assert socket_mode == 0o600


@pytest.mark.parametrize("binary", [None, find_store_binary()], ids=["ours", "named"])
def test_store_that_nobody_named_has_our_allocator(
    data_directory: DataDirectory, binary: Path | None
) -> None:
    """It stands in for the C library's, also after a restart; a binary of the user's own keeps its own."""
    store = open_store(data_directory, binary)
    store.start()

    def libraries() -> str:
        pid = store.pid
        return Path(f"/proc/{pid}/maps").read_text() if pid and is_running(pid) and answers(store) else ""

    try:
        before, pid = libraries(), store.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        assert eventually(lambda: store.pid not in {None, pid} and libraries() != "", _RESTART_SECONDS_MAX)
        after = libraries()
    finally:
        store.stop()
    for found in (before, after):
        assert "libc.so" in found
        assert ("store-allocator" in found) == (binary is None)


def test_what_the_user_preloads_goes_without_our_allocator(
    data_directory: DataDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store whose clock is another library's keeps that library, and starts."""
    for name, value in running_clock(speed=1000).items():
        monkeypatch.setenv(name, value)
    store = open_store(data_directory)
    store.start()
    try:
        libraries = Path(f"/proc/{store.pid}/maps").read_text()
    finally:
        store.stop()
    assert "store-allocator" not in libraries
    assert "libfaketime" in libraries


def test_data_survives_a_clean_stop(data_directory: DataDirectory) -> None:
    """What was written before stop() is there after the next start()."""
    for expected in (None, "1"):
        store = open_store(data_directory)
        store.start()
        with connect(store) as client:
            found = client.get("a")
            client.set("a", "1")
        store.stop()

        assert expected == found


def test_store_files_are_private(data_directory: DataDirectory) -> None:
    """Nothing that the store writes can be read by others."""
    store = open_store(data_directory)
    store.start()
    store.stop()

    modes = {path: path.stat().st_mode & 0o077 for path in data_directory.store.rglob("*")}
    assert modes
    assert set(modes.values()) == {0}


def test_killed_store_is_back_within_5_seconds(data_directory: DataDirectory) -> None:
    """After SIGKILL the store serves again, with its data, as another process, within 5 s."""
    store = open_store(data_directory)
    store.start()
    try:
        with connect(store) as client:
            client.set("a", "1")
        pid = store.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)

        assert eventually(lambda: store.pid not in {None, pid} and answers(store), _RESTART_SECONDS_MAX)
        with connect(store) as client:
            assert client.get("a") == "1"
    finally:
        store.stop()


def test_store_that_keeps_dying_is_restarted_less_and_less_often(
    data_directory: DataDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Restarts are immediate until there were too many; the next waits until the first of them is long ago."""
    monkeypatch.setattr(embedded_store, "RESTART_COUNT_MAX", 3)
    monkeypatch.setattr(embedded_store, "RESTART_PERIOD_SECONDS", 10)
    store = open_store(data_directory)
    store.start()
    restarted_at = []
    try:
        for number in range(4):
            pid = store.pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            limit_s = _RESTART_SECONDS_MAX if number < 3 else 12
            assert eventually(lambda: store.pid not in {None, pid} and answers(store), limit_s)  # noqa: B023
            restarted_at.append(time.monotonic())
        assert restarted_at[2] - restarted_at[0] < 9, "the first three were not immediate"
        assert restarted_at[3] - restarted_at[0] > 9
    finally:
        store.stop()


def test_store_dies_with_a_killed_server(tmp_path: Path) -> None:
    """SIGKILL of the server ends its store."""
    with server_process(tmp_path / "data") as (server, store_pid):
        assert is_running(store_pid)
        server.kill()
        server.wait()

        assert eventually(lambda: not is_running(store_pid), 5)


def test_leftover_store_is_stopped_before_the_next_starts(tmp_path: Path) -> None:
    """A store that hangs when its server is killed is ended by the next server, whose data is whole."""
    with server_process(tmp_path / "data") as (server, leftover_pid):
        password = (tmp_path / "data" / "store" / "operator.password").read_text().strip()
        client = redis.Redis(
            unix_socket_path=str(tmp_path / "data" / "run" / "store.sock"),
            username="operator",
            password=password,
        )
        client.set("a", "1")
        client.close()
        os.kill(leftover_pid, signal.SIGSTOP)
        server.kill()
        server.wait()
        assert is_running(leftover_pid)

        with DataDirectory(tmp_path / "data", runtime_parent=tmp_path) as directory:
            store = open_store(directory)
            store.start()
            try:
                assert not is_running(leftover_pid)
                with connect(store) as other:
                    assert other.get("a") == "1"
            finally:
                store.stop()


def test_store_outlives_the_thread_that_asked_for_it(data_directory: DataDirectory) -> None:
    """The store lives on when the thread that called start() has ended."""
    store = open_store(data_directory)
    thread = threading.Thread(target=store.start)
    thread.start()
    thread.join()
    try:
        pid = store.pid
        time.sleep(0.3)

        assert pid is not None
        assert pid == store.pid
        assert answers(store)
    finally:
        store.stop()


def test_corrupt_data_is_reported_with_the_stores_words(data_directory: DataDirectory) -> None:
    """A store that refuses its files is not restarted; the error shows what it wrote."""
    store = open_store(data_directory)
    store.start()
    with connect(store) as client:
        for number in range(100):
            client.set(f"key-{number}", "x" * 100)
    store.stop()
    file = next(data_directory.store.rglob("*.incr.aof"))
    content = file.read_bytes()
    file.write_bytes(content.replace(b"$100", b"\xff\xff\xff\xff", 1))

    with pytest.raises(StoreStartError, match="Bad file format reading the append only file"):
        open_store(data_directory).start()


def test_missing_binary_is_a_clear_error(data_directory: DataDirectory) -> None:
    """A store binary that does not exist fails the start."""
    with pytest.raises(StoreStartError, match="No such file"):
        open_store(data_directory, Path("/nonexistent/valkey-server")).start()


def test_hanging_store_is_killed_on_stop(data_directory: DataDirectory) -> None:
    """stop() ends a store that does not react within its time limit."""
    store = open_store(data_directory)
    store.start()
    pid = store.pid
    assert pid is not None
    blocker = threading.Thread(target=_block, args=(store,))
    blocker.start()
    time.sleep(0.2)
    started_at = time.monotonic()
    store.stop(timeout_ms=500)

    assert not is_running(pid)
    assert time.monotonic() - started_at < 5
    blocker.join()


def _block(store: EmbeddedStore) -> None:
    with connect(store) as client, contextlib.suppress(redis.RedisError):
        client.eval("redis.call('SET', 'a', 1) while true do end", 0)
