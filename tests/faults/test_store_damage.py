# SPDX-License-Identifier: Apache-2.0
"""What somebody else does to the store: its functions flushed, a key overwritten, its memory used up."""

import json

import grpc
import pytest
from faults.conftest import ApiOf
from faults.kill_loop import wait_until, wait_until_settled
from faults.recorder import TENANT, Recorder, record_id_of
from server.api import reason_of

from harness.ledger_oracle import find_ledger_problems, find_quota_problems, put_high_limits
from harness.load import COMMITTED, Load, RecordMaker
from harness.server_process import ServerProcess
from harness.store_process import StoreProcess
from taximeter.v1 import metering_service_pb2
from taximeter_server._native import RpcError
from taximeter_server.ledger import partition_of

SIBLING = "acme/sales"
"""In the same partition as TENANT."""


def counters_key(tenant: str) -> str:
    """Return the key of a tenant's packed counters."""
    return f"{{tx:{partition_of(tenant)}}}:t:{tenant}"


def test_flushed_functions_are_loaded_again(
    store_server: ServerProcess, store: StoreProcess, api_of: ApiOf
) -> None:
    """FUNCTION FLUSH under load, several times, fails no call for good and loses and doubles nothing."""
    api = api_of(store_server)
    with store.client() as client, Load(store_server.address, store_server.admin_key, seed=9) as load:
        put_high_limits(api, load.tenants)
        for flushed in (False, True, True, True, True):
            if flushed:
                client.function_flush()
            enough = load.acknowledged_count + 100
            wait_until(
                lambda enough=enough: load.acknowledged_count > enough,  # type: ignore[misc]
                limit_s=10,
                what="records are not accepted",
            )
    wait_until_settled(api)
    problems = find_ledger_problems(api, load.tally) + find_quota_problems(api, load.tally, load.tenants)
    assert not problems, problems[:20]
    assert COMMITTED in load.tally.acknowledged.values()


def test_damaged_counters_fail_their_tenant_alone(
    store_server: ServerProcess, store: StoreProcess, api_of: ApiOf
) -> None:
    """A key of another type answers INTERNAL STORE_CORRUPT to its tenant, writes nothing, and hurts no other."""
    api = api_of(store_server)
    bad, good = RecordMaker("bad", [TENANT], seed=1), RecordMaker("good", [SIBLING], seed=1)
    with store.client() as client:
        client.lpush(counters_key(TENANT), "planted")
        request = metering_service_pb2.RecordRequest(record=bad.make().record)
        with pytest.raises(grpc.RpcError) as raised:
            api.call(api.metering.Record, request)
        assert (raised.value.code(), reason_of(raised.value)) == (grpc.StatusCode.INTERNAL, "STORE_CORRUPT")
        check = metering_service_pb2.CheckQuotaRequest(tenant=TENANT)
        assert api.fail(api.metering.CheckQuota, check) == (grpc.StatusCode.INTERNAL, "STORE_CORRUPT")
        assert client.xlen(f"{{tx:{partition_of(TENANT)}}}:ledger") == 0
        assert client.lrange(counters_key(TENANT), 0, -1) == [b"planted"]

        records = [maker.make().record for maker in (good, bad, good)]
        batch = metering_service_pb2.RecordBatchRequest(records=records)
        results = api.call(api.metering.RecordBatch, batch).results
        assert [result.WhichOneof("outcome") for result in results] == ["response", "error", "response"]
        assert client.xlen(f"{{tx:{partition_of(TENANT)}}}:ledger") == 2

        client.delete(counters_key(TENANT))
        assert not api.call(api.metering.Record, request).duplicate


def test_damaged_counters_do_not_keep_the_store_closed(recorder: Recorder) -> None:
    """Records that can no longer be given back are listed; those of other tenants are given back all the same."""
    before_bytes = recorder.store.file_size_bytes()
    recorder.record(1)
    recorder.record(2, tenant=SIBLING)
    recorder.close()
    recorder.restart_store(size_bytes=before_bytes)
    with recorder.store.client() as client:
        client.delete(counters_key(TENANT))
        client.lpush(counters_key(TENANT), "planted")
        recorder.open()
        assert recorder.counted() == 1
        (document,) = client.hvals("{tx:cfg}:conflicts")
        assert json.loads(document)["record_id"] == record_id_of(1)


def test_full_store_applies_nothing_in_part(recorder: Recorder) -> None:
    """A store without memory refuses with STORE_FULL before anything is written, and goes on when it has some."""
    recorder.record(0)
    with recorder.store.client() as client:
        used = client.info("memory")["used_memory"]
        client.config_set("maxmemory", used // 2)
        with pytest.raises(RpcError) as raised:
            recorder.record(1)
        assert raised.value.args[0] == grpc.StatusCode.UNAVAILABLE.value[0]
        assert b"STORE_FULL" in raised.value.args[2]
        client.config_set("maxmemory", 0)
    assert (recorder.counted(), recorder.used_tokens()) == (1, 1)
    assert not recorder.record(1).duplicate
    assert (recorder.counted(), recorder.used_tokens()) == (2, 2)


def test_rewrite_of_the_file_during_load_loses_nothing(recorder: Recorder) -> None:
    """A store killed while it rewrites its append-only file has everything when it is back."""
    for number in range(300):
        recorder.record(number)
    with recorder.store.client() as client:
        client.bgrewriteaof()
        for number in range(300, 400):
            recorder.record(number)
        recorder.store.kill()
    # The engine has no call under way that could fail: it has to notice by itself.
    recorder.wait_for(lambda status: not status["store_available"])
    recorder.store.start()
    recorder.wait_until_settled()
    assert recorder.counted() == 400
    assert recorder.used_tokens() == 400
