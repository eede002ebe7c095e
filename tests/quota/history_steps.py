# SPDX-License-Identifier: Apache-2.0
"""What random histories are made of, and how what the store and the model say of them is compared."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

import pytest
from google.rpc import status_pb2
from hypothesis import strategies as st
from quota.conftest import CLOCK_NOISE_MS_MAX
from quota.engine_calls import INPUT_PICOS
from quota.model_level import COST, DAY_S, MS, REQUESTS, TOKENS, Answer, Hold, Maxima, Status

from harness.engine_process import EngineError
from harness.grpc_status import Refusal, refusal_of_status

LEVELS = ("", "/a", "/a/x", "/a/x/deep", "/a/y", "/b")
DAY_MS = DAY_S * MS

below = st.sampled_from(LEVELS)
# Small maxima and small steps, so that limits are met, missed and met again within a history.
maxima = st.fixed_dictionaries(
    {},
    optional={
        REQUESTS: st.integers(0, 12),
        TOKENS: st.integers(0, 60),
        COST: st.integers(0, 60).map(lambda tokens: tokens * INPUT_PICOS),
    },
)
kinds = st.sampled_from([REQUESTS, TOKENS, COST])
limits = st.builds(Maxima, maxima, st.frozensets(kinds, max_size=2))
PLANS = ("default", "default-2", "pro")
steps_ms = st.one_of(
    st.integers(1, 12).map(lambda quarters: quarters * 250),
    st.sampled_from([58_750, 59_000, 60_000, 60_750, 61_000, 62_000]),
    st.sampled_from([DAY_MS // 2, DAY_MS - 1_000, DAY_MS, 2 * DAY_MS, 40 * DAY_MS]),
    st.sampled_from([-250, -1_000, -30_000, -DAY_MS, -2 * DAY_MS]),
)


ttls_s = st.sampled_from([0, 1, 3, 60, 64, 65, 300, 3_600])
REMEMBER_S = 300

choices = st.integers(0, 2**16)
"""Which of what there is then; there may be nothing."""
UNDECIDED = "UNAVAILABLE"
ItemT = TypeVar("ItemT")


class History(Protocol):
    """What ends where the store decides nothing."""

    is_over: bool

    def end(self) -> None:
        """Do nothing more."""


def needs_of(requests: int, tokens: int) -> Mapping[int, int]:
    """Return what a call of so many input tokens needs, by kind."""
    return {REQUESTS: requests, TOKENS: tokens, COST: tokens * INPUT_PICOS}


def assert_same_limits(found: list[Status], expected: list[Status], now_ms: int) -> None:
    """Compare exactly, but for the moment that the store has moved on since the clock was set."""
    assert [exact_part(limit, now_ms) for limit in found] == [exact_part(limit, now_ms) for limit in expected]


def exact_part(limit: Status, now_ms: int) -> Status:
    """Return the limit with its wait counted from the clock as set, as its reset time is when not in the future."""
    wait_ms, reset_ms = limit.retry_after_ms, limit.reset_time_ms
    if reset_ms is None:
        return limit
    if wait_ms:
        assert 0 <= reset_ms - wait_ms - now_ms < CLOCK_NOISE_MS_MAX
        wait_ms = reset_ms - now_ms
    elif 0 <= reset_ms - now_ms < CLOCK_NOISE_MS_MAX:
        reset_ms = now_ms
    return replace(limit, retry_after_ms=wait_ms, reset_time_ms=reset_ms)


def assert_same_answer(found: Answer, expected: Answer, now_ms: int) -> None:
    """Compare a decision."""
    assert_same_limits(found.limits, expected.limits, now_ms)
    assert found.allowed == expected.allowed
    if found.retry_after_ms is None or expected.retry_after_ms is None:
        assert found.retry_after_ms == expected.retry_after_ms
    else:
        assert -CLOCK_NOISE_MS_MAX < found.retry_after_ms - expected.retry_after_ms <= 0


@dataclass
class Placed:
    """A hold as both sides know it."""

    hold_id: str
    hold: Hold
    known_until_ms: int
    """The store may have forgotten it after this."""


@dataclass
class Named:
    """A check that was decided under a name."""

    request_id: str
    tenant: str
    requests: int
    tokens: int
    ttl_s: int
    answer: Answer
    hold_id: str
    known_until_ms: int


def refusal_by(call: Callable[[], object]) -> Refusal:
    """Return why the store refuses a call. Raises EngineError where it decided nothing."""
    with pytest.raises(EngineError) as caught:
        call()
    refusal = refusal_of_status(status_pb2.Status.FromString(caught.value.status))
    if refusal.code == UNDECIDED:
        raise caught.value
    return refusal


def chosen(items: Sequence[ItemT], choice: int) -> ItemT | None:
    """Return one of some items; None when there is none."""
    return items[choice % len(items)] if items else None


def while_decided(step: Callable[..., None]) -> Callable[..., None]:
    """Make a step of a history that ends where the store decides nothing."""

    @functools.wraps(step)
    def run(machine: History, *given: Any, **drawn: Any) -> None:
        if machine.is_over:
            return
        try:
            step(machine, *given, **drawn)
        except EngineError as error:
            if refusal_of_status(status_pb2.Status.FromString(error.status)).code != UNDECIDED:
                raise
            machine.end()

    return run
