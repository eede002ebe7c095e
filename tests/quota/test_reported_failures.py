# SPDX-License-Identifier: Apache-2.0
"""What users of other limiters report as broken, where no other test shows it of ours: see docs/quota-promises.md."""

import random
import secrets
import time
from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.message import Message
from quota.conftest import Stepped
from quota.engine_calls import INPUT_PICOS, check, extend, put_limits, record, reserve, status
from quota.model_level import COST, REQUESTS, TOKENS
from server.api import Api, connect

from harness.server_process import ServerProcess
from taximeter.v1 import metering_service_pb2 as pb
from taximeter.v1 import quota_pb2, tenant_service_pb2, usage_pb2

DAY_S, DAY_MS = 86_400, 86_400_000
LEVEL_BYTES_MAX = 1_024
CANCELLED_COUNT = 60
CANCEL_DELAY_MAX_S = 0.003


def test_calls_put_off_no_reset(stepped: Stepped, tenant: str) -> None:
    """A caller that goes on asking, denied or recorded, waits no longer: windows are not renewed by what they count."""
    stepped.set((stepped.now_ms // DAY_MS + 1) * DAY_MS - 120_000)
    put_limits(stepped.engine, tenant, {REQUESTS: 10, TOKENS: 100})
    midnight_ms = (stepped.now_ms // DAY_MS + 1) * DAY_MS
    assert check(stepped.engine, tenant, requests=10).allowed
    for _ in range(60):
        stepped.advance(1_000)
        assert not check(stepped.engine, tenant, requests=1).allowed
        record(stepped.engine, tenant, tokens=2)
    stepped.advance(1_000)
    # The minute has room again, the day has none.
    minute, day = check(stepped.engine, tenant).limits
    assert (minute.exceeded, day.exceeded, day.used, day.reset_time_ms) == (False, True, 120, midnight_ms)
    stepped.set(midnight_ms)

    assert check(stepped.engine, tenant, requests=10, tokens=100).allowed


def test_a_tenant_takes_no_more_memory_for_a_larger_limit(stepped: Stepped, tenant: str) -> None:
    """A level is as large with a billion requests a minute as with one a second, and small."""
    small, large = f"{tenant}-small", f"{tenant}-large"
    put_limits(stepped.engine, small, {REQUESTS: 61})
    put_limits(stepped.engine, large, {REQUESTS: 10**9})
    for _ in range(130):
        stepped.advance(1_000)
        assert check(stepped.engine, small, requests=1).allowed
        assert check(stepped.engine, large, requests=1_000_000).allowed

    assert stepped.level_bytes(large) <= stepped.level_bytes(small) < LEVEL_BYTES_MAX


def test_a_hold_moves_no_reset(stepped: Stepped, tenant: str) -> None:
    """Placing, extending and settling a hold leave the ends of minute and day where they are."""
    midnight_ms = (stepped.now_ms // DAY_MS + 1) * DAY_MS
    stepped.set(midnight_ms - 30_000)
    put_limits(stepped.engine, tenant, {REQUESTS: 1, TOKENS: 100})
    placed = reserve(stepped.engine, tenant, tokens=60, ttl_s=600)

    def resets() -> list[int | None]:
        return [limit.reset_time_ms for limit in status(stepped.engine, tenant)]

    before = resets()
    stepped.advance(10_000)
    extend(stepped.engine, tenant, placed.hold_id, ttl_s=3_600, tokens=90)
    assert resets() == before == [midnight_ms + 31_000, midnight_ms]
    record(stepped.engine, tenant, tokens=50, hold_id=placed.hold_id)
    assert resets() == before
    stepped.set(midnight_ms)

    assert [(limit.used, limit.held) for limit in status(stepped.engine, tenant)] == [(1, 0), (0, 0)]


def limited(api: Api, tenant: str) -> None:
    """Limit a tenant far above what a test uses."""
    limits = quota_pb2.Limits(requests_per_minute=10_000, tokens_per_day=1_000_000)
    settings = tenant_service_pb2.Tenant(name=tenant, limits=limits)
    api.call(api.tenants.PutTenant, tenant_service_pb2.PutTenantRequest(tenant=settings))


def used_and_held(api: Api, tenant: str) -> list[tuple[int, int, int]]:
    """Return used, held and the second of the reset of each limit."""
    request = tenant_service_pb2.GetQuotaStatusRequest(tenant=tenant)
    found = api.call(api.tenants.GetQuotaStatus, request).limits
    return [(limit.used, limit.held, limit.reset_time.seconds) for limit in found]


def held_check(tenant: str, number: int, tokens: int) -> pb.CheckQuotaRequest:
    """A check with a name and a hold."""
    asked = pb.CheckQuotaRequest(tenant=tenant, request_id=f"cancelled-{number:012}")
    asked.estimate.uncached_input_tokens = tokens
    asked.hold_ttl.FromSeconds(600)
    return asked


def test_the_day_is_that_of_utc_and_a_restart_counts_nothing_again(
    fresh_server: Callable[..., ServerProcess],
) -> None:
    """A server nine hours ahead of UTC resets at midnight UTC, and one that restarts has used what it had used."""
    in_tokyo = {"environment": {"TZ": "Asia/Tokyo"}}
    server = fresh_server(**in_tokyo)
    with connect(server.address, server.admin_key) as api:
        limited(api, "tokyo")
        api.call(api.metering.CheckQuota, held_check("tokyo", 1, 30))
        usage = usage_pb2.Usage(uncached_input_tokens=70)
        one = usage_pb2.UsageRecord(record_id=secrets.token_hex(8), tenant="tokyo", model="m", usage=usage)
        api.call(api.metering.Record, pb.RecordRequest(record=one))
        _, (used, held, reset_s) = used_and_held(api, "tokyo")
    assert (used, held, reset_s % DAY_S) == (70, 30, 0)
    server.stop()
    again = fresh_server(data_dir=server.data_dir, **in_tokyo)
    with connect(again.address, again.admin_key) as api:
        _, day = used_and_held(api, "tokyo")

    assert day[:2] == (70, 30)
    assert day[2] % DAY_S == 0


def cancelled_then_called(draw: random.Random, method: Any, request: Message, api: Api) -> Any:
    """Send a call, take it back at some instant, and then make it as callers do who do not know what it did."""
    under_way = method.future(request, metadata=api.metadata, timeout=10)
    time.sleep(draw.uniform(0, CANCEL_DELAY_MAX_S))
    under_way.cancel()
    return api.call(method, request)


def test_calls_that_are_cancelled_count_once(server: ServerProcess) -> None:
    """Checks, records and releases that callers cancel and repeat hold once, settle once and leave nothing held."""
    draw, tenant, used_tokens = random.Random(5), f"cancel-{secrets.token_hex(6)}", 0
    with connect(server.address, server.admin_key) as api:
        limited(api, tenant)
        for number in range(CANCELLED_COUNT):
            held = draw.randint(1, 50)
            asked = held_check(tenant, number, held)
            placed = cancelled_then_called(draw, api.metering.CheckQuota, asked, api)
            if number % 3 == 0:
                released = pb.ReleaseHoldRequest(tenant=tenant, hold_id=placed.hold_id)
                cancelled_then_called(draw, api.metering.ReleaseHold, released, api)
                continue
            usage = usage_pb2.Usage(uncached_input_tokens=held)
            settled = usage_pb2.UsageRecord(
                record_id=secrets.token_hex(8), tenant=tenant, model="m", usage=usage, hold_id=placed.hold_id
            )
            cancelled_then_called(draw, api.metering.Record, pb.RecordRequest(record=settled), api)
            used_tokens += held
        # What was cancelled last may still be under way.
        deadline = time.monotonic() + 10
        wanted = [(CANCELLED_COUNT, 0), (used_tokens, 0)]
        while [limit[:2] for limit in used_and_held(api, tenant)] != wanted and time.monotonic() < deadline:
            time.sleep(0.05)

        assert [limit[:2] for limit in used_and_held(api, tenant)] == wanted


@pytest.mark.parametrize("tokens", [1, 7, 999_999])
def test_nothing_is_lost_to_rounding(tokens: int, stepped: Stepped, tenant: str) -> None:
    """Limits that a number of calls uses up exactly let exactly so many pass, whatever each costs."""
    put_limits(stepped.engine, tenant, {TOKENS: tokens * 11, COST: tokens * 11 * INPUT_PICOS})
    for _ in range(11):
        assert check(stepped.engine, tenant, tokens=tokens).allowed
        record(stepped.engine, tenant, tokens=tokens)

    assert not check(stepped.engine, tenant, tokens=1).allowed
    assert [limit.remaining for limit in status(stepped.engine, tenant)] == [0, 0]
