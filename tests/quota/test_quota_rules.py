# SPDX-License-Identifier: Apache-2.0
"""What the contract says of quotas in words, each rule by an example."""

from collections.abc import Callable

import pytest
from google.rpc import status_pb2
from quota.engine_calls import INPUT_PICOS, check, put_limits, record, status
from quota.model_level import COST, REQUESTS, TOKENS, Status

from harness.grpc_status import refusal_of_status
from taximeter.v1 import metering_service_pb2 as pb
from taximeter_server import _native

COST_MAX = 2**63 - 1
DEAR_CARD = """
billing:
  rate_card:
    "m":
      input: 900
"""


def exceeded(limits: list[Status]) -> set[tuple[str, int]]:
    """Return which limits denied."""
    return {(limit.tenant, limit.kind) for limit in limits if limit.exceeded}


def used(engine: _native.Engine, tenant: str) -> list[tuple[str, int, int]]:
    """Return what is used of every limit."""
    return [(limit.tenant, limit.kind, limit.used) for limit in status(engine, tenant)]


def test_denial_consumes_nothing_and_names_every_failing_limit(engine: _native.Engine, tenant: str) -> None:
    """A denied call leaves every level as it was and names all limits that denied it, at all levels."""
    path = f"{tenant}/team/person"
    put_limits(engine, tenant, {REQUESTS: 10, TOKENS: 100, COST: 1_000 * INPUT_PICOS})
    put_limits(engine, f"{tenant}/team", {REQUESTS: 3, TOKENS: 1_000})
    put_limits(engine, path, {TOKENS: 70, COST: 70 * INPUT_PICOS})
    record(engine, path, tokens=40)
    check(engine, path, requests=2)
    before = used(engine, path)
    answer = check(engine, path, requests=2, tokens=61)

    assert not answer.allowed
    assert exceeded(answer.limits) == {
        (tenant, TOKENS),
        (f"{tenant}/team", REQUESTS),
        (path, TOKENS),
        (path, COST),
    }
    assert used(engine, path) == before
    assert answer.retry_after_ms == max(limit.retry_after_ms or 0 for limit in answer.limits)


@pytest.mark.parametrize(
    ("maxima", "requests", "tokens"),
    [
        ({REQUESTS: 0}, 1, 0),
        ({TOKENS: 0}, 1, None),
        ({COST: 0}, 1, None),
        ({REQUESTS: 3}, 4, 0),
        ({TOKENS: 10}, 1, 11),
        ({COST: 10 * INPUT_PICOS, REQUESTS: 100}, 1, 11),
    ],
)
def test_where_no_wait_helps_none_is_named(
    maxima: dict[int, int], requests: int, tokens: int | None, engine: _native.Engine, tenant: str
) -> None:
    """A limit of 0, or smaller than what the call needs, has neither a reset nor a wait, nor has the whole answer."""
    put_limits(engine, tenant, maxima)
    answer = check(engine, tenant, requests=requests, tokens=tokens)
    denied = [limit for limit in answer.limits if limit.exceeded]

    assert (answer.allowed, answer.retry_after_ms) == (False, None)
    assert [(limit.reset_time_ms, limit.retry_after_ms) for limit in denied] == [(None, None)]


def test_child_denial_does_not_charge_the_parent(engine: _native.Engine, tenant: str) -> None:
    """A thousand calls denied at a child cost its parent and its siblings nothing."""
    put_limits(engine, tenant, {REQUESTS: 5})
    put_limits(engine, f"{tenant}/greedy", {REQUESTS: 1})
    outcomes = [check(engine, f"{tenant}/greedy").allowed for _ in range(1_000)]
    sibling = [check(engine, f"{tenant}/modest").allowed for _ in range(5)]

    assert (sum(outcomes), sum(sibling)) == (1, 4)


def test_dry_run_consumes_nothing(engine: _native.Engine, tenant: str) -> None:
    """A dry run decides as the call would be decided and consumes nothing, however often."""
    put_limits(engine, tenant, {REQUESTS: 1})
    dry = [check(engine, tenant, dry_run=True).allowed for _ in range(50)]
    first, second = check(engine, tenant), check(engine, tenant)
    full = check(engine, tenant, dry_run=True)

    assert (set(dry), first.allowed, second.allowed, full.allowed) == ({True}, True, False, False)


@pytest.mark.parametrize("kind", [REQUESTS, TOKENS, COST])
def test_zero_denies_and_absent_does_not(kind: int, engine: _native.Engine, tenant: str) -> None:
    """A limit of 0 denies every call; no limit denies none and is not shown."""
    put_limits(engine, f"{tenant}-none", {})
    put_limits(engine, tenant, {kind: 0})
    denied = check(engine, tenant)

    assert check(engine, f"{tenant}-none").allowed
    assert check(engine, f"{tenant}-none").limits == []
    assert check(engine, f"{tenant}-never-seen", requests=1_000_000, tokens=10_000_000_000).allowed
    assert exceeded(denied.limits) == {(tenant, kind)}


@pytest.mark.parametrize(
    ("kind", "maximum"), [(REQUESTS, 1_000_000_000), (TOKENS, 1_000_000_000_000_000), (COST, COST_MAX)]
)
def test_largest_limits_are_kept_exactly(
    kind: int, maximum: int, engine: _native.Engine, tenant: str
) -> None:
    """The largest maxima are stored, shown and subtracted from to the last unit."""
    put_limits(engine, tenant, {kind: maximum})
    check(engine, tenant, requests=7)
    record(engine, tenant, tokens=7)
    (limit,) = status(engine, tenant)

    expected = {REQUESTS: 7, TOKENS: 7, COST: 7 * INPUT_PICOS}[kind]
    assert (limit.maximum, limit.used, limit.remaining) == (maximum, expected, maximum - expected)


