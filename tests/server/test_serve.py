# SPDX-License-Identifier: Apache-2.0
"""The server as a whole: it starts, stops, dies and comes back in order."""

import asyncio
import os
import signal
import socket
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from server.api import Api, connect, put_tenant, record_request
from server.stopped_clock import StoppedClock
from server.waiting import eventually

from harness.server_process import ServerFailedError, ServerProcess
from taximeter.v1 import (
    access_service_pb2,
    metering_service_pb2,
    operations_service_pb2,
    rate_card_service_pb2,
    tenant_service_pb2,
)
from taximeter_server.config import Config
from taximeter_server.data_directory import DataDirectory
from taximeter_server.embedded_store import EmbeddedStore
from taximeter_server.serve import serve

STOP_SECONDS_MAX = 15
RETURN_SECONDS_MAX = 5
FreshServer = Callable[..., ServerProcess]

WHO_AM_I = access_service_pb2.WhoAmIRequest()


def exists(pid: int) -> bool:
    """Say whether a process runs. One that has ended and is waited for by nobody is a name only."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def limit_tenant(api: Api, name: str) -> None:
    """Allow a tenant 7 requests per minute."""
    put_tenant(api, name, requests_per_minute=7)


def maximum(api: Api, name: str) -> list[int]:
    """Return the maxima in force for a tenant."""
    request = tenant_service_pb2.GetQuotaStatusRequest(tenant=name)
    return [limit.maximum for limit in api.call(api.tenants.GetQuotaStatus, request).limits]


def store_answers(api: Api) -> bool:
    """Say whether the server says that its store answers."""
    request = operations_service_pb2.GetServerStatusRequest()
    return bool(api.call(api.operations.GetServerStatus, request).store_available)


@pytest.fixture
def shared_store(tmp_path: Path) -> Iterator[EmbeddedStore]:
    """A store that is nobody's child here, for servers that are told to use it."""
    with DataDirectory(tmp_path / "shared", runtime_parent=tmp_path) as directory:
        store = EmbeddedStore(directory=directory.store, socket_path=directory.socket_path("store.sock"))
        store.start()
        try:
            yield store
        finally:
            store.stop()


def test_composition_root_runs_on_a_clock_and_a_stop_event(tmp_path: Path, clock: StoppedClock) -> None:
    """serve() takes its clock, port and stop signal as arguments, and leaves nothing behind."""
    config = Config(data=tmp_path / "data", listen="127.0.0.1:0", runtime_parent=tmp_path)

    async def run() -> int:
        stop = asyncio.Event()
        addresses: asyncio.Queue[str] = asyncio.Queue()
        server = asyncio.create_task(serve(config, clock=clock, stop=stop, on_serving=addresses.put_nowait))
        address = await asyncio.wait_for(addresses.get(), 30)
        key = (tmp_path / "data" / "admin.key").read_text().strip()
        with connect(address, key) as api:
            request = operations_service_pb2.GetServerStatusRequest()
            answer = await asyncio.to_thread(api.call, api.operations.GetServerStatus, request)
        stop.set()
        await server
        return int(answer.start_time.ToMilliseconds())

    threads_before = set(threading.enumerate())
    assert asyncio.run(run()) == clock.now_ms
    assert not (tmp_path / "data" / "address").exists()
    assert list((tmp_path / "data" / "run").iterdir()) == []
    left = {thread.name for thread in set(threading.enumerate()) - threads_before}
    assert left.isdisjoint({"archiver", "catalogue", "embedded-store"})


def test_everything_in_the_directory_is_private(fresh_server: FreshServer) -> None:
    """Files, folders and sockets of a running server are its user's alone."""
    server = fresh_server()
    modes = {path: path.lstat().st_mode for path in server.data_dir.rglob("*")}

    assert {path.name for path in modes} >= {"admin.key", "address", "rpc.sock", "store.sock"}
    assert [str(path) for path, mode in modes.items() if stat.S_IMODE(mode) & 0o077] == []
    assert (server.data_dir / "address").read_text() == f"{server.address}\n"


def test_sigterm_stops_in_order(fresh_server: FreshServer) -> None:
    """SIGTERM ends server and store with status 0 within 15 s, and nothing that was put is lost."""
    server = fresh_server()
    store_pid = server.store_pid
    with connect(server.address, server.admin_key) as api:
        limit_tenant(api, "acme")
    started_at = time.monotonic()

    assert server.stop() == 0
    assert time.monotonic() - started_at < STOP_SECONDS_MAX
    assert not exists(store_pid)
    server.start()
    with connect(server.address, server.admin_key) as api:
        assert maximum(api, "acme") == [7]


