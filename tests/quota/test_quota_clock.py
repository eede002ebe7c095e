# SPDX-License-Identifier: Apache-2.0
"""Windows and days at their edges, by a clock that the test sets for the store and the engine."""

from datetime import UTC, datetime

import pytest
from quota.conftest import CLOCK_NOISE_MS_MAX, Stepped
from quota.engine_calls import check, put_limits, record, status
from quota.model_level import REQUESTS, TOKENS

DAY_MS = 86_400_000
MINUTE_MS = 60_000


def at_ms(text: str) -> int:
    """Return an instant of UTC as milliseconds since 1970."""
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000


MIDNIGHTS = [
    pytest.param("2026-06-01T00:00:00", id="month"),
    pytest.param("2027-01-01T00:00:00", id="year"),
    pytest.param("2028-02-29T00:00:00", id="leap day begins"),
    pytest.param("2028-03-01T00:00:00", id="leap day ends"),
    pytest.param("2027-03-01T00:00:00", id="no leap day"),
    pytest.param("2026-10-25T00:00:00", id="summer time of Europe ends"),
    pytest.param("2027-03-28T00:00:00", id="summer time of Europe begins"),
    pytest.param("2026-06-04T00:00:00", id="any"),
]


@pytest.mark.parametrize("midnight", MIDNIGHTS)
def test_day_ends_at_midnight_utc(midnight: str, stepped: Stepped, tenant: str) -> None:
    """A day's limit counts to its last moment, is free at the stroke of midnight UTC, and says so."""
    midnight_ms = at_ms(midnight)
    stepped.set(midnight_ms - 250)
    put_limits(stepped.engine, tenant, {TOKENS: 100})
    record(stepped.engine, tenant, tokens=100)
    denied = check(stepped.engine, tenant)
    assert not denied.allowed
    assert denied.limits[0].reset_time_ms == midnight_ms
    assert 250 - CLOCK_NOISE_MS_MAX < (denied.limits[0].retry_after_ms or 0) <= 250
    # The last nanosecond of the day and the first of the next are different days.
    record(stepped.engine, tenant, tokens=40, occur_time_ms=midnight_ms)
    assert status(stepped.engine, tenant)[0].used == 100

    stepped.set(midnight_ms)
    assert status(stepped.engine, tenant)[0].used == 40
    record(stepped.engine, tenant, tokens=1_000, occur_time_ms=midnight_ms - 1)
    found = check(stepped.engine, tenant, tokens=60)
    assert (found.allowed, found.limits[0].used) == (True, 40)
    assert found.limits[0].reset_time_ms == midnight_ms + DAY_MS


def test_a_burst_over_the_edge_of_a_minute_is_not_admitted(stepped: Stepped, tenant: str) -> None:
    """Half a window before the edge of a minute and half after it count together: the window slides."""
    stepped.set(at_ms("2026-06-03T12:00:30"))
    put_limits(stepped.engine, tenant, {REQUESTS: 100})
    assert check(stepped.engine, tenant, requests=100).allowed
    for second in range(61):
        stepped.set(at_ms("2026-06-03T12:00:30") + second * 1_000)
        assert not check(stepped.engine, tenant).allowed
    stepped.advance(1_000)

    assert check(stepped.engine, tenant, requests=100).allowed


def test_no_60_seconds_ever_hold_more_than_the_limit(stepped: Stepped, tenant: str) -> None:
    """Over minutes of greedy calls, no interval of 60 s, wherever it begins, holds more than the limit."""
    limit, admitted = 10, []
    stepped.set(at_ms("2026-06-03T13:00:00"))
    put_limits(stepped.engine, tenant, {REQUESTS: limit})
    draw = [1, 3, 2, 7, 1, 1, 4, 2, 5, 1]
    for step in range(1_000):
        if check(stepped.engine, tenant, requests=draw[step % 10] % 4 + 1).allowed:
            admitted += [stepped.now_ms] * (draw[step % 10] % 4 + 1)
        stepped.advance(250 * draw[(step * 7) % 10])

    most = max(
        sum(start <= time < start + MINUTE_MS + CLOCK_NOISE_MS_MAX for time in admitted) for start in admitted
    )
    assert most == limit
    spent_s = (stepped.now_ms - admitted[0]) // 1_000
    assert len(admitted) > limit * spent_s // 75


