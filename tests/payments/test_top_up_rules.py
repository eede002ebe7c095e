# SPDX-License-Identifier: Apache-2.0
"""When credits are bought by themselves, what they cost, and when a card that was declined is charged again."""

from dataclasses import replace

import pytest

from taximeter_server.payment_job import JobKind, JobState, PaymentJob
from taximeter_server.payment_provider import PushError
from taximeter_server.plan_terms import CreditTerms, TopUpTerms
from taximeter_server.top_up import (
    DONE,
    FAILED,
    PENDING,
    READY,
    SUSPENDED,
    WAITING,
    TopUp,
    next_time,
    price_minor,
)

DAY_MS, HOUR_MS = 86_400_000, 3_600_000
NOON_MS = 20_000 * DAY_MS + 12 * HOUR_MS
TERMS = TopUpTerms(
    amount_microcredits=500_000_000,
    price_picos=45 * 10**11,
    threshold_microcredits=100_000_000,
    cooldown_s=3_600,
    daily_count_max=2,
)


def bought(at_ms: int, state: str = DONE, *, by_hand: bool = False) -> TopUp:
    """Return a purchase that was begun at a time and over a minute later."""
    return TopUp(
        tenant="acme",
        request_id=f"{'order' if by_hand else 'auto.'}{at_ms}",
        amount_microcredits=1,
        price_minor=1,
        currency_code="USD",
        create_time_ms=at_ms,
        state=state,
        finish_time_ms=None if state == PENDING else at_ms + 60_000,
    )


@pytest.mark.parametrize(
    ("top_ups", "expected"),
    [
        ([], (READY, None)),
        ([bought(NOON_MS - 1, PENDING, by_hand=True)], (PENDING, None)),
        ([bought(NOON_MS - HOUR_MS + 1)], (WAITING, NOON_MS + 1)),
        ([bought(NOON_MS - HOUR_MS)], (READY, None)),
        ([bought(NOON_MS - 1, by_hand=True)], (READY, None)),
        ([bought(NOON_MS - 2 * HOUR_MS), bought(NOON_MS - 5 * HOUR_MS)], (WAITING, NOON_MS + 12 * HOUR_MS)),
        ([bought(NOON_MS - 2 * HOUR_MS), bought(NOON_MS - 13 * HOUR_MS)], (READY, None)),
        ([bought(NOON_MS - 2 * HOUR_MS, FAILED)], (SUSPENDED, None)),
        ([bought(NOON_MS - 2 * HOUR_MS, FAILED), bought(NOON_MS - HOUR_MS, by_hand=True)], (READY, None)),
        (
            [bought(NOON_MS - 2 * HOUR_MS, FAILED), bought(NOON_MS - HOUR_MS, FAILED, by_hand=True)],
            (SUSPENDED, None),
        ),
    ],
)
def test_what_may_be_bought(top_ups: list[TopUp], expected: tuple[str, int | None]) -> None:
    """One at a time, after the cooldown, so many a UTC day, and not after a failure that nobody has looked at."""
    assert next_time(TERMS, top_ups, NOON_MS) == expected


@pytest.mark.parametrize(
    ("terms", "microcredits", "expected"),
    [
        (TERMS, 500_000_000, 450),
        (TERMS, 1_000_000, 1),
        (TERMS, 500_000, 0),
        (replace(TERMS, price_picos=10**12, amount_microcredits=3_000_000), 1_000_000, 33),
        # Three tenths of a pico-unit less than one and a half cents.
        (replace(TERMS, price_picos=10**12, amount_microcredits=10**13), 149_999_999_997, 1),
        (None, 1_000_000, 1),
        (None, 1_500_000_000, 1_500),
    ],
)
def test_what_credits_cost(terms: TopUpTerms | None, microcredits: int, expected: int) -> None:
    """Credits cost what the plan's top-up does in proportion, else what they stand for, in whole cents."""
    credit_terms = CreditTerms(picos_per_microcredit=10_000, top_up=terms)
    assert price_minor(credit_terms, 10_000, microcredits, "USD") == expected


def test_a_declined_card_is_charged_again_with_patience() -> None:
    """After an hour, a day, and three days; then the charge is given up until somebody retries it."""
    job = PaymentJob(job_id="top-up/acme/1", kind=JobKind.TOP_UP, tenant="acme", create_time_ms=0)
    waits_s = []
    for _ in range(4):
        job = job.begun(0).failed(
            PushError("the card was declined", is_decline=True), time_ms=0, jitter_percent=0
        )
        waits_s.append(None if job.next_attempt_time_ms is None else job.next_attempt_time_ms // 1_000)

    assert waits_s == [3_600, 86_400, 259_200, None]
    assert (job.state, job.decline_count, job.again(5).state) == (JobState.FAILED, 4, JobState.PENDING)