def test_calls_in_flight_survive_sigterm(fresh_server: FreshServer) -> None:
    """A call that was accepted before SIGTERM is answered; later ones are refused as unavailable."""
    server = fresh_server()
    failures: list[grpc.StatusCode] = []
    stopping = threading.Event()

    def call_on(api: Api) -> int:
        count = 0
        while True:
            try:
                api.call(api.access.WhoAmI, WHO_AM_I)
            except grpc.RpcError as error:
                failures.append(error.code())
                return count
            count += 1

    with connect(server.address, server.admin_key) as api, ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(call_on, api) for _ in range(4)]
        time.sleep(0.5)
        stopping.set()
        assert server.stop() == 0
        counts = [call.result() for call in calls]

    assert all(counts)
    assert set(failures) == {grpc.StatusCode.UNAVAILABLE}


def test_sigint_is_a_clean_stop_too(fresh_server: FreshServer) -> None:
    """Ctrl-C stops the server, which then stops its store; the store does not hear of it before."""
    server = fresh_server()
    store_pid = server.store_pid
    assert os.getpgid(store_pid) == store_pid
    server.process.send_signal(signal.SIGINT)

    assert server.process.wait(STOP_SECONDS_MAX) == 0
    assert not exists(store_pid)


def test_killed_server_is_back_within_5_seconds(fresh_server: FreshServer) -> None:
    """After SIGKILL no store is left over, and a restart serves the same data."""
    server = fresh_server()
    for name in ("a", "b", "c"):
        with connect(server.address, server.admin_key) as api:
            limit_tenant(api, name)
        store_pid = server.store_pid
        server.kill()
        server.start(timeout_s=RETURN_SECONDS_MAX)

        assert not exists(store_pid)
        with connect(server.address, server.admin_key) as api:
            assert maximum(api, name) == [7]


def test_server_and_store_killed_together_come_back(fresh_server: FreshServer) -> None:
    """SIGKILL of both at once loses nothing that was answered."""
    server = fresh_server()
    with connect(server.address, server.admin_key) as api:
        limit_tenant(api, "acme")
    os.kill(server.store_pid, signal.SIGKILL)
    server.kill()
    server.start(timeout_s=RETURN_SECONDS_MAX)

    with connect(server.address, server.admin_key) as api:
        assert maximum(api, "acme") == [7]


def test_killed_store_is_back_within_5_seconds(fresh_server: FreshServer) -> None:
    """After SIGKILL of the store the server goes on with a new one by itself."""
    server = fresh_server()
    with connect(server.address, server.admin_key) as api:
        limit_tenant(api, "acme")
        before = server.store_pid
        server.kill_store()

        assert eventually(lambda: server.process.poll() is None and _is_metered(api), RETURN_SECONDS_MAX)
        assert server.store_pid != before
        assert store_answers(api)
        assert maximum(api, "acme") == [7]


def test_second_server_on_a_directory_is_refused(fresh_server: FreshServer) -> None:
    """Two servers never share a data directory; the second says who has it and exits with 1."""
    server = fresh_server()
    with pytest.raises(ServerFailedError, match=f"in use by taximeter-server with pid {server.process.pid}"):
        ServerProcess(server.data_dir).start()

    with connect(server.address, server.admin_key) as api:
        assert store_answers(api)


def test_second_server_on_a_port_is_refused(fresh_server: FreshServer, tmp_path: Path) -> None:
    """Two servers never share a port; the second says so, exits with 1 and leaves no store behind."""
    server = fresh_server()
    other = ServerProcess(tmp_path / "other", listen=server.address)
    with pytest.raises(
        ServerFailedError, match=rf"(?s)exited with 1 .*cannot listen on {server.address}"
    ) as caught:
        other.start()

    assert "in use" in str(caught.value)
    assert not list((tmp_path / "other" / "run").iterdir())


def test_debian_store_binary_serves(fresh_server: FreshServer) -> None:
    """--store-binary embeds another engine, such as Debian's Redis 7.0."""
    server = fresh_server(arguments=["--store-binary", "/usr/bin/redis-server"])
    with connect(server.address, server.admin_key) as api:
        limit_tenant(api, "acme")
        request = operations_service_pb2.GetServerStatusRequest()
        version = api.call(api.operations.GetServerStatus, request).store_version

        assert version.startswith("redis 7.0")
        assert maximum(api, "acme") == [7]


def test_data_directory_with_a_long_path_serves(fresh_server: FreshServer, tmp_path: Path) -> None:
    """A path too long for a socket is no obstacle, and what stood elsewhere is removed again."""
    runtime = tmp_path / "runtime"
    runtime.mkdir(mode=0o700)
    server = fresh_server(tmp_path / ("d" * 150), environment={"XDG_RUNTIME_DIR": str(runtime)})
    with connect(server.address, server.admin_key) as api:
        assert store_answers(api)
    server.stop()

    assert [path for path in runtime.iterdir() if any(path.iterdir())] == []


