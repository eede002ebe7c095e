# SPDX-License-Identifier: Apache-2.0
"""Plans as YAML files: what is read, and that everything wrong is said at once with its line."""

import pytest

from taximeter_server.limits import Limits
from taximeter_server.plan_terms import DAY, MONTH, Cadence, CreditTerms, PlanTerms, TopUpTerms
from taximeter_server.plan_yaml import PlanInvalidError, read_plan
from taximeter_server.plans import Plan

WHOLE = """
name: pro
display_name: Pro
limits:
  requests_per_minute: 600
  cost_per_day: 12.500000000001
  shadow: [cost_per_day, requests_per_minute]
price: 49.00
currency: USD
cadence: 3 months
due_days: 30
credits:
  price: 0.01
  included: 10000
  expire: 90 days
  overage: {price: 0.012, policy: allow}
  top_up: {amount: 1000, price: 9.50, below: 250.5, cooldown: 2 hours, daily_max: 3}
"""


def test_every_field_is_read_exactly() -> None:
    """Amounts are pico-units, credits are microcredits, and nothing passes through a float."""
    assert read_plan(WHOLE) == Plan(
        name="pro",
        display_name="Pro",
        limits=Limits(
            requests_per_minute=600,
            cost_per_day_picos=12_500_000_000_001,
            shadow=("requests_per_minute", "cost_per_day"),
        ),
        terms=PlanTerms(
            currency_code="USD",
            price_picos=49 * 10**12,
            cadence=Cadence(MONTH, 3),
            due_days=30,
            credits=CreditTerms(
                picos_per_microcredit=10_000,
                included_microcredits=10_000_000_000,
                included_expire_days=90,
                overage_picos=12_000_000_000,
                overage_policy="allow",
                top_up=TopUpTerms(
                    amount_microcredits=1_000_000_000,
                    price_picos=9_500_000_000_000,
                    threshold_microcredits=250_500_000,
                    cooldown_s=7_200,
                    daily_count_max=3,
                ),
            ),
        ),
    )
    plan = read_plan(WHOLE)
    assert Plan.from_json(plan.to_json()) == plan


def test_what_is_left_out_has_its_default() -> None:
    """A plan without a price has no terms; one with a price is due in 14 days and has no credits."""
    assert read_plan("name: free\n").terms is None
    assert read_plan("name: p\nprice: 1\ncurrency: EUR\ncadence: 30 days\n").terms == PlanTerms(
        currency_code="EUR", price_picos=10**12, cadence=Cadence(DAY, 30)
    )


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        pytest.param("", [(0, "")], id="an empty file"),
        pytest.param("- a\n", [(1, "")], id="no mapping"),
        pytest.param("price: 1\n", [(1, "cadence"), (1, "currency"), (1, "name")], id="what is required"),
        pytest.param(
            "name: p\nprice: -1\ncurrency: USD\ncadence: fortnight\ncolor: red\n",
            [(2, "price"), (4, "cadence"), (5, "color")],
            id="several at once",
        ),
        pytest.param("name: Pro\n", [(1, "name")], id="a name with capitals"),
        pytest.param(
            "name: p\nprice: 1\ncurrency: ABC\ncadence: 13 months\n",
            [(3, "currency"), (4, "cadence")],
            id="out of range",
        ),
        pytest.param(
            "name: p\nlimits: {tokens_per_day: 1.5}\n", [(2, "limits.tokens_per_day")], id="a fraction"
        ),
        pytest.param("name: p\nlimits: {shadow: tokens}\n", [(2, "limits.shadow")], id="an unknown limit"),
        pytest.param(
            "name: p\nprice: 1\ncurrency: USD\ncadence: month\ncredits: {included: 0.0000001, expire: soon}\n",
            [(5, "credits.expire"), (5, "credits.included"), (5, "credits.price")],
            id="credits without a price",
        ),
        pytest.param("name: p\nprice: &a 1\n", [(2, "price")], id="an anchor"),
    ],
)
def test_everything_wrong_is_said_with_its_line(text: str, problems: list[tuple[int, str]]) -> None:
    """Each problem names its line and field; nothing is read of a file that has one."""
    with pytest.raises(PlanInvalidError) as refused:
        read_plan(text)

    found = {(problem.line, problem.field) for problem in refused.value.problems}
    assert found >= set(problems), refused.value.problems
