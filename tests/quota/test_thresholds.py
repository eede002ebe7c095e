# SPDX-License-Identifier: Apache-2.0
"""Events that say when the use of a limit comes to 50, 80, 95 and 100 percent of it."""

import threading
from collections.abc import Callable

import pytest
from quota.conftest import Stepped
from quota.engine_calls import INPUT_PICOS, Engine, check, put_limits, record, release, reserve
from quota.model_level import COST, REQUESTS, TOKENS

from harness.store_process import StoreProcess
from taximeter_server import _native
from taximeter_server.event_store import EventStore
from taximeter_server.quota_events import QuotaEvent

MINUTE_MS, DAY_MS = 60_000, 86_400_000


def events_of(store_url: str, tenant: str) -> list[QuotaEvent]:
    """Return what was told of a tenant's own level, oldest first."""
    store = EventStore(store_url)
    try:
        stored = store.read_events({_native.partition_of(tenant): "0-0"}, 10_000)
    finally:
        store.close()
    return [event for event in map(QuotaEvent.from_stored, stored) if event.tenant == tenant]


def percents_of(store_url: str, tenant: str) -> list[int]:
    """Return the thresholds that were told of a tenant's own level."""
    return [event.threshold_percent for event in events_of(store_url, tenant)]


CALLERS = 4
"""Threads that share an engine where many call at once."""
STEPS = {
    "one by one": (100, [49, 1, 29, 1, 14, 1, 4, 1], [[], [50], [], [80], [], [95], [], [100]]),
    "several in one step": (100, [81, 19, 1000], [[50, 80], [95, 100], []]),
    "all in one step": (1_000, [5_000, 1], [[50, 80, 95, 100], []]),
    "a limit of one": (1, [1, 1], [[50, 80, 95, 100], []]),
    "a limit of two": (2, [1, 1], [[50], [80, 95, 100]]),
    "a limit of nothing": (0, [1, 1], [[50, 80, 95, 100], []]),
}


@pytest.mark.parametrize("case", STEPS)
def test_each_threshold_is_told_when_use_comes_to_it(
    engine: Engine, store: StoreProcess, tenant: str, case: str
) -> None:
    """Tokens and cost alike: when a record brings a limit to a threshold, once, with what is used then."""
    maximum, steps, expected = STEPS[case]
    put_limits(engine, tenant, {TOKENS: maximum, COST: maximum * INPUT_PICOS})
    told: list[list[int]] = []
    for tokens in steps:
        before = len(events_of(store.url, tenant))
        record(engine, tenant, tokens=tokens)
        new = events_of(store.url, tenant)[before:]
        by_limit = {
            name: [event.threshold_percent for event in new if event.limit == name]
            for name in ("tokens_per_day", "cost_per_day")
        }
        assert by_limit["tokens_per_day"] == by_limit["cost_per_day"]
        told.append(by_limit["tokens_per_day"])

    assert told == expected


def test_shares_are_exact_where_numbers_are_large(engine: Engine, store: StoreProcess, tenant: str) -> None:
    """Not one pico-unit too early or too late, at amounts that a Lua number does not hold."""
    half_tokens = 10_000_000_000
    put_limits(engine, tenant, {COST: 2 * half_tokens * INPUT_PICOS})
    record(engine, tenant, tokens=half_tokens - 1)
    assert events_of(store.url, tenant) == []
    record(engine, tenant, tokens=1)

    (event,) = events_of(store.url, tenant)
    assert (event.threshold_percent, event.used) == (50, half_tokens * INPUT_PICOS)
    assert event.maximum == 2 * half_tokens * INPUT_PICOS > 2**53


def test_every_level_tells_of_its_own_limits(engine: Engine, store: StoreProcess, tenant: str) -> None:
    """A call is told at each level that it brings to a threshold, with that level's numbers."""
    put_limits(engine, tenant, {TOKENS: 1_000, REQUESTS: 3})
    put_limits(engine, f"{tenant}/a", {TOKENS: 100})
    record(engine, f"{tenant}/a", tokens=500)
    check(engine, f"{tenant}/b", requests=2)

    (of_a, of_root) = (events_of(store.url, name) for name in (f"{tenant}/a", tenant))
    assert [(event.threshold_percent, event.maximum, event.used) for event in of_a] == [
        (percent, 100, 500) for percent in (50, 80, 95, 100)
    ]
    assert [(event.limit, event.threshold_percent, event.used) for event in of_root] == [
        ("tokens_per_day", 50, 500),
        ("requests_per_minute", 50, 2),
    ]


def test_what_is_only_asked_or_refused_tells_nothing(
    engine: Engine, store: StoreProcess, tenant: str
) -> None:
    """Denied checks, dry runs and duplicates bring no limit nearer."""
    put_limits(engine, tenant, {REQUESTS: 2, TOKENS: 100})
    check(engine, tenant, requests=2, dry_run=True)
    check(engine, tenant, requests=3)
    record(engine, tenant, tokens=60, record_id="r" * 16)
    record(engine, tenant, tokens=60, record_id="r" * 16)

    assert [(event.limit, event.threshold_percent) for event in events_of(store.url, tenant)] == [
        ("tokens_per_day", 50)
    ]