def test_store_goes_to_one_ledger(
    fresh_server: FreshServer, shared_store: EmbeddedStore, tmp_path: Path
) -> None:
    """A server whose ledger is not the store's is refused and says how to name the right one."""
    fresh_server(
        environment={"TAXIMETER_STORE": shared_store.url, "TAXIMETER_LEDGER": str(tmp_path / "ledger")}
    )
    other = ServerProcess(tmp_path / "other", environment={"TAXIMETER_STORE": shared_store.url})

    with pytest.raises(ServerFailedError, match="--ledger"):
        other.start()


def test_two_instances_on_one_store_agree(
    fresh_server: FreshServer, shared_store: EmbeddedStore, tmp_path: Path
) -> None:
    """What one instance changes, the other obeys within a second: keys, cards and limits."""
    environment = {"TAXIMETER_STORE": shared_store.url, "TAXIMETER_LEDGER": str(tmp_path / "ledger")}
    first = fresh_server(environment=environment)
    second = fresh_server(environment=environment)
    assert not (second.data_dir / "admin.key").exists()
    with connect(first.address, first.admin_key) as one, connect(second.address, first.admin_key) as two:
        limit_tenant(one, "acme")
        assert maximum(two, "acme") == [7]

        key = access_service_pb2.Key(role=access_service_pb2.ROLE_READ)
        created = one.call(one.access.CreateKey, access_service_pb2.CreateKeyRequest(key=key))
        caller = two.with_key(created.secret)
        assert eventually(lambda: _is_accepted(caller), 1)
        one.call(one.access.RevokeKey, access_service_pb2.RevokeKeyRequest(key_id=created.key.key_id))
        assert eventually(lambda: not _is_accepted(caller), 1)

        card = 'billing:\n  rate_card:\n    "gpt-5":\n      input: "1"\n      output: "1"\n'
        one.call(one.rate_cards.PublishRateCard, rate_card_service_pb2.PublishRateCardRequest(yaml=card))
        assert eventually(lambda: _timeline_version(two) == 2, 1)


def _is_accepted(api: Api) -> bool:
    try:
        api.call(api.access.WhoAmI, WHO_AM_I)
    except grpc.RpcError:
        return False
    return True


def _is_metered(api: Api) -> bool:
    request = record_request("acme", "k" * 16, tokens=1)
    try:
        answer = api.call(api.metering.Record, request)
    except grpc.RpcError:
        return False
    return bool(answer.durability == metering_service_pb2.DURABILITY_COMMITTED)


def _timeline_version(api: Api) -> int:
    request = operations_service_pb2.GetServerStatusRequest()
    return int(api.call(api.operations.GetServerStatus, request).rate_card_version)


@pytest.fixture
def volatile_store(tmp_path: Path) -> Iterator[str]:
    """The URL of a store with the engine's own defaults: nothing is kept."""
    socket_path = tmp_path / "v.sock"
    command = [
        "redis-server",
        "--port",
        "0",
        "--unixsocket",
        str(socket_path),
        "--save",
        "",
        "--dir",
        str(tmp_path),
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        assert eventually(socket_path.exists, 10)
        yield f"unix://{socket_path}"
        process.terminate()


def test_unsafe_store_is_refused_unless_accepted(
    fresh_server: FreshServer, tmp_path: Path, volatile_store: str
) -> None:
    """A store that could lose records is refused by its setting's name; accepted, every OK says VOLATILE."""
    refused = ServerProcess(tmp_path / "refused", arguments=["--store", volatile_store])
    with pytest.raises(ServerFailedError, match=r"appendonly is no and not yes"):
        refused.start()

    server = fresh_server(arguments=["--store", volatile_store, "--allow-volatile"])
    request = record_request("acme", "r" * 16, tokens=1)
    with connect(server.address, server.admin_key) as api:
        answer = api.call(api.metering.Record, request)

    assert answer.durability == metering_service_pb2.DURABILITY_VOLATILE


def test_store_that_is_not_there_is_reported(tmp_path: Path) -> None:
    """A server whose store does not answer says so and exits with 1."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"redis://:hunter2@127.0.0.1:{unused.getsockname()[1]}"
        server = ServerProcess(tmp_path / "data", environment={"TAXIMETER_STORE": url})
        with pytest.raises(ServerFailedError, match=r"(?s)exited with 1 .*the store does not answer"):
            server.start()

    assert "hunter2" not in server.log


def test_log_is_json_without_a_terminal(fresh_server: FreshServer) -> None:
    """Every line of a server whose output is collected is one JSON object, and none holds a key."""
    import json  # noqa: PLC0415 (only here)

    server = fresh_server()
    server.stop()
    events = [json.loads(line)["event"] for line in server.log.splitlines()]

    assert [event for event in events if event.startswith("serving on ")] == [events[-3]]
    assert events[-2:] == ["stopping", "stopped"]
    assert server.admin_key.split("_")[2] not in server.log