def test_the_last_unit_fits_and_one_more_does_not(engine: _native.Engine, tenant: str) -> None:
    """A call that takes exactly what remains passes; one unit more is denied."""
    put_limits(engine, tenant, {REQUESTS: 10, TOKENS: 100, COST: 100 * INPUT_PICOS})
    record(engine, tenant, tokens=90)

    assert not check(engine, tenant, tokens=11).allowed
    assert check(engine, tenant, tokens=10).allowed
    assert not check(engine, tenant, requests=10).allowed
    assert check(engine, tenant, requests=9).allowed
    assert not check(engine, tenant).allowed


def test_call_without_an_estimate_needs_some_room(engine: _native.Engine, tenant: str) -> None:
    """Without an estimate a call passes while a limit has any room, and not when it is used up or overdrawn."""
    put_limits(engine, tenant, {TOKENS: 100, COST: 100 * INPUT_PICOS})
    record(engine, tenant, tokens=99)
    assert check(engine, tenant).allowed
    record(engine, tenant, tokens=1)
    assert not check(engine, tenant).allowed
    record(engine, tenant, tokens=1_000_000)
    answer = check(engine, tenant)

    assert exceeded(answer.limits) == {(tenant, TOKENS), (tenant, COST)}
    assert [limit.remaining for limit in answer.limits] == [0, 0]


def test_usage_is_recorded_beyond_every_limit(engine: _native.Engine, tenant: str) -> None:
    """A record is never refused for a quota, and says which limits are used up."""
    put_limits(engine, tenant, {REQUESTS: 0, TOKENS: 10, COST: 0})
    answer = record(engine, tenant, tokens=1_000)

    assert answer.durability == pb.DURABILITY_COMMITTED
    assert [limit.exceeded for limit in answer.limits] == [True, True, True]
    assert used(engine, tenant)[1:] == [(tenant, TOKENS, 1_000), (tenant, COST, 1_000 * INPUT_PICOS)]


def test_changed_limits_hold_at_once_and_keep_usage(
    engine: _native.Engine, make_engine: Callable[..., _native.Engine], tenant: str
) -> None:
    """A limit set on one instance decides the next call on another, by what was used before it was set."""
    other = make_engine()
    for _ in range(7):
        assert check(engine, tenant).allowed
    record(engine, tenant, tokens=70)
    put_limits(other, tenant, {REQUESTS: 7, TOKENS: 70})
    denied = check(engine, tenant)
    put_limits(engine, tenant, {REQUESTS: 8, TOKENS: 71})
    allowed = check(other, tenant)
    put_limits(engine, tenant, {})
    put_limits(other, tenant, {REQUESTS: 100, TOKENS: 100})

    assert exceeded(denied.limits) == {(tenant, REQUESTS), (tenant, TOKENS)}
    assert allowed.allowed
    assert not check(other, tenant, requests=93).allowed
    assert used(engine, tenant) == [(tenant, REQUESTS, 8), (tenant, TOKENS, 70)]


def test_check_after_a_record_reflects_it_everywhere(
    engine: _native.Engine, make_engine: Callable[..., _native.Engine], tenant: str
) -> None:
    """A check sent after a record was answered sees it, on any instance."""
    other = make_engine()
    put_limits(engine, tenant, {TOKENS: 1_000_000})
    for count in range(1, 301):
        record(engine if count % 2 else other, tenant, tokens=1)
        answer = check(other if count % 2 else engine, tenant, dry_run=True)
        assert answer.limits[0].used == count


def test_counter_that_would_overflow_refuses_before_writing(
    make_engine: Callable[..., _native.Engine], tenant: str
) -> None:
    """A day's cost beyond 2^63 - 1 pico-units is refused, at the level that is full, and changes no level."""
    engine = make_engine(DEAR_CARD)
    put_limits(engine, tenant, {TOKENS: 10**15, COST: COST_MAX})
    put_limits(engine, f"{tenant}/a", {COST: COST_MAX})
    record(engine, f"{tenant}/b", tokens=10_000_000_000)
    before = used(engine, f"{tenant}/a")
    with pytest.raises(_native.RpcError) as caught:
        record(engine, f"{tenant}/a", tokens=10_000_000_000)
    refusal = refusal_of_status(status_pb2.Status.FromString(caught.value.args[2]))

    assert (refusal.code, refusal.reason) == ("OUT_OF_RANGE", "COUNTER_OVERFLOW")
    assert used(engine, f"{tenant}/a") == before
    assert before[1] == (tenant, COST, 9_000_000_000_000_000_000)
    # What still fits, fits.
    record(engine, f"{tenant}/a", tokens=1_000)


def test_cost_of_one_line_beyond_64_bits_is_refused(
    make_engine: Callable[..., _native.Engine], tenant: str
) -> None:
    """A line that costs more than 2^63 - 1 pico-units is refused, whether recorded or estimated."""
    engine = make_engine(DEAR_CARD.replace("900", "1000"))
    put_limits(engine, tenant, {COST: COST_MAX})
    for call in (record, check):
        with pytest.raises(_native.RpcError) as caught:
            call(engine, tenant, tokens=10_000_000_000)
        refusal = refusal_of_status(status_pb2.Status.FromString(caught.value.args[2]))
        assert (refusal.code, refusal.reason) == ("OUT_OF_RANGE", "COST_OUT_OF_RANGE")

    assert used(engine, tenant) == [(tenant, COST, 0)]
