# SPDX-License-Identifier: Apache-2.0
"""Calls that come together go to the store together, and are decided as if they had come alone."""

import secrets
from collections.abc import Sequence

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from server.api import Api, connect

from harness.http2_client import Answer, Http2Client, frame, grpc_headers
from harness.server_process import ServerProcess
from taximeter.v1 import metering_service_pb2 as pb
from taximeter.v1 import quota_pb2, tenant_service_pb2, usage_pb2
from taximeter_server._native import PARTITION_COUNT, partition_of

SERVICE = "/taximeter.v1.MeteringService/"
INTERNAL = 13
COUNT = 24
PREFIX_SIZE = 5


@pytest.fixture
def root() -> str:
    """A tenant that nobody else has."""
    return f"together-{secrets.token_hex(6)}"


def put_limits(api: Api, tenant: str, *, requests: int | None = None, tokens: int | None = None) -> None:
    """Limit a tenant."""
    limits = quota_pb2.Limits(requests_per_minute=requests, tokens_per_day=tokens)
    settings = tenant_service_pb2.Tenant(name=tenant, limits=limits)
    api.call(api.tenants.PutTenant, tenant_service_pb2.PutTenantRequest(tenant=settings))


def call_all(server: ServerProcess, calls: Sequence[tuple[str, Message]]) -> list[Answer]:
    """Make calls in one piece on one connection."""
    with Http2Client(server.address) as client:
        return client.call_all(
            [
                (grpc_headers(SERVICE + method, server.admin_key), frame(request.SerializeToString()))
                for method, request in calls
            ]
        )


def record_of(tenant: str) -> pb.RecordRequest:
    """A record of ten tokens."""
    usage = usage_pb2.Usage(uncached_input_tokens=10)
    return pb.RecordRequest(
        record=usage_pb2.UsageRecord(record_id=secrets.token_hex(8), tenant=tenant, model="m", usage=usage)
    )


def checked(answer: Answer) -> pb.CheckQuotaResponse:
    """The answer to a check."""
    assert answer.grpc_status == 0, answer.grpc_message
    return pb.CheckQuotaResponse.FromString(answer.body[PREFIX_SIZE:])


def script_calls(server: ServerProcess) -> int:
    """How many script calls the store has run."""
    with server.store_client() as store:
        return int(store.info("commandstats")["cmdstat_fcall"]["calls"])


