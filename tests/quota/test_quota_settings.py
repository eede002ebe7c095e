# SPDX-License-Identifier: Apache-2.0
"""Limits that are only watched, temporary ones, and plans: each rule by an example."""

from collections.abc import Iterator

import pytest
from quota import engine_calls
from quota.conftest import Stepped
from quota.engine_calls import check, limits_of, put_limits, record, status
from quota.history_steps import DAY_MS
from quota.model_level import COST, MS, REQUESTS, TOKENS, Status

from taximeter_server import _native
from taximeter_server.limits import TemporaryLimits
from taximeter_server.tenants import Tenant

PLANS = ("default", "default-2", "limits-pro")


def put_watched(engine: engine_calls.Engine, tenant: str, maxima: dict[int, int], *kinds: int) -> None:
    """Set limits of which some are only watched."""
    engine.put_limits([Tenant(name=tenant, limits=limits_of(maxima, kinds))])


def maxima(engine: engine_calls.Engine, tenant: str) -> dict[tuple[str, int], int]:
    """Return the limits in force."""
    return {(limit.tenant, limit.kind): limit.maximum for limit in status(engine, tenant)}


def would_deny(limits: list[Status]) -> list[int]:
    """Return the limits that would have denied."""
    return [limit.kind for limit in limits if limit.would_deny]


@pytest.fixture
def planned(stepped: Stepped) -> Iterator[Stepped]:
    """A store whose plans are gone after the test: a default would be everybody's."""
    yield stepped
    for plan in PLANS:
        stepped.engine.put_plan(plan, None)


def test_watched_limit_counts_and_says_what_it_would_do(engine: _native.Engine, tenant: str) -> None:
    """A call over a limit in shadow is allowed and counted, and the answer names the limit and its wait."""
    put_watched(engine, tenant, {REQUESTS: 1, TOKENS: 100}, REQUESTS)
    answers = [check(engine, tenant) for _ in range(3)]

    assert [answer.allowed for answer in answers] == [True, True, True]
    assert [would_deny(answer.limits) for answer in answers] == [[], [REQUESTS], [REQUESTS]]
    assert all(not limit.exceeded for answer in answers for limit in answer.limits)
    watched = answers[2].limits[0]
    assert (watched.shadow, watched.used, watched.remaining) == (True, 3, 0)
    assert watched.retry_after_ms
    assert not answers[2].limits[1].shadow


def test_enforced_limit_denies_beside_a_watched_one(engine: _native.Engine, tenant: str) -> None:
    """What enforces decides, and the wait is its own; nothing is consumed, of the watched one neither."""
    put_watched(engine, tenant, {REQUESTS: 1}, REQUESTS)
    put_limits(engine, f"{tenant}/a", {TOKENS: 10})
    assert check(engine, f"{tenant}/a").allowed
    answer = check(engine, f"{tenant}/a", tokens=11)

    assert (answer.allowed, answer.retry_after_ms) == (False, None)
    assert would_deny(answer.limits) == [REQUESTS]
    assert [limit.used for limit in status(engine, f"{tenant}/a")] == [1, 0]


def test_watched_limit_of_zero_lets_everything_pass(engine: _native.Engine, tenant: str) -> None:
    """Also a hold is placed and grows past a limit that is only watched."""
    put_watched(engine, tenant, {TOKENS: 0}, TOKENS)
    placed = engine_calls.reserve(engine, tenant, tokens=5, ttl_s=60)
    grown = engine_calls.extend(engine, tenant, placed.hold_id, ttl_s=60, tokens=50)

    assert (placed.would_deny, grown.would_deny) == (True, True)
    assert [limit.held for limit in status(engine, tenant)] == [50]


def test_temporary_limits_end_by_themselves(stepped: Stepped, tenant: str) -> None:
    """They stand in for limits of their kind until their second, say when they end, and lose no usage."""
    noon_ms = (stepped.now_ms // DAY_MS + 1) * DAY_MS + DAY_MS // 2
    stepped.set(noon_ms)
    until_ms = noon_ms + 90 * MS
    put_limits(
        stepped.engine,
        tenant,
        {REQUESTS: 1, TOKENS: 10},
        temporary_limits=TemporaryLimits(limits=limits_of({TOKENS: 1_000}), until_ms=until_ms),
    )
    record(stepped.engine, tenant, tokens=500)
    assert check(stepped.engine, tenant, tokens=400).allowed
    shown = {limit.kind: limit for limit in status(stepped.engine, tenant)}
    assert (shown[TOKENS].maximum, shown[REQUESTS].maximum) == (1_000, 1)
    assert (shown[TOKENS].until_ms, shown[REQUESTS].until_ms) == (-(-until_ms // MS) * MS, None)

    stepped.set(shown[TOKENS].until_ms or 0)
    after = status(stepped.engine, tenant)[1]
    assert (after.maximum, after.used, after.until_ms) == (10, 500, None)
    assert not check(stepped.engine, tenant).allowed


def test_plan_changes_all_its_tenants_at_once(planned: Stepped, tenant: str) -> None:
    """A plan's limits lie under a tenant's own; a change is in force with the next call and loses no usage."""
    engine = planned.engine
    engine.put_plan("limits-pro", limits_of({REQUESTS: 5, TOKENS: 100}))
    put_limits(engine, tenant, {}, plan="limits-pro")
    put_limits(engine, f"{tenant}/own", {TOKENS: 7}, plan="limits-pro")
    record(engine, f"{tenant}/own", tokens=60)
    path = f"{tenant}/own"
    assert maxima(engine, path) == {
        (tenant, REQUESTS): 5,
        (tenant, TOKENS): 100,
        (path, REQUESTS): 5,
        (path, TOKENS): 7,
    }

    engine.put_plan("limits-pro", limits_of({TOKENS: 50, COST: 10**12}))
    assert maxima(engine, path) == {
        (tenant, TOKENS): 50,
        (tenant, COST): 10**12,
        (path, TOKENS): 7,
        (path, COST): 10**12,
    }
    assert [limit.used for limit in status(engine, tenant)] == [60, 60 * engine_calls.INPUT_PICOS]
    assert not check(engine, tenant).allowed


def test_defaults_are_for_levels_without_settings(planned: Stepped, tenant: str) -> None:
    """The plans called default hold for levels that nothing was set for, by depth; no limit set is a setting."""
    engine = planned.engine
    put_limits(engine, f"{tenant}-set", {})
    check(engine, f"{tenant}/person")
    engine.put_plan("default", limits_of({REQUESTS: 1_000}))
    engine.put_plan("default-2", limits_of({REQUESTS: 1}))

    assert maxima(engine, f"{tenant}/person") == {
        (tenant, REQUESTS): 1_000,
        (f"{tenant}/person", REQUESTS): 1,
    }
    assert not check(engine, f"{tenant}/person").allowed
    assert maxima(engine, f"{tenant}-set") == {}
    assert maxima(engine, f"{tenant}-set/person") == {(f"{tenant}-set/person", REQUESTS): 1}
    engine.put_plan("default", None)
    assert maxima(engine, tenant) == {}
