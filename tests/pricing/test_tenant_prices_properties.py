# SPDX-License-Identifier: Apache-2.0
"""Any card, any tenant's own prices, any call: list and charged prices agree with rationals."""

import random
from collections import Counter
from datetime import timedelta
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pricing.oracle import Oracle, OracleAnswer, OracleCall, OutOfRangeError
from pricing.tenant_oracle import Charge, TenantOracle
from pricing.test_pricing_properties import (
    CLASSES,
    DECLARED,
    EPOCH,
    MODELS,
    NAMES,
    card_yaml,
    cards,
    price_call,
    price_maps,
    rows,
)

from taximeter_server._native import PricedLine, RateCard, TenantPrices
from taximeter_server.rate_card import parse_rate_card
from taximeter_server.tenant_prices import parse_tenant_prices

CALLS_PER_CARD = 5
CALLS_PER_CARD_WIDE = 60
LINES_WIDE_MIN = 1_000_000
_USED = [*CLASSES, "never_heard_of"]
_SECONDS = 8 * 86_400


@st.composite
def tenant_prices(draw: st.DrawFn) -> dict[str, Any]:
    """Draw own prices as text in dictionaries."""
    body: dict[str, Any] = {
        "classes": DECLARED,
        "rate_card": {
            name: draw(rows()) for name in draw(st.lists(st.sampled_from(NAMES), max_size=3, unique=True))
        },
    }
    for row in body["rate_card"].values():
        for entry in row.get("when", []):
            # Not accepted in own prices.
            entry.pop("classes", None)
    if draw(st.booleans()):
        body["defaults"] = draw(price_maps)
    if draw(st.booleans()):
        markup = st.sampled_from([-10_000, -1_000, -1, 0, 1, 333, 2_500, 100_000])
        body["markup_basis_points"] = str(draw(markup | st.integers(-10_000, 100_000)))
    return {"billing": body}


def random_calls(chance: random.Random, count: int) -> list[OracleCall]:
    """Return calls of many classes; quicker than drawing them one by one."""
    return [
        OracleCall(
            model=chance.choice(MODELS),
            usage={name: _quantity(chance) for name in chance.sample(_USED, chance.randint(1, 14))},
            provider=chance.choice(["", "", "p", "openai"]),
            tier=chance.choice(["", "batch", "flex", "other"]),
            region=chance.choice(["", "us", "eu"]),
            speed=chance.choice(["", "fast"]),
            at=EPOCH + timedelta(seconds=chance.randint(-_SECONDS, _SECONDS)),
            calls=chance.choice([0, 1, 1, 2]),
        )
        for _ in range(count)
    ]


def _quantity(chance: random.Random) -> int:
    return chance.randint(0, chance.choice([20, 10**6, 10**6, 10**12, 2**48]))


def _expected(answer: OracleAnswer, charges: list[Charge]) -> list[tuple[Any, ...]]:
    return [
        (
            (line.usage_class, line.quantity, charge.priced_as, charge.billed_quantity),
            (charge.unit_picos, charge.cost_picos),
            (line.price and line.price.priced_as, line.billed_quantity, line.cost_picos),
            line.price and line.price.amount * 10**12 / line.price.per,
        )
        for line, charge in zip(answer.lines, charges, strict=True)
    ]


def _found(lines: list[PricedLine]) -> list[tuple[Any, ...]]:
    pairs = [(line, line.list_price) for line in lines if line.list_price]
    assert len(pairs) == len(lines)
    return [
        (
            (line.usage_class, line.quantity, line.priced_as, line.billed_quantity),
            (None if line.unpriced else Fraction(line.amount_picos, line.per), line.cost_picos),
            (list_price.priced_as, list_price.billed_quantity, list_price.cost_picos),
            list_price.priced_as and Fraction(list_price.amount_picos, list_price.per),
        )
        for line, list_price in pairs
    ]


def check_calls(card: dict[str, Any], own: dict[str, Any], calls: list[OracleCall]) -> int:
    """Compare every line of every call. Returns how many lines there were."""
    compiled = RateCard(parse_rate_card(card_yaml(card)).canonical_json)
    compiled_own = TenantPrices(parse_tenant_prices(card_yaml(own)).canonical_json)
    oracle = TenantOracle(Oracle(card), own)
    line_count = 0
    for call in calls:
        try:
            answer, charges = oracle.charge(call)
        except OutOfRangeError:
            with pytest.raises(OverflowError):
                price_call(compiled, call, compiled_own)
            continue

        priced = price_call(compiled, call, compiled_own)

        assert _found(priced.lines) == _expected(answer, charges)
        assert priced.cost_picos == sum(charge.cost_picos for charge in charges)
        assert priced.list_cost_picos == answer.cost_picos
        assert priced.row == answer.row
        line_count += len(charges)
    return line_count


@settings(max_examples=40, deadline=None)
@given(card=cards(), own=tenant_prices(), seed=st.integers(0, 2**32))
def test_any_tenant_is_charged_what_rationals_say(
    card: dict[str, Any], own: dict[str, Any], seed: int
) -> None:
    """List price and charged price of every line are exact, rounded once each."""
    check_calls(card, own, random_calls(random.Random(seed), CALLS_PER_CARD))


@pytest.mark.wide
@pytest.mark.timeout(3_600)
def test_a_million_lines_cost_what_rationals_say() -> None:
    """The same for at least a million lines of random cards, own prices and usage."""
    counted: Counter[str] = Counter()

    @settings(max_examples=5_000, deadline=None, suppress_health_check=list(HealthCheck))
    @given(card=cards(), own=tenant_prices(), seed=st.integers(0, 2**32))
    def check(card: dict[str, Any], own: dict[str, Any], seed: int) -> None:
        calls = random_calls(random.Random(seed), CALLS_PER_CARD_WIDE)
        counted["lines"] += check_calls(card, own, calls)
        counted["cards"] += 1

    while counted["lines"] < LINES_WIDE_MIN:
        check()
    print(f"{counted['lines']:,} lines of {counted['cards']:,} cards")  # noqa: T201 (figures of a wide run)