def test_checks_that_come_together_are_decided_one_after_the_other(server: ServerProcess, root: str) -> None:
    """As many are allowed as there is room for, at every level, in one script call or few."""
    with connect(server.address, server.admin_key) as api:
        put_limits(api, root, requests=COUNT - 4)
        put_limits(api, f"{root}/a", requests=COUNT // 2 - 1)
    checks = [pb.CheckQuotaRequest(tenant=f"{root}/{'ab'[number % 2]}") for number in range(COUNT)]
    before = script_calls(server)
    answers = call_all(server, [("CheckQuota", check) for check in checks])
    calls = script_calls(server) - before

    allowed = [checked(answer).decision == pb.DECISION_ALLOW for answer in answers]
    assert sum(allowed[::2]) <= COUNT // 2 - 1
    assert sum(allowed) == COUNT - 4
    assert max(checked(answer).limits[0].used for answer in answers) == COUNT - 4
    assert calls <= COUNT // 2, "a server that has nothing else to do sends them together"


def told(server: ServerProcess, levels: Sequence[str]) -> list[tuple[int, str, int]]:
    """What was told of the levels: partition of the stream, level, percent."""
    with server.store_client() as store:
        return [
            (partition, fields[b"level"].decode(), int(fields[b"percent"]))
            for partition in range(PARTITION_COUNT)
            for _, fields in store.xrange(f"{{tx:{partition}}}:events")
            if fields[b"level"].decode() in levels
        ]


def test_checks_of_many_partitions_go_together(server: ServerProcess, root: str) -> None:
    """Each is decided by its own tenant's limits, and told of in its own partition."""
    tenants = [f"{root}-{number}" for number in range(COUNT)]
    with connect(server.address, server.admin_key) as api:
        for tenant in tenants:
            put_limits(api, tenant, requests=2)
    before = script_calls(server)
    checks = [pb.CheckQuotaRequest(tenant=tenant) for tenant in tenants * 3]
    answers = call_all(server, [("CheckQuota", check) for check in checks])
    calls = script_calls(server) - before

    allowed = [
        check.tenant
        for check, answer in zip(checks, answers, strict=True)
        if checked(answer).decision == pb.DECISION_ALLOW
    ]
    assert sorted(allowed) == sorted(tenants * 2)
    assert calls <= COUNT, "a server that has nothing else to do sends them together"
    assert len({partition_of(tenant) for tenant in tenants}) > 1
    assert sorted(told(server, tenants)) == sorted(
        (partition_of(tenant), tenant, percent) for tenant in tenants for percent in (50, 80, 95, 100)
    )


def test_a_partition_that_cannot_be_told_of_fails_alone(server: ServerProcess, root: str) -> None:
    """Where the stream of events is no stream, checks that have something to tell count nothing; others tell once."""
    tenants = [f"{root}-{number}" for number in range(COUNT)]
    bad = partition_of(tenants[1])
    is_bad = [partition_of(tenant) == bad for tenant in tenants]
    good = [tenant for tenant, one in zip(tenants, is_bad, strict=True) if not one]
    with connect(server.address, server.admin_key) as api, server.store_client() as store:
        for tenant in tenants:
            put_limits(api, tenant, requests=1)
        kept, stream = f"{{tx:{bad}}}:kept-{root}", f"{{tx:{bad}}}:events"
        had_events = store.exists(stream)
        if had_events:
            store.rename(stream, kept)
        store.set(stream, "planted")
        try:
            checks = [("CheckQuota", pb.CheckQuotaRequest(tenant=tenant)) for tenant in tenants]
            answers = call_all(server, checks)
            assert [answer.grpc_status for answer in answers] == [INTERNAL if one else 0 for one in is_bad]
        finally:
            store.delete(stream)
            if had_events:
                store.rename(kept, stream)
        answers = call_all(server, checks)
    assert [checked(answer).decision for answer in answers] == [
        pb.DECISION_ALLOW if one else pb.DECISION_DENY for one in is_bad
    ]
    assert len(told(server, good)) == 4 * len(good)


def test_holds_that_come_together_are_placed_one_after_the_other(server: ServerProcess, root: str) -> None:
    """Holds of the same moment fill a limit and no more, a repeated request has one of them, and all can be freed."""
    with connect(server.address, server.admin_key) as api:
        put_limits(api, root, tokens=100)
    estimate = usage_pb2.Usage(uncached_input_tokens=10)
    named = f"same-{root}"
    checks = [
        pb.CheckQuotaRequest(
            tenant=f"{root}/{'ab'[number % 2 if number > 2 else 0]}",
            model="m",
            estimate=estimate,
            hold_ttl=Duration(seconds=60),
            request_id=named if number <= 2 else "",
        )
        for number in range(COUNT)
    ]
    answers = [checked(answer) for answer in call_all(server, [("CheckQuota", check) for check in checks])]

    assert len({answer.hold_id for answer in answers[:3]}) == 1
    assert sorted(answer.duplicate for answer in answers[:3]) == [False, True, True]
    held = {
        answer.hold_id: check.tenant for answer, check in zip(answers, checks, strict=True) if answer.hold_id
    }
    assert len(held) == 100 // 10
    with connect(server.address, server.admin_key) as api:
        for hold_id, tenant in held.items():
            api.call(api.metering.ReleaseHold, pb.ReleaseHoldRequest(tenant=tenant, hold_id=hold_id))
        status = api.call(api.tenants.GetQuotaStatus, tenant_service_pb2.GetQuotaStatusRequest(tenant=root))
    assert (status.limits[0].used, status.limits[0].held) == (0, 0)


def test_records_that_come_together_are_counted_each_once(server: ServerProcess, root: str) -> None:
    """Records of one moment are applied once each, one that was sent twice among them."""
    with connect(server.address, server.admin_key) as api:
        put_limits(api, root, tokens=1_000_000)
    records = [record_of(f"{root}/a") for _ in range(COUNT - 1)]
    answers = call_all(server, [("Record", record) for record in [*records, records[0]]])

    responses = [pb.RecordResponse.FromString(answer.body[PREFIX_SIZE:]) for answer in answers]
    assert [answer.grpc_status for answer in answers] == [0] * COUNT
    assert sum(response.duplicate for response in responses) == 1
    with connect(server.address, server.admin_key) as api:
        status = api.call(api.tenants.GetQuotaStatus, tenant_service_pb2.GetQuotaStatusRequest(tenant=root))
    assert status.limits[0].used == 10 * (COUNT - 1)


def test_records_of_many_partitions_go_together(server: ServerProcess, root: str) -> None:
    """Those that settle holds, and plain ones: each is counted for its own tenant, once."""
    tenants = [f"{root}-{number}" for number in range(COUNT)]
    assert len({partition_of(tenant) for tenant in tenants}) > 1
    with connect(server.address, server.admin_key) as api:
        for tenant in tenants:
            put_limits(api, tenant, tokens=1_000)
    estimate = usage_pb2.Usage(uncached_input_tokens=30)
    holding = [
        pb.CheckQuotaRequest(tenant=tenant, model="m", estimate=estimate, hold_ttl=Duration(seconds=60))
        for tenant in tenants
    ]
    held = [checked(answer).hold_id for answer in call_all(server, [("CheckQuota", one) for one in holding])]
    settling, plain = [record_of(tenant) for tenant in tenants], [record_of(tenant) for tenant in tenants]
    for record, hold_id in zip(settling, held, strict=True):
        record.record.hold_id = hold_id
    for records in (settling, plain, settling):
        before = script_calls(server)
        answers = call_all(server, [("Record", record) for record in records])
        assert [answer.grpc_status for answer in answers] == [0] * COUNT
        calls = script_calls(server) - before
        assert calls <= COUNT // 2, "a server that has nothing else to do sends them together"

    checks = [("CheckQuota", pb.CheckQuotaRequest(tenant=tenant, dry_run=True)) for tenant in tenants]
    for answer in call_all(server, checks):
        (tokens,) = checked(answer).limits
        assert (tokens.used, tokens.held) == (20, 0)


def test_a_damaged_tenant_fails_alone(server: ServerProcess, root: str) -> None:
    """Of calls that go together only those of a damaged tenant fail; the others are decided and counted once."""
    with connect(server.address, server.admin_key) as api:
        put_limits(api, root, requests=1_000, tokens=1_000_000)
    good, bad = f"{root}/good", f"{root}/bad"
    with server.store_client() as store:
        store.lpush(f"{{tx:{partition_of(root)}}}:t:{bad}", "planted")
    is_bad = [number % 5 == 3 for number in range(COUNT)]
    tenants = [bad if one else good for one in is_bad]
    for calls in (
        [("CheckQuota", pb.CheckQuotaRequest(tenant=tenant)) for tenant in tenants],
        [("Record", record_of(tenant)) for tenant in tenants],
    ):
        answers = call_all(server, calls)
        assert [answer.grpc_status for answer in answers] == [INTERNAL if one else 0 for one in is_bad]
    with connect(server.address, server.admin_key) as api:
        status = api.call(api.tenants.GetQuotaStatus, tenant_service_pb2.GetQuotaStatusRequest(tenant=root))
    used = {limit.kind: limit.used for limit in status.limits}
    count = COUNT - sum(is_bad)
    assert used == {
        quota_pb2.LIMIT_KIND_REQUESTS_PER_MINUTE: count,
        quota_pb2.LIMIT_KIND_TOKENS_PER_DAY: 10 * count,
    }