@pytest.mark.parametrize("requests", [1, 2, 5, 9, 10])
def test_retry_after_is_true(requests: int, stepped: Stepped, tenant: str) -> None:
    """A call repeated when retry_after has passed is allowed; a moment before, it is not."""
    start_ms = at_ms("2026-06-03T14:07:09")
    put_limits(stepped.engine, tenant, {REQUESTS: 10})
    for offset_s, count in ((0, 1), (3, 2), (17, 1), (18, 5), (45, 1)):
        stepped.set(start_ms + offset_s * 1_000 + 500)
        assert check(stepped.engine, tenant, requests=count).allowed
    stepped.set(start_ms + 50_500)
    denied = check(stepped.engine, tenant, requests=requests)
    assert not denied.allowed
    assert denied.retry_after_ms is not None
    free_ms = denied.limits[0].reset_time_ms
    assert free_ms is not None
    assert 0 <= free_ms - denied.retry_after_ms - stepped.now_ms < CLOCK_NOISE_MS_MAX
    # Freed by the requests of the seconds 0, 3, 18 and 45 that it has to outlive.
    assert free_ms == start_ms + 61_000 + {1: 0, 2: 3, 5: 18, 9: 18, 10: 45}[requests] * 1_000

    stepped.set(free_ms - 250)
    assert not check(stepped.engine, tenant, requests=requests).allowed
    stepped.set(free_ms)
    assert check(stepped.engine, tenant, requests=requests).allowed


def test_retry_after_is_that_of_the_last_limit_to_free(stepped: Stepped, tenant: str) -> None:
    """With a minute's and a day's limit used up, the call is to wait for the later of both, and then passes."""
    midnight_ms = at_ms("2026-06-05T00:00:00")
    stepped.set(midnight_ms - 20_000)
    put_limits(stepped.engine, tenant, {REQUESTS: 1, TOKENS: 10})
    check(stepped.engine, tenant)
    record(stepped.engine, tenant, tokens=10)
    denied = check(stepped.engine, tenant)
    assert denied.retry_after_ms is not None
    assert 61_000 - CLOCK_NOISE_MS_MAX < denied.retry_after_ms <= 61_000

    stepped.set(midnight_ms)
    assert not check(stepped.engine, tenant).allowed
    stepped.set(midnight_ms - 20_000 + 61_000)
    assert check(stepped.engine, tenant).allowed


@pytest.mark.parametrize("back_ms", [250, 2_000, DAY_MS])
def test_clock_that_goes_back_over_midnight_loses_no_day(back_ms: int, stepped: Stepped, tenant: str) -> None:
    """A clock set back over midnight, and forward again, finds on each day what was used on it."""
    midnight_ms = at_ms("2026-07-01T00:00:00")
    stepped.set(midnight_ms - 1_000)
    put_limits(stepped.engine, tenant, {TOKENS: 100})
    record(stepped.engine, tenant, tokens=90)
    stepped.set(midnight_ms)
    record(stepped.engine, tenant, tokens=70)

    stepped.set(midnight_ms - back_ms)
    assert status(stepped.engine, tenant)[0].used == 90
    record(stepped.engine, tenant, tokens=5)
    assert not check(stepped.engine, tenant, tokens=6).allowed
    stepped.set(midnight_ms + 250)
    assert status(stepped.engine, tenant)[0].used == 70


@pytest.mark.parametrize("step_ms", [-DAY_MS, -MINUTE_MS, -1_000])
def test_clock_that_goes_back_frees_no_request_early(step_ms: int, stepped: Stepped, tenant: str) -> None:
    """After a step back, requests count as of the new time: freed at most a window later, never at once."""
    stepped.set(at_ms("2026-07-03T12:00:00"))
    put_limits(stepped.engine, tenant, {REQUESTS: 5})
    check(stepped.engine, tenant, requests=5)
    stepped.advance(step_ms)
    for _ in range(4):
        assert not check(stepped.engine, tenant).allowed
        stepped.advance(15_000)
    stepped.advance(1_000)

    assert check(stepped.engine, tenant, requests=5).allowed


def test_clock_that_jumps_far_and_returns_still_decides(stepped: Stepped, tenant: str) -> None:
    """After a jump by 40 days and back, limits are enforced on, and the minute's requests are not freed."""
    start_ms = at_ms("2026-07-05T12:00:00")
    stepped.set(start_ms)
    put_limits(stepped.engine, tenant, {REQUESTS: 5, TOKENS: 100})
    check(stepped.engine, tenant, requests=3)
    stepped.set(start_ms + 40 * DAY_MS)
    check(stepped.engine, tenant, requests=5)
    record(stepped.engine, tenant, tokens=100)
    assert not check(stepped.engine, tenant).allowed
    stepped.set(start_ms)

    assert not check(stepped.engine, tenant).allowed
    record(stepped.engine, tenant, tokens=100)
    assert [limit.remaining for limit in status(stepped.engine, tenant)] == [0, 0]
