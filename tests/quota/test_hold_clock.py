# SPDX-License-Identifier: Apache-2.0
"""How holds live and end by the store's clock, whatever that clock does."""

from datetime import UTC, datetime

import pytest
from quota.conftest import Stepped
from quota.engine_calls import check, extend, put_limits, record, release, reserve, status, time_ms
from quota.model_level import TOKENS

from taximeter.v1 import metering_service_pb2 as pb

DAY_MS = 86_400_000


def at_ms(day: str) -> int:
    """Return the beginning of a day of UTC as milliseconds since 1970."""
    return round(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()) * 1_000


MIDNIGHT_MS = at_ms("2028-02-29")


@pytest.mark.parametrize("ttl_s", [1, 60, 61, 3_600])
def test_hold_expires_by_time_alone(ttl_s: int, stepped: Stepped, tenant: str) -> None:
    """A hold counts for its time and hardly longer; then its amounts are free, and a late record says so."""
    engine = stepped.engine
    stepped.set(MIDNIGHT_MS + DAY_MS // 2)
    put_limits(engine, tenant, {TOKENS: 10})
    placed = reserve(engine, tenant, tokens=10, ttl_s=ttl_s)
    expire_ms = time_ms(placed.hold_expire_time)
    denied = check(engine, tenant, tokens=10)
    assert 0 <= expire_ms - stepped.now_ms - ttl_s * 1_000 <= 2_000 + ttl_s * 1_000 // 32
    # The reset is true: it is the hold's expiry, not midnight.
    assert denied.limits[0].reset_time_ms == expire_ms

    stepped.set(expire_ms - 250)
    assert not check(engine, tenant, tokens=1).allowed
    stepped.set(expire_ms)
    assert check(engine, tenant, tokens=10, dry_run=True).allowed
    late = record(engine, tenant, tokens=4, hold_id=placed.hold_id)
    assert (late.hold.state, late.hold.over_tokens) == (pb.HOLD_STATE_EXPIRED, 0)
    assert release(engine, tenant, placed.hold_id) == pb.HOLD_STATE_EXPIRED
    assert [(limit.used, limit.held) for limit in status(engine, tenant)] == [(4, 0)]
    stepped.advance(3_600_000)
    assert record(engine, tenant, tokens=1, hold_id=placed.hold_id).hold.state == pb.HOLD_STATE_EXPIRED


@pytest.mark.parametrize("midnight", ["2026-06-01", "2027-01-01", "2028-02-29", "2028-03-01", "2027-03-01"])
def test_call_across_midnight_does_not_eat_the_next_day(midnight: str, stepped: Stepped, tenant: str) -> None:
    """What was held before midnight counts against the day before, whenever it is recorded."""
    engine, midnight_ms = stepped.engine, at_ms(midnight)
    stepped.set(midnight_ms - 1_000)
    put_limits(engine, tenant, {TOKENS: 100})
    placed = reserve(engine, tenant, tokens=90, ttl_s=600)
    stepped.set(midnight_ms + 250)
    assert [(limit.used, limit.held) for limit in status(engine, tenant)] == [(0, 0)]
    grown = extend(engine, tenant, placed.hold_id, ttl_s=600, tokens=5_000)
    assert grown.decision == pb.DECISION_ALLOW
    today = reserve(engine, tenant, tokens=100, ttl_s=60)
    assert today.decision == pb.DECISION_ALLOW
    answer = record(engine, tenant, tokens=95, hold_id=placed.hold_id)

    assert answer.hold.state == pb.HOLD_STATE_SETTLED
    assert [(limit.used, limit.held) for limit in status(engine, tenant)] == [(0, 100)]


@pytest.mark.parametrize("back_ms", [250, 30_000, DAY_MS])
def test_clock_that_goes_back_neither_frees_nor_keeps_a_hold(
    back_ms: int, stepped: Stepped, tenant: str
) -> None:
    """A hold's time goes on where it stood when the clock goes back: no hold is free early, none stays for a day."""
    engine = stepped.engine
    stepped.set(MIDNIGHT_MS + DAY_MS // 2)
    put_limits(engine, tenant, {TOKENS: 10_000})
    put_limits(engine, f"{tenant}/a", {TOKENS: 10_000})
    reserve(engine, f"{tenant}/a", tokens=10, ttl_s=60)
    stepped.advance(30_000)
    check(engine, f"{tenant}/a")
    stepped.advance(-back_ms)
    check(engine, f"{tenant}/a")
    if back_ms < DAY_MS:
        assert [limit.held for limit in status(engine, f"{tenant}/a")] == [10, 10]
    stepped.advance(29_000)
    held_of_its_day = [limit.held for limit in status(engine, f"{tenant}/a")]
    stepped.advance(4_000)

    assert held_of_its_day == ([10, 10] if back_ms < DAY_MS else [0, 0])
    assert [limit.held for limit in status(engine, f"{tenant}/a")] == [0, 0]


@pytest.mark.parametrize("days", [1, 2, 40])
def test_clock_that_jumps_ahead_ends_holds_and_loses_no_record(
    days: int, stepped: Stepped, tenant: str
) -> None:
    """By a clock days ahead every hold is over: its amounts are free, and its record counts on the day it pinned."""
    engine, start_ms = stepped.engine, MIDNIGHT_MS + DAY_MS // 2
    stepped.set(start_ms)
    put_limits(engine, tenant, {TOKENS: 100})
    jumped = reserve(engine, tenant, tokens=60, ttl_s=600)
    stepped.set(start_ms + days * DAY_MS)
    assert [(limit.used, limit.held) for limit in status(engine, tenant)] == [(0, 0)]
    there = reserve(engine, tenant, tokens=100, ttl_s=600)
    late = record(engine, tenant, tokens=50, hold_id=jumped.hold_id)
    assert late.hold.state == pb.HOLD_STATE_EXPIRED
    # It was used on another day.
    assert [(limit.used, limit.held) for limit in status(engine, tenant)] == [(0, 100)]
    stepped.set(start_ms + 1_000)
    found = record(engine, tenant, tokens=30, hold_id=there.hold_id)

    # A hold's time goes on where it stood, so the one of the day ahead was there to be settled.
    assert found.hold.state == pb.HOLD_STATE_SETTLED
    assert [limit.held for limit in status(engine, tenant)] == [0]
    stepped.advance(700_000)
    assert [limit.held for limit in status(engine, tenant)] == [0]
    assert check(engine, tenant, tokens=50).allowed
