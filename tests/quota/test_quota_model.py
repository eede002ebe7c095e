# SPDX-License-Identifier: Apache-2.0
"""Random histories of checks, holds, records, limits and clocks: the store decides exactly as the model does.

A store that is too slow for a moment decides nothing, and leaves open what it did. A history ends there, but goes on
drawing: what is drawn never depends on what was answered, or hypothesis would take a slow machine for a wrong test.
"""

from collections.abc import Iterator, Sequence
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)
from quota import engine_calls
from quota.conftest import START_MS, Stepped
from quota.engine_calls import INPUT_PICOS, OUTPUT_PICOS
from quota.history_steps import (
    DAY_MS,
    PLANS,
    REMEMBER_S,
    Named,
    Placed,
    assert_same_answer,
    assert_same_limits,
    below,
    choices,
    chosen,
    limits,
    maxima,
    needs_of,
    refusal_by,
    steps_ms,
    ttls_s,
    while_decided,
)
from quota.model import Model
from quota.model_level import (
    HELD,
    MS,
    Hold,
    Maxima,
    Settings,
)

from taximeter.v1 import metering_service_pb2 as pb
from taximeter_server.limits import TemporaryLimits
from taximeter_server.tenants import Tenant


class QuotaMachine(RuleBasedStateMachine):
    """One root tenant with levels below, on a clock that goes wherever it wants."""

    stepped: ClassVar[Stepped]
    numbers: ClassVar[Iterator[int]]
    cut_short: ClassVar[int] = 0
    """Histories that ended because the store decided nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.root = f"quota{next(self.numbers)}"
        self.clock = self.stepped
        self.engine = self.stepped.engine
        self.clock.set(START_MS)
        self.placed: list[Placed] = []
        self.named: list[Named] = []
        self.names = 0
        self.is_over = False

    def end(self) -> None:
        """Do nothing more: what the store did last is not known."""
        self.is_over = True
        type(self).cut_short += 1

    @property
    def today(self) -> int:
        """The current day, counted from 1970."""
        return self.clock.now_ms // DAY_MS

    @initialize(own=maxima, parent=maxima, plans=st.tuples(*[st.none() | limits] * len(PLANS)))
    @while_decided
    def limit_two_levels(
        self, own: dict[int, int], parent: dict[int, int], plans: Sequence[Maxima | None]
    ) -> None:
        """Begin with limits on a level and on its parent, and some plans."""
        self.put_limits("", Maxima(parent), "", None, 0)
        self.put_limits("/a", Maxima(own), "", None, 0)
        for plan, found in zip(PLANS, plans, strict=True):
            self.put_plan(plan, found)

    @rule(
        level=below,
        own=limits,
        plan=st.sampled_from(["", "", *PLANS]),
        temporary=st.none() | limits,
        ttl_ms=st.sampled_from([-1_000, 1, 1_000, 1_250, 60_000, DAY_MS]),
    )
    @while_decided
    def put_limits(self, level: str, own: Maxima, plan: str, temporary: Maxima | None, ttl_ms: int) -> None:
        """Set the limits of a level."""
        until_ms = self.clock.now_ms + ttl_ms
        self.engine.put_limits(
            [
                Tenant(
                    name=self.root + level,
                    limits=engine_calls.limits_of(own.maxima, own.shadow),
                    plan=plan,
                    temporary_limits=None
                    if temporary is None
                    else TemporaryLimits(
                        limits=engine_calls.limits_of(temporary.maxima, temporary.shadow), until_ms=until_ms
                    ),
                )
            ]
        )
        settings = Settings(own, plan, temporary, -(-until_ms // MS) if temporary else 0)
        self.model.put_limits(self.root + level, settings, self.clock.now_ms)

    @rule(plan=st.sampled_from(PLANS), limits=st.none() | limits)
    @while_decided
    def put_plan(self, plan: str, limits: Maxima | None) -> None:
        """Set the limits of a plan, or remove it."""
        self.engine.put_plan(
            plan, None if limits is None else engine_calls.limits_of(limits.maxima, limits.shadow)
        )
        self.model.put_plan(plan, limits)

    @rule(
        level=below,
        requests=st.integers(0, 5),
        tokens=st.none() | st.integers(0, 30),
        dry_run=st.booleans(),
    )
    @while_decided
    def check(self, level: str, requests: int, tokens: int | None, dry_run: bool) -> None:  # noqa: FBT001
        """Ask whether a call may go on."""
        needs = needs_of(requests, tokens or 0)
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
    @while_decided
    def record(self, level: str, tokens: int, output_tokens: int, occur_ago_ms: int | None) -> None:
        """Record usage of now, of an earlier day, or of a moment ahead."""
        occur_ms = self.clock.now_ms - (occur_ago_ms or 0)
        self.record_usage(
            self.root + level, tokens, output_tokens, occur_ms, is_dated=occur_ago_ms is not None
        )

    def record_usage(
        self,
        tenant: str,
        tokens: int,
        output_tokens: int,
        occur_ms: int,
        *,
        is_dated: bool,
        placed: Placed | None = None,
    ) -> None:
        """Record usage on both sides."""
        now_ms = self.clock.now_ms
        cost_picos = tokens * INPUT_PICOS + output_tokens * OUTPUT_PICOS
        answer = engine_calls.record(
            self.engine,
            tenant,
            tokens=tokens,
            output_tokens=output_tokens,
            occur_time_ms=occur_ms if is_dated else None,
            hold_id=placed.hold_id if placed else "",
        )
        if answer.durability != pb.DURABILITY_COMMITTED:
            # The store was too slow: it may have the record, or get it later.
            self.end()
            return
        settlement = self.model.record(
            tenant,
            occur_ms // DAY_MS,
            tokens + output_tokens,
            cost_picos,
            now_ms,
            placed.hold if placed else None,
        )

        shown = [engine_calls.to_status(limit) for limit in answer.limits]
        assert_same_limits(shown, self.model.status(tenant, now_ms), now_ms)
        assert answer.cost.picos == cost_picos
        found = (answer.hold.state, answer.hold.over_tokens, answer.hold.over_cost_picos)
        assert (found if answer.HasField("hold") else None) == settlement

    @rule(
        level=below,
        requests=st.integers(0, 3),
        tokens=st.integers(0, 20),
        ttl_s=ttls_s,
        is_named=st.booleans(),
    )
    @while_decided
    def reserve(self, level: str, requests: int, tokens: int, ttl_s: int, is_named: bool) -> None:  # noqa: FBT001
        """Ask whether a call may go on, with a hold, by name, or both."""
        tenant, now_ms = self.root + level, self.clock.now_ms
        self.names += is_named
        request_id = f"request-{self.names:016}" if is_named else ""
        found = engine_calls.reserve(
            self.engine, tenant, requests=requests, tokens=tokens, ttl_s=ttl_s, request_id=request_id
        )
        expected, hold = self.model.reserve(tenant, needs_of(requests, tokens), now_ms, ttl_s)

        assert_same_answer(engine_calls.to_answer(found), expected, now_ms)
        assert not found.duplicate
        assert bool(found.hold_id) == (hold is not None)
        known_until_ms = now_ms + (ttl_s + REMEMBER_S) * MS
        if hold is not None:
            assert engine_calls.time_ms(found.hold_expire_time) == self.expire_ms(hold)
            self.placed.append(Placed(found.hold_id, hold, known_until_ms))
        if is_named:
            answer = engine_calls.to_answer(found)
            self.named.append(
                Named(request_id, tenant, requests, tokens, ttl_s, answer, found.hold_id, known_until_ms)
            )

    def expire_ms(self, hold: Hold) -> int:
        """Return when a hold expires by the store's clock, were it to go on from here."""
        ahead_s = self.model.status_of(hold.tenant, self.clock.now_ms).shift or 0
        return (hold.expiry[hold.tenant] - ahead_s) * MS

    @rule(choice=choices)
    @while_decided
    def repeat(self, choice: int) -> None:
        """Ask again by the same name: the same decision and hold, and nothing counts twice."""
        first = chosen(self.named, choice)
        if first is None:
            return
        found = engine_calls.reserve(
            self.engine,
            first.tenant,
            requests=first.requests,
            tokens=first.tokens,
            ttl_s=first.ttl_s,
            request_id=first.request_id,
        )
        expected = self.model.repeat(
            first.tenant, needs_of(first.requests, first.tokens), first.answer, self.clock.now_ms
        )

        assert_same_answer(engine_calls.to_answer(found), expected, self.clock.now_ms)
        assert (found.duplicate, found.hold_id) == (True, first.hold_id)

    @rule(choice=choices)
    @while_decided
    def reuse_a_name(self, choice: int) -> None:
        """Ask something else by a name that was used: an error, and nothing changes."""
        first = chosen(self.named, choice)
        if first is None:
            return
        refusal = refusal_by(
            lambda: engine_calls.reserve(
                self.engine, first.tenant, tokens=first.tokens + 1, request_id=first.request_id
            )
        )

        assert (refusal.code, refusal.reason) == ("ALREADY_EXISTS", "REQUEST_ID_CONFLICT")

    @rule(choice=choices, tokens=st.none() | st.integers(0, 40), ttl_s=st.sampled_from([1, 30, 200, 3_600]))
    @while_decided
    def extend(self, choice: int, tokens: int | None, ttl_s: int) -> None:
        """Let a hold live longer, and hold more."""
        placed, now_ms = chosen(self.placed, choice), self.clock.now_ms
        if placed is None:
            return
        hold = placed.hold
        expected, state = self.model.extend(hold, tokens or 0, (tokens or 0) * INPUT_PICOS, ttl_s, now_ms)
        if expected is None:
            refusal = refusal_by(
                lambda: engine_calls.extend(
                    self.engine, hold.tenant, placed.hold_id, ttl_s=ttl_s, tokens=tokens
                )
            )
            assert (refusal.code, refusal.reason) == ("FAILED_PRECONDITION", "HOLD_ENDED")
            assert pb.HoldState.Value(f"HOLD_STATE_{refusal.facts['state']}") == state
            return
        found = engine_calls.extend(self.engine, hold.tenant, placed.hold_id, ttl_s=ttl_s, tokens=tokens)

        assert state == HELD
        assert_same_answer(engine_calls.to_answer(found), expected, now_ms)
        assert engine_calls.time_ms(found.expire_time) == self.expire_ms(hold)
        if expected.allowed:
            placed.known_until_ms = self.expire_ms(hold) + REMEMBER_S * MS
            for named in self.named:
                if named.hold_id == placed.hold_id:
                    # The name is remembered by the same mark; where the clock went back, no longer than that.
                    named.known_until_ms = placed.known_until_ms

    @rule(choice=choices)
    @while_decided
    def release(self, choice: int) -> None:
        """Free a hold, or find out how it ended."""
        placed = chosen(self.placed, choice)
        if placed is None:
            return
        found = engine_calls.release(self.engine, placed.hold.tenant, placed.hold_id)

        assert found == self.model.release(placed.hold, self.clock.now_ms)

    @rule(choice=choices, tokens=st.integers(0, 30), output_tokens=st.integers(0, 5))
    @while_decided
    def settle(self, choice: int, tokens: int, output_tokens: int) -> None:
        """Record what a call with a hold used."""
        placed = chosen(self.placed, choice)
        if placed is None:
            return
        self.record_usage(
            placed.hold.tenant, tokens, output_tokens, self.clock.now_ms, is_dated=False, placed=placed
        )

    def teardown(self) -> None:
        """Leave no default to the tenants of other tests."""
        for plan in PLANS:
            self.engine.put_plan(plan, None)

    def forget(self) -> None:
        """Leave alone from now on what the store need not know any more."""
        now_ms = self.clock.now_ms
        self.placed = [placed for placed in self.placed if now_ms < placed.known_until_ms]
        self.named = [named for named in self.named if now_ms < named.known_until_ms]

    @rule(level=below)
    @while_decided
    def look(self, level: str) -> None:
        """Look at the limits."""
        found = engine_calls.status(self.engine, self.root + level)

        assert_same_limits(found, self.model.status(self.root + level, self.clock.now_ms), self.clock.now_ms)

    @rule(step_ms=steps_ms)
    @while_decided
    def step_the_clock(self, step_ms: int) -> None:
        """Let time pass, or the clock go back."""
        self.clock.advance(step_ms)
        self.forget()

    @rule(before_ms=st.sampled_from([250, 1_000, 2_000]))
    @while_decided
    def come_to_midnight(self, before_ms: int) -> None:
        """Come close to the end of the day."""
        self.clock.set((self.today + 1) * DAY_MS - before_ms)
        self.forget()


def run_histories(stepped: Stepped, numbers: Iterator[int], count: int) -> None:
    """Run so many histories, the same ones every time."""
    QuotaMachine.stepped, QuotaMachine.numbers, QuotaMachine.cut_short = stepped, numbers, 0
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
    assert QuotaMachine.cut_short <= count // 4


@pytest.mark.timeout(300)
def test_store_decides_as_the_model(stepped: Stepped, numbers: Iterator[int]) -> None:
    """Decisions, what is used and remains, resets and waits equal the model's after any history."""
    run_histories(stepped, numbers, 60)


@pytest.mark.wide
@pytest.mark.timeout(900)
def test_store_decides_as_the_model_for_long(stepped: Stepped, numbers: Iterator[int]) -> None:
    """Decisions equal the model's over thousands of histories."""
    run_histories(stepped, numbers, 3_000)
