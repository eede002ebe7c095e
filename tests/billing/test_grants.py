# SPDX-License-Identifier: Apache-2.0
"""Which credits a subscription includes when: by arithmetic of their own, whatever is changed in between."""

from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from taximeter_server.billing_calendar import stamp
from taximeter_server.credit_grant import Grant
from taximeter_server.plan_terms import DAY, MONTH, Cadence, CreditTerms, PlanTerms
from taximeter_server.subscription import PhaseSettings, Subscription, begin
from taximeter_server.subscription_credits import AHEAD_MS, grants_at
from taximeter_server.subscriptions import SETTLED_MS

START_MS = int(datetime(2026, 1, 31, 10, tzinfo=UTC).timestamp()) * 1_000
MONTHLY = Cadence(MONTH, 1)
DAY_MS = 86_400_000


def terms(included: int, cadence: Cadence = MONTHLY, days: int | None = None) -> PlanTerms:
    """Return terms with so many microcredits."""
    found = CreditTerms(picos_per_microcredit=1, included_microcredits=included, included_expire_days=days)
    return PlanTerms(currency_code="USD", price_picos=0, cadence=cadence, credits=found)


def subscribe(plan: PlanTerms) -> Subscription:
    """Return a subscription to one plan."""
    phases = [PhaseSettings(plan="a", terms=plan)]
    return begin(tenant="t", time_zone="UTC", start_ms=START_MS, anchor_day=None, phases=phases)


def test_grants_are_made_for_a_period_and_shortly_before_the_next() -> None:
    """Each takes effect with its period and expires with it, so there is no gap and no overlap."""
    made = subscribe(terms(1_000_000))
    end_ms = int(datetime(2026, 2, 28, 10, tzinfo=UTC).timestamp()) * 1_000
    (first,) = grants_at(made, START_MS)
    assert (first.grant_id, first.amount_microcredits) == ("subscription.20260131T100000Z", 1_000_000)
    assert (first.effective_time_ms, first.expire_time_ms) == (START_MS, end_ms)

    assert grants_at(made, end_ms - AHEAD_MS - 1) == [first]
    (again, following) = grants_at(made, end_ms - AHEAD_MS)
    assert (again, following.effective_time_ms) == (first, end_ms)
    assert grants_at(made, end_ms) == [following]


def test_credits_may_outlive_their_period() -> None:
    """With days of their own they expire after these, with 0 never."""
    for days, expire_ms in ((90, START_MS + 90 * DAY_MS), (0, 0)):
        (grant,) = grants_at(subscribe(terms(1, days=days)), START_MS)
        assert grant.expire_time_ms == expire_ms


CHANGES = st.lists(
    st.tuples(
        st.integers(1, 40 * 86_400),
        st.sampled_from(["now", "end", "cancel", "nothing"]),
        st.integers(0, 10**12),
        st.sampled_from([MONTHLY, MONTHLY, Cadence(DAY, 7)]),
    ),
    max_size=12,
)


@settings(deadline=None)
@given(included=st.integers(0, 10**12), changes=CHANGES)
def test_what_was_granted_stays_as_it_is(included: int, changes: list[tuple[int, str, int, Cadence]]) -> None:
    """A grant never changes once it was made, and a period's grants are never more than its largest plan has."""
    made, now_ms = subscribe(terms(included)), START_MS
    seen: dict[str, Grant] = dict[str, Grant]()
    most: dict[str, int] = {}

    def look() -> None:
        for grant in grants_at(made, now_ms):
            assert seen.setdefault(grant.grant_id, grant) == grant
        for period in made.periods(now_ms + AHEAD_MS + 1):
            of_parts = [
                part.terms.credits.included_microcredits for part in period.parts if part.terms.credits
            ]
            most[stamp(period.start_ms)] = max([most.get(stamp(period.start_ms), 0), *of_parts])

    for wait_s, kind, amount, cadence in changes:
        look()
        period = made.period_at(now_ms)
        if period is None:
            break
        is_settled = any(0 < begin_ms - now_ms < SETTLED_MS for begin_ms in (period.start_ms, period.end_ms))
        at_ms = period.end_ms if kind == "end" else made.free_second(now_ms)
        if kind == "cancel":
            made = made.ended(at_ms)
        elif kind != "nothing" and not is_settled:
            made = made.with_plan("b", terms(amount, cadence), at_ms, continues=True)
        look()
        now_ms += wait_s * 1_000
    sums: dict[str, int] = {}
    for grant_id, grant in seen.items():
        start = grant_id.split(".")[1]
        sums[start] = sums.get(start, 0) + grant.amount_microcredits
    assert all(amount <= most[start] for start, amount in sums.items())
