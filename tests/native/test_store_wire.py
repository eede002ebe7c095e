# SPDX-License-Identifier: Apache-2.0
"""The store's protocol over a connection that cuts, mixes up or breaks what passes."""

import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from native.records import TENANT, new_id, request
from quota.engine_calls import catalogue

from harness.ledger_rows import rows_of_partition
from harness.store_process import StoreProcess
from taximeter.v1 import metering_service_pb2 as pb
from taximeter_server import _native
from taximeter_server.limits import Limits
from taximeter_server.tenants import Tenant

PASSWORD = "of wire tests"  # noqa: S105 (of a store that lives as long as a test)
DATABASE = 3
RECORD_COUNT = 30
OPEN_TIMEOUT_MS = 10_000

Forward = Callable[[bytes], Iterator[bytes]]


class Wire:
    """Passes bytes between engines and a store; what comes from the store goes through `forward`."""

    def __init__(self, store_path: Path) -> None:
        self.forward: Forward = whole
        self._store_path = store_path
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                caller, _ = self._listener.accept()
            except OSError:
                return
            caller.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            store = socket.socket(socket.AF_UNIX)
            store.connect(str(self._store_path))
            self._sockets += [caller, store]
            threading.Thread(target=self._pass, args=(caller, store, whole), daemon=True).start()
            replies = (store, caller, self._forward)
            threading.Thread(target=self._pass, args=replies, daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, forward: Forward) -> None:
        try:
            while data := source.recv(65_536):
                for part in forward(data):
                    target.sendall(part)
        except OSError:
            pass
        for end in (source, target):
            end.close()

    def _forward(self, data: bytes) -> Iterator[bytes]:
        """Look up for each piece how to pass it."""
        return self.forward(data)

    def cut(self) -> None:
        """Break every connection."""
        for end in self._sockets:
            # Shut down first: another thread waits on it.
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
        self._sockets.clear()

    def close(self) -> None:
        """Stop."""
        self._listener.close()
        self.cut()


def whole(data: bytes) -> Iterator[bytes]:
    """Pass everything as it comes."""
    yield data


def crumbs(data: bytes) -> Iterator[bytes]:
    """Pass single bytes of what is short, odd pieces of what is long."""
    size = 1 if len(data) < 200 else 7
    for at in range(0, len(data), size):
        yield data[at : at + size]
        time.sleep(0.0002)


@pytest.fixture
def wire() -> Iterator[Wire]:
    """Yield a wire to a store with a password."""
    with (
        tempfile.TemporaryDirectory(prefix="tx") as directory,
        StoreProcess(Path(directory) / "store") as store,
    ):
        store.client().config_set("requirepass", PASSWORD)
        found = Wire(store.socket_path)
        yield found
        found.close()


@pytest.fixture
def engine(wire: Wire, tmp_path: Path) -> Iterator[_native.Engine]:
    """Yield an open engine behind the wire."""
    password = PASSWORD.replace(" ", "%20")
    found = _native.Engine(
        store_url=f"redis://:{password}@127.0.0.1:{wire.port}/{DATABASE}",
        journal_dir=str(tmp_path / "journal"),
        exclusive_store=True,
    )
    found.open(archived_ids=["0-0"] * _native.PARTITION_COUNT, timeout_ms=OPEN_TIMEOUT_MS)
    found.set_catalogue(catalogue())
    yield found
    found.close()


def record(engine: _native.Engine, record_id: str) -> pb.RecordResponse:
    """Record ten tokens."""
    return pb.RecordResponse.FromString(engine.record(request(record_id)))


def is_allowed(engine: _native.Engine) -> bool:
    """Ask for a decision."""
    asked = pb.CheckQuotaRequest(tenant=TENANT).SerializeToString()
    answer = pb.CheckQuotaResponse.FromString(engine.check_quota(asked))
    return answer.decision == pb.DECISION_ALLOW


def ledger_ids(engine: _native.Engine) -> list[str]:
    """Return the record ids in the streams, in order."""
    ids: list[str] = []
    for partition in range(_native.PARTITION_COUNT):
        ids += dict.fromkeys(rows_of_partition(engine, partition)["record_id"].to_pylist())
    return ids


def test_replies_in_pieces(wire: Wire, engine: _native.Engine) -> None:
    """Replies that come byte by byte, long arrays included, read as if they came at once."""
    wire.forward = crumbs
    engine.put_limits([Tenant(name=TENANT, limits=Limits(requests_per_minute=1_000))])
    ids = [new_id() for _ in range(RECORD_COUNT)]
    for record_id in ids:
        answer = record(engine, record_id)
        assert (answer.durability, answer.duplicate) == (pb.DURABILITY_COMMITTED, False)
        assert [limit.maximum for limit in answer.limits] == [1_000]
    assert record(engine, ids[0]).duplicate
    assert is_allowed(engine)
    assert ledger_ids(engine) == ids


@pytest.mark.parametrize(
    "nonsense",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"$9999999999\r\n",
        b"*1\r\n*1\r\n-ERR no\r\n",
        b":no\r\n",
        b"$2\r\nabcd",
    ],
    ids=["another protocol", "huge", "error within an array", "no number", "wrong size"],
)
def test_nonsense_is_an_outage(wire: Wire, engine: _native.Engine, nonsense: bytes) -> None:
    """A store that answers what is no reply counts as away: records are journaled, and applied on its return."""
    assert record(engine, new_id()).durability == pb.DURABILITY_COMMITTED
    wire.forward = lambda _: iter([nonsense])
    with pytest.raises(_native.RpcError):
        is_allowed(engine)
    while_away = new_id()
    assert record(engine, while_away).durability == pb.DURABILITY_JOURNALED
    wire.forward = whole
    wire.cut()
    check_is_back(engine, while_away)


def test_connection_cut_between_command_and_reply(wire: Wire, engine: _native.Engine) -> None:
    """A command whose reply was lost is neither lost nor doubled."""

    def cut_once(_: bytes) -> Iterator[bytes]:
        wire.forward = whole
        wire.cut()
        return iter(())

    assert is_allowed(engine)
    wire.forward = cut_once
    in_doubt = new_id()
    assert record(engine, in_doubt).durability == pb.DURABILITY_JOURNALED
    check_is_back(engine, in_doubt)
    assert record(engine, in_doubt).duplicate
    assert ledger_ids(engine) == [in_doubt]


def check_is_back(engine: _native.Engine, record_id: str) -> None:
    """The store serves again, and has the record that was accepted without it."""
    deadline = time.monotonic() + 10
    while not engine.status()["store_available"] or engine.status()["journal_pending_records"]:
        assert time.monotonic() < deadline, "the store is still away"
        time.sleep(0.01)
    assert is_allowed(engine)
    assert ledger_ids(engine).count(record_id) == 1
