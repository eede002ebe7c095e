# SPDX-License-Identifier: Apache-2.0
"""Periods: where they begin and end, and which plan holds in which part of them."""

from datetime import UTC, datetime
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taximeter_server.billing_calendar import Anchor, spans
from taximeter_server.invoice import PLAN
from taximeter_server.invoice_draft import Key, plan_amounts
from taximeter_server.plan_terms import CADENCE_COUNTS_MAX, DAY, MONTH, YEAR, Cadence, PlanTerms
from taximeter_server.subscription import Period, PhaseSettings, Subscription, begin

MONTHLY, YEARLY = Cadence(MONTH, 1), Cadence(YEAR, 1)
ZONES = ("UTC", "Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Apia")


def ms(text: str) -> int:
    """Return an instant in UTC."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000


def terms(price: int, cadence: Cadence = MONTHLY) -> PlanTerms:
    """Return terms of so many pico-units."""
    return PlanTerms(currency_code="USD", price_picos=price, cadence=cadence)


def starts(subscription: Subscription, until: str) -> list[str]:
    """Return the starts of periods in UTC."""
    found = subscription.periods(ms(until))
    return [datetime.fromtimestamp(one.start_ms / 1_000, UTC).strftime("%m-%d %H:%M") for one in found]


def one_plan(start: str, *, zone: str = "UTC", anchor_day: int | None = None) -> Subscription:
    """Return a subscription to one monthly plan without end."""
    phases = [PhaseSettings(plan="a", terms=terms(30))]
    return begin(tenant="t", time_zone=zone, start_ms=ms(start), anchor_day=anchor_day, phases=phases)


@pytest.mark.parametrize(
    ("subscription", "expected"),
    [
        pytest.param(
            one_plan("2027-12-31T10:00:00"),
            ["12-31 10:00", "01-31 10:00", "02-29 10:00", "03-31 10:00", "04-30 10:00", "05-31 10:00"],
            id="31 to 29 and back in a leap year",
        ),
        pytest.param(
            one_plan("2026-02-28T10:00:00"),
            ["02-28 10:00", "03-28 10:00", "04-28 10:00", "05-28 10:00"],
            id="28 stays 28",
        ),
        pytest.param(
            one_plan("2026-02-10T10:00:00", anchor_day=31),
            ["02-10 10:00", "02-28 00:00", "03-31 00:00", "04-30 00:00", "05-31 00:00"],
            id="a short first period up to the anchor day",
        ),
        pytest.param(
            one_plan("2026-02-10T10:00:00", zone="Europe/Berlin", anchor_day=1),
            ["02-10 10:00", "02-28 23:00", "03-31 22:00", "04-30 22:00", "05-31 22:00"],
            id="midnight of the tenant's zone, in summer and winter",
        ),
    ],
)
def test_periods_begin_on_the_anchor_day(subscription: Subscription, expected: list[str]) -> None:
    """A month that lacks the day has its last one instead, and the next that has it comes back to it."""
    until = "2028-06-01T00:00:00" if expected[0].startswith("12") else "2026-06-01T00:00:00"

    assert starts(subscription, until) == expected


def test_phases_follow_each_other() -> None:
    """After a trial periods begin anew; a plan that follows where a period ends keeps the anchor day."""
    phases = [
        PhaseSettings(plan="t", terms=terms(30), duration=Cadence(DAY, 14), is_trial=True),
        PhaseSettings(plan="a", terms=terms(30), duration=Cadence(MONTH, 1)),
        PhaseSettings(plan="b", terms=terms(60), duration=Cadence(MONTH, 2)),
    ]
    made = begin(
        tenant="t", time_zone="UTC", start_ms=ms("2026-01-17T10:00:00"), anchor_day=None, phases=phases
    )

    found = [
        (datetime.fromtimestamp(one.start_ms / 1_000, UTC).strftime("%m-%d"), one.parts[0].plan)
        for one in made.periods(ms("2027-01-01T00:00:00"))
    ]
    assert found == [("01-17", "t"), ("01-31", "a"), ("02-28", "b"), ("03-31", "b")]
    assert made.end_ms == ms("2026-04-30T10:00:00")
    assert Subscription.from_json(made.to_json()) == made


def price_of(period: Period) -> Fraction:
    """Return what a period costs, by the book: each plan its share of the seconds of a whole period."""
    return sum(
        (
            Fraction(
                part.terms.price_picos * (part.end_ms - part.start_ms), 1_000 * period.span.whole_seconds
            )
            for part in period.parts
            if not part.is_trial
        ),
        Fraction(0),
    )


CADENCES = st.sampled_from([DAY, MONTH, YEAR]).flatmap(
    lambda unit: st.integers(1, CADENCE_COUNTS_MAX[unit]).map(lambda count: Cadence(unit, count))
)
CHANGES = st.lists(
    st.tuples(
        st.integers(0, 3 * 366 * 86_400),
        st.sampled_from(["now", "end", "cancel"]),
        st.integers(0, 10**15),
        CADENCES,
    ),
    max_size=6,
)


@settings(deadline=None)
@given(
    zone=st.sampled_from(ZONES),
    start_s=st.integers(ms("2024-01-01T00:00:00") // 1_000, ms("2027-01-01T00:00:00") // 1_000),
    anchor_day=st.none() | st.integers(1, 31),
    price=st.integers(0, 10**15),
    cadence=CADENCES,
    changes=CHANGES,
)
def test_periods_have_no_gaps_and_prices_are_exact(
    zone: str,
    start_s: int,
    anchor_day: int | None,
    price: int,
    cadence: Cadence,
    changes: list[tuple[int, str, int, Cadence]],
) -> None:
    """Whatever changes when: periods and parts join, each part costs its share, and the last takes the remainder."""
    phases = [PhaseSettings(plan="p", terms=terms(price, cadence))]
    made = begin(tenant="t", time_zone=zone, start_ms=start_s * 1_000, anchor_day=anchor_day, phases=phases)
    for number, (offset_s, kind, new_price, new_cadence) in enumerate(
        sorted(changes, key=lambda one: one[0])
    ):
        at_ms = (start_s + offset_s) * 1_000
        period = made.period_at(at_ms)
        if period is None:
            break
        at_ms = period.end_ms if kind == "end" else at_ms
        made = (
            made.ended(at_ms)
            if kind == "cancel"
            else made.with_plan(f"p{number}", terms(new_price, new_cadence), at_ms, continues=True)
        )
    until_ms = (start_s + 3 * 366 * 86_400) * 1_000
    periods = list(made.periods(until_ms))
    ends = [one.end_ms for one in periods]
    assert [one.start_ms for one in periods] == [made.start_ms, *ends[:-1]][: len(periods)]
    assert made.end_ms is None or not periods or ends[-1] <= made.end_ms
    for period in periods:
        parts = period.parts
        assert [part.start_ms for part in parts] == [period.start_ms, *(part.end_ms for part in parts[:-1])]
        assert parts[-1].end_ms == period.end_ms
        amounts = plan_amounts(period)
        assert sum(amount.picos for amount in amounts.values()) == round(price_of(period))
        for part in parts[:-1]:
            share = Fraction(
                part.terms.price_picos * (part.end_ms - part.start_ms), 1_000 * period.span.whole_seconds
            )
            assert amounts[Key(part.start_ms, PLAN, part.plan)].picos == share // 1


@settings(deadline=None)
@given(zone=st.sampled_from(ZONES), start_s=st.integers(0, 4 * 10**9), cadence=CADENCES)
def test_a_period_that_is_whole_costs_the_whole_price(zone: str, start_s: int, cadence: Cadence) -> None:
    """Without an anchor day of its own the first period is a whole one, but for the hour that a clock shows twice."""
    anchor = Anchor.at(start_s * 1_000, zone)
    first = next(spans(anchor, cadence, zone, start_s * 1_000, None))

    assert start_s * 1_000 - first.whole_start_ms in {0, 1_800_000, 3_600_000}
    assert first.whole_end_ms == first.end_ms
