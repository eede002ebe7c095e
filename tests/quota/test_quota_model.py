# SPDX-License-Identifier: Apache-2.0
"""Random histories of checks, records, limits and clocks: the store decides exactly as the model does."""

from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from quota import engine_calls
from quota.conftest import CLOCK_NOISE_MS_MAX, START_MS, Stepped
from quota.engine_calls import INPUT_PICOS, OUTPUT_PICOS
from quota.model import COST, DAY_S, MS, REQUESTS, TOKENS, Answer, Model, Status

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
steps_ms = st.one_of(
    st.integers(1, 12).map(lambda quarters: quarters * 250),
    st.sampled_from([58_750, 59_000, 60_000, 60_750, 61_000, 62_000]),
    st.sampled_from([DAY_MS // 2, DAY_MS - 1_000, DAY_MS, 2 * DAY_MS, 40 * DAY_MS]),
    st.sampled_from([-250, -1_000, -30_000, -DAY_MS, -2 * DAY_MS]),
)


def assert_same_limits(found: list[Status], expected: list[Status], now_ms: int) -> None:
    """Compare exactly, but for the moment that the store has moved on since the clock was set."""
    assert [exact_part(limit, now_ms) for limit in found] == [exact_part(limit, now_ms) for limit in expected]


def exact_part(limit: Status, now_ms: int) -> Status:
    """Return the limit with its wait counted from the clock as set, as its reset time is when not in the future."""
    wait_ms, reset_ms = limit.retry_after_ms, limit.reset_time_ms
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
    assert found.retry_after_ms == max(
        (limit.retry_after_ms for limit in found.limits if limit.exceeded), default=None
    )


class QuotaMachine(RuleBasedStateMachine):
    """One root tenant with levels below, on a clock that goes wherever it wants."""

    stepped: ClassVar[Stepped]
    numbers: ClassVar[Iterator[int]]

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.root = f"quota{next(self.numbers)}"
        self.clock = self.stepped
        self.engine = self.stepped.engine
        self.clock.set(START_MS)

    @property
    def today(self) -> int:
        """The current day, counted from 1970."""
        return self.clock.now_ms // DAY_MS

    @initialize(own=maxima, parent=maxima)
    def limit_two_levels(self, own: dict[int, int], parent: dict[int, int]) -> None:
        """Begin with limits on a level and on its parent."""
        self.put_limits("", parent)
        self.put_limits("/a", own)

    @rule(level=below, maxima=maxima)
    def put_limits(self, level: str, maxima: dict[int, int]) -> None:
        """Set the limits of a level."""
        engine_calls.put_limits(self.engine, self.root + level, maxima)
        self.model.put_limits(self.root + level, maxima, self.clock.now_ms)

    @rule(
        level=below,
        requests=st.integers(0, 5),
        tokens=st.none() | st.integers(0, 30),
        dry_run=st.booleans(),
    )
    def check(self, level: str, requests: int, tokens: int | None, dry_run: bool) -> None:  # noqa: FBT001
        """Ask whether a call may go on."""
        needs = {REQUESTS: requests, TOKENS: tokens or 0, COST: (tokens or 0) * INPUT_PICOS}
        found = engine_calls.check(
            self.engine, self.root + level, requests=requests, tokens=tokens, dry_run=dry_run
        )

        expected = self.model.check(self.root + level, needs, self.clock.now_ms, dry_run=dry_run)
        assert_same_answer(found, expected, self.clock.now_ms)

    @rule(
        level=below,
        tokens=st.integers(0, 20),
        output_tokens=st.integers(0, 5),
        occur_ago_ms=st.none() | st.sampled_from([0, DAY_MS, 3 * DAY_MS, -299_000]),
    )
    def record(self, level: str, tokens: int, output_tokens: int, occur_ago_ms: int | None) -> None:
        """Record usage of now, of an earlier day, or of a moment ahead."""
        now_ms = self.clock.now_ms
        occur_ms = now_ms - (occur_ago_ms or 0)
        cost_picos = tokens * INPUT_PICOS + output_tokens * OUTPUT_PICOS
        answer = engine_calls.record(
            self.engine,
            self.root + level,
            tokens=tokens,
            output_tokens=output_tokens,
            occur_time_ms=None if occur_ago_ms is None else occur_ms,
        )
        self.model.record(self.root + level, occur_ms // DAY_MS, tokens + output_tokens, cost_picos, now_ms)

        shown = [engine_calls.to_status(limit) for limit in answer.limits]
        assert_same_limits(shown, self.model.status(self.root + level, now_ms), now_ms)
        assert answer.cost.picos == cost_picos

    @rule(level=below)
    def look(self, level: str) -> None:
        """Look at the limits."""
        found = engine_calls.status(self.engine, self.root + level)

        assert_same_limits(found, self.model.status(self.root + level, self.clock.now_ms), self.clock.now_ms)

    @rule(step_ms=steps_ms)
    def step_the_clock(self, step_ms: int) -> None:
        """Let time pass, or the clock go back."""
        self.clock.advance(step_ms)

    @rule(before_ms=st.sampled_from([250, 1_000, 2_000]))
    def come_to_midnight(self, before_ms: int) -> None:
        """Come close to the end of the day."""
        self.clock.set((self.today + 1) * DAY_MS - before_ms)


def run_histories(stepped: Stepped, numbers: Iterator[int], count: int) -> None:
    """Run so many histories, the same ones every time."""
    QuotaMachine.stepped, QuotaMachine.numbers = stepped, numbers
    run_state_machine_as_test(
        QuotaMachine,
        settings=settings(
            max_examples=count,
            stateful_step_count=40,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_store_decides_as_the_model(stepped: Stepped, numbers: Iterator[int]) -> None:
    """Decisions, what is used and remains, resets and waits equal the model's after any history."""
    run_histories(stepped, numbers, 60)


@pytest.mark.wide
@pytest.mark.timeout(900)
def test_store_decides_as_the_model_for_long(stepped: Stepped, numbers: Iterator[int]) -> None:
    """Decisions equal the model's over thousands of histories."""
    run_histories(stepped, numbers, 3_000)
