# SPDX-License-Identifier: Apache-2.0
"""SimulateQuota: whom other limits would have stopped."""

import secrets
from typing import Any

import grpc
import pytest
from server.api import DENIED, READ, Api, new_tenant, record_request

from taximeter.clock import system_clock_ms
from taximeter.v1 import quota_pb2
from taximeter.v1 import tenant_service_pb2 as pb

HOUR_MS = 3_600_000


@pytest.fixture
def start_ms() -> int:
    """An instant of the day before, with hours to midnight."""
    return (system_clock_ms() // (24 * HOUR_MS) - 1) * 24 * HOUR_MS + HOUR_MS


def record_at(api: Api, tenant: str, time_ms: int, tokens: int) -> None:
    """Record usage of a call."""
    request = record_request(tenant, secrets.token_hex(16), tokens=tokens)
    request.record.occur_time.FromMilliseconds(time_ms)
    api.call(api.metering.Record, request)


def request_of(start_ms: int, **fields: Any) -> pb.SimulateQuotaRequest:
    """Return a request for three hours."""
    request = pb.SimulateQuotaRequest(**fields)
    request.start_time.FromMilliseconds(start_ms)
    request.end_time.FromMilliseconds(start_ms + 3 * HOUR_MS)
    return request


def simulate(api: Api, start_ms: int, **fields: Any) -> tuple[list[pb.SimulatedTenant], pb.SimulatedTenant]:
    """Return rows and total."""
    pieces = list(api.call(api.tenants.SimulateQuota, request_of(start_ms, **fields)))
    return [row for piece in pieces for row in piece.rows], pieces[-1].total


def test_simulation_names_whom_limits_would_have_stopped(api: Api, start_ms: int) -> None:
    """Calls are decided in the order in which they happened, however recorded; denied ones use nothing."""
    root = new_tenant()
    for minute, tenant, tokens in [(9, "a", 50), (0, "a", 60), (1, "b", 30), (2, "a", 20), (3, "b", 5)]:
        record_at(api, f"{root}/{tenant}", start_ms + minute * 60_000, tokens)
    limits = quota_pb2.Limits(tokens_per_day=100)
    rows, total = simulate(api, start_ms, tenant=root, levels=[{"tenant": root, "limits": limits}])

    # 60 + 30 + 20 are used when the fourth call asks: without estimates the third passed with 10 left.
    assert [(row.tenant, row.calls, row.denied_calls) for row in rows] == [
        (f"{root}/a", 3, 1),
        (f"{root}/b", 2, 1),
    ]
    (denial,) = rows[0].denials
    assert (denial.tenant, denial.kind, denial.denied_calls) == (root, quota_pb2.LIMIT_KIND_TOKENS_PER_DAY, 1)
    assert denial.first_denied_time.ToMilliseconds() == start_ms + 9 * 60_000
    assert (total.calls, total.denied_calls) == (5, 2)
    assert total.first_denied_time.ToMilliseconds() == start_ms + 3 * 60_000

    rows, total = simulate(
        api, start_ms, tenant=root, levels=[{"tenant": root, "limits": limits}], with_estimates=True
    )
    assert {row.tenant: row.denied_calls for row in rows} == {f"{root}/a": 2, f"{root}/b": 0}


def test_simulation_by_depth_limits_each_level(api: Api, start_ms: int) -> None:
    """Limits by depth hold for every level of that depth, each alone, unless it is named."""
    root = new_tenant()
    for second in range(3):
        for tenant in ("a", "b", "c"):
            record_at(api, f"{root}/{tenant}", start_ms + second * 1_000, 1)
    rows, total = simulate(
        api,
        start_ms,
        tenant=root,
        limits_by_depth=[quota_pb2.Limits(), quota_pb2.Limits(requests_per_minute=2)],
        levels=[{"tenant": f"{root}/c", "limits": quota_pb2.Limits(requests_per_minute=0)}],
    )

    assert {row.tenant: row.denied_calls for row in rows} == {f"{root}/a": 1, f"{root}/b": 1, f"{root}/c": 3}
    assert total.denied_calls == 5


def test_simulation_reads_what_the_key_may_read(api: Api, start_ms: int) -> None:
    """A bound key sees its own tenants alone; a wrong request is refused before anything is read."""
    root = new_tenant()
    for tenant in (root, f"{root}x"):
        record_at(api, tenant, start_ms, 1)
    bound = api.with_new_key(READ, root)

    rows, _ = simulate(bound, start_ms)
    assert [row.tenant for row in rows] == [root]
    assert bound.fail(bound.tenants.SimulateQuota, request_of(start_ms, tenant=f"{root}x")) == DENIED
    invalid = grpc.StatusCode.INVALID_ARGUMENT
    for fields, reason in (
        ({"levels": [{"tenant": "A"}]}, "FIELD_INVALID"),
        ({"tenant": root, "levels": [{"tenant": f"{root}x"}]}, "FIELD_INVALID"),
        ({"limits_by_depth": [quota_pb2.Limits()] * 5}, "FIELD_INVALID"),
        ({"limits_by_depth": [quota_pb2.Limits(tokens_per_day=-1)]}, "FIELD_INVALID"),
    ):
        assert api.fail(api.tenants.SimulateQuota, request_of(start_ms, **fields)) == (invalid, reason)
    assert api.fail(api.tenants.SimulateQuota, pb.SimulateQuotaRequest()) == (invalid, "FIELD_REQUIRED")
    backwards = request_of(start_ms)
    backwards.end_time.FromMilliseconds(start_ms)
    assert api.fail(api.tenants.SimulateQuota, backwards) == (invalid, "RANGE_INVALID")