def test_holds_count_when_they_are_settled(engine: Engine, store: StoreProcess, tenant: str) -> None:
    """What is held may never be used; what a record settles is."""
    put_limits(engine, tenant, {TOKENS: 100})
    first = reserve(engine, tenant, tokens=90, ttl_s=60)
    release(engine, tenant, first.hold_id)
    second = reserve(engine, tenant, tokens=90, ttl_s=60)
    assert percents_of(store.url, tenant) == []
    record(engine, tenant, tokens=81, hold_id=second.hold_id)

    assert percents_of(store.url, tenant) == [50, 80]


def test_requests_tell_once_a_minute_and_only_from_below(stepped: Stepped, tenant: str) -> None:
    """Use that swings around a threshold is told once; after a minute it is told again when it comes from below."""

    def told_after(wait_ms: int, requests: int) -> list[int]:
        before = len(events_of(stepped.store.url, tenant))
        stepped.advance(wait_ms)
        assert check(stepped.engine, tenant, requests=requests).allowed
        return percents_of(stepped.store.url, tenant)[before:]

    put_limits(stepped.engine, tenant, {REQUESTS: 20})
    assert told_after(0, 8) == []
    # 18 of 20 within a minute: two thresholds, and a window of a minute begins.
    assert told_after(40_000, 10) == [50, 80]
    # The 8 have left, and 9 come: below 80 percent in between, but told already in this window.
    assert told_after(25_000, 9) == [95]
    # The 10 have left; the window is over, but 9 are still there: 50 percent is crossed again, and told.
    assert told_after(40_000, 1) == [50]
    # The 9 have left too: from 5 percent to 100. 50 was told 21 seconds ago.
    assert told_after(21_000, 19) == [80, 95, 100]
    first, *_, last = events_of(stepped.store.url, tenant)
    assert first.window_start_s * 1_000 <= first.time_ms < (first.window_start_s + 1) * 1_000
    assert last.window_start_s > first.window_start_s + MINUTE_MS // 1_000


def test_a_new_day_begins_anew(stepped: Stepped, tenant: str) -> None:
    """Thresholds of limits per day are told once a day; the window says which."""
    put_limits(stepped.engine, tenant, {TOKENS: 100})
    record(stepped.engine, tenant, tokens=85, occur_time_ms=stepped.now_ms)
    stepped.advance(DAY_MS)
    record(stepped.engine, tenant, tokens=55, occur_time_ms=stepped.now_ms)
    events = events_of(stepped.store.url, tenant)

    assert [event.threshold_percent for event in events] == [50, 80, 50]
    assert [event.window_start_s % 86_400 for event in events] == [0, 0, 0]
    assert events[2].window_start_s == events[0].window_start_s + 86_400
    assert len({event.event_id for event in events}) == 3


def test_a_raised_limit_begins_anew(engine: Engine, store: StoreProcess, tenant: str) -> None:
    """Who was told 100 percent of a limit is told again as use comes near the new one, by other ids."""
    put_limits(engine, tenant, {TOKENS: 100})
    record(engine, tenant, tokens=100)
    put_limits(engine, tenant, {TOKENS: 1_000})
    record(engine, tenant, tokens=100)
    assert percents_of(store.url, tenant) == [50, 80, 95, 100]
    record(engine, tenant, tokens=700)

    events = events_of(store.url, tenant)
    assert [event.threshold_percent for event in events] == [50, 80, 95, 100, 50, 80]
    assert len({event.event_id for event in events}) == 6


def test_many_at_once_tell_each_threshold_once(
    make_engine: Callable[..., _native.Engine], store: StoreProcess, tenant: str
) -> None:
    """Whoever and however many count: each threshold of each limit is told once, and neither early nor late."""
    engines = [make_engine() for _ in range(2)]
    put_limits(engines[0], tenant, {TOKENS: 300, REQUESTS: 200})

    def use(engine: Engine) -> None:
        for _ in range(40):
            check(engine, f"{tenant}/a")
            record(engine, f"{tenant}/a", tokens=1)

    threads = [threading.Thread(target=use, args=(engine,)) for engine in engines for _ in range(CALLERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    events = events_of(store.url, tenant)

    told = sorted((event.limit, event.threshold_percent) for event in events)
    assert told == [
        (limit, percent)
        for limit in ("requests_per_minute", "tokens_per_day")
        for percent in (50, 80, 95, 100)
    ]
    for event in events:
        assert event.used * 100 >= event.maximum * event.threshold_percent
        # Calls of one engine that come together are counted together.
        assert (event.used - CALLERS) * 100 < event.maximum * event.threshold_percent
