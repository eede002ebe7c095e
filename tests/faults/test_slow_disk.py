# SPDX-License-Identifier: Apache-2.0
"""A disk whose fsync takes long delays answers and loses nothing."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from faults.conftest import ApiOf
from faults.kill_loop import wait_until_settled

from harness.ledger_oracle import find_ledger_problems
from harness.load import Load, RecordMaker, Sent, Tally
from harness.server_process import ServerProcess
from harness.slow_disk import slow_fdatasync
from harness.store_process import StoreProcess
from taximeter.v1 import metering_service_pb2

NO_STRACE = "strace is missing or may not attach"


def test_record_in_line_for_the_journal_survives_the_loss_of_the_store(
    store_server: ServerProcess, store: StoreProcess, api_of: ApiOf
) -> None:
    """A record is not acknowledged as applied in a store that lost it while its note waited for the disk."""
    api = api_of(store_server)
    maker = RecordMaker("slow", ["acme"], seed=1)
    tally = Tally()
    lock = threading.Lock()

    def record(sent: Sent) -> None:
        request = metering_service_pb2.RecordRequest(record=sent.record)
        tally.sent[sent.seq] = sent
        try:
            answer = api.call(api.metering.Record, request)
        except grpc.RpcError:
            return
        with lock:
            tally.acknowledged[sent.seq] = answer.durability

    record(maker.make())
    before_bytes = store.file_size_bytes()
    with (
        slow_fdatasync(store_server.process.pid, delay_ms=500) as is_slow,
        ThreadPoolExecutor(10) as pool,
    ):
        if not is_slow:
            pytest.skip(NO_STRACE)
        # The first holds the disk; the others have been applied in the store and wait for their turn.
        for _ in range(10):
            pool.submit(record, maker.make())
            time.sleep(0.01)
        store.kill()
        store.cut(before_bytes)
        store.start()
    wait_until_settled(api)
    assert find_ledger_problems(api, tally) == []


def test_slow_fsync_delays_and_loses_nothing(returning_server: ServerProcess, api_of: ApiOf) -> None:
    """With an fsync of 20 ms records are slower, and all of them are there after a kill of server and store."""
    api = api_of(returning_server)
    with Load(returning_server.address, returning_server.admin_key, seed=31) as load:
        with slow_fdatasync(returning_server.process.pid, delay_ms=20) as is_slow:
            if not is_slow:
                pytest.skip(NO_STRACE)
            time.sleep(2)
            returning_server.kill_store()
            returning_server.kill()
        returning_server.start()
        time.sleep(0.3)
    wait_until_settled(api)
    assert load.tally.acknowledged
    assert find_ledger_problems(api, load.tally) == []
