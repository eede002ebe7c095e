# SPDX-License-Identifier: Apache-2.0
"""Any card and any call: the compiled pricing agrees with rationals, and equal cards have equal ids."""

import json
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pricing.oracle import DAYS, Oracle, OracleCall, OutOfRangeError

from taximeter_server._native import PricedCall, RateCard, TenantPrices
from taximeter_server.rate_card import parse_rate_card

CLASSES = [
    "input",
    "cache_read",
    "cache_write",
    "cache_write_1h",
    "output",
    "reasoning",
    "input_audio",
    "cache_read_audio",
    "output_image",
    "web_searches",
    "tool_calls",
    "sandbox_ms",
    "citation",
    "citation_audio",
    "gpu_ms",
]
DECLARED = {
    "citation": {"parent": "input"},
    "citation_audio": {"parent": "citation", "per": "1e3"},
    "gpu_ms": {"per": "3600000"},
}
NAMES = ["m", "m-x", "m*", "*x", "p/m", "us.m", "m-2025-01-02", "n*x*"]
MODELS = [
    *NAMES[:2],
    *NAMES[4:7],
    "",
    "q",
    "mm",
    "xx",
    "m-latest",
    "us.anthropic.m-20250102-v1:0",
    "openai/m",
    "n-x-1",
]
EPOCH = datetime(2026, 3, 1, tzinfo=UTC)
FEW = settings(max_examples=40, deadline=None)
MANY = settings(max_examples=2_000, deadline=None)

decimals = st.one_of(
    st.sampled_from(["0", "3", "0.30", "0.003625", "0.000000000001", "1.5e-3", "2E2", ".5"]),
    st.builds(lambda number, places: f"{number}e-{places}", st.integers(0, 10**5), st.integers(0, 12)),
)
factors = st.sampled_from(["0", "0.5", "1.1", "2", "0.333333333333", "0.1", "1", "1.000000000001"])
prices = st.one_of(
    decimals,
    st.fixed_dictionaries(
        {"price": decimals},
        optional={
            "per": st.sampled_from(["1", "3", "7", "1000000", "1e6"]),
            "min": st.sampled_from(["0", "1", "10000"]),
        },
    ),
)
price_maps = st.dictionaries(st.sampled_from(CLASSES), prices, max_size=5)
minutes = st.integers(0, 24 * 60 - 1).map(lambda minute: f"{minute // 60:02}:{minute % 60:02}")
windows = st.tuples(minutes, minutes).filter(lambda pair: pair[0] != pair[1]).map("-".join)


def _some(values: list[str]) -> st.SearchStrategy[Any]:
    one = st.sampled_from(values)
    return one | st.lists(one, min_size=1, max_size=3)


@st.composite
def overlays(draw: st.DrawFn) -> dict[str, Any]:
    """Draw an entry of when that changes something."""
    conditions = draw(
        st.fixed_dictionaries(
            {},
            optional={
                "tier": _some(["batch", "flex"]),
                "region": _some(["us", "eu"]),
                "speed": _some(["fast"]),
                "utc": windows | st.lists(windows, min_size=1, max_size=3),
                "days": _some(DAYS),
            },
        )
    )
    dates = sorted(draw(st.lists(st.integers(0, 60), max_size=2, unique=True)))
    for name, day in zip(
        draw(st.permutations(["from", "until"])) if len(dates) == 1 else ["from", "until"],
        dates,
        strict=False,
    ):
        conditions[name] = (EPOCH + timedelta(hours=day)).strftime("%Y-%m-%dT%H:%M:%SZ")
    effects: dict[str, Any] = dict(draw(price_maps))
    if not effects or draw(st.booleans()):
        effects["multiply"] = draw(factors)
        if draw(st.booleans()):
            effects["classes"] = draw(_some(CLASSES))
    return conditions | effects


@st.composite
def rows(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a row."""
    row: dict[str, Any] = dict(draw(price_maps))
    entries = draw(st.lists(overlays(), max_size=4))
    # Ascending, because an entry hidden by a later one with a smaller context is a mistake.
    for entry, floor in zip(entries, ["0", "10", "200000", "1e6"], strict=False):
        if draw(st.booleans()):
            entry[draw(st.sampled_from(["context_over", "context_from"]))] = floor
    if draw(st.integers(0, 9)) == 0:
        # Too many combinations for a table: such a row is resolved for each call.
        entries += [
            {"tier": f"t{n}", "region": f"r{n}", "speed": f"s{n}", "multiply": "0.5"} for n in range(40)
        ]
    return row | ({"when": entries} if entries else {})


@st.composite
def cards(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a card as text in dictionaries, which is also YAML when written as JSON."""
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=4, unique=True))
    card: dict[str, Any] = {"rate_card": {name: draw(rows()) for name in names}, "classes": DECLARED}
    card["rate_card"][names[0]]["aliases"] = draw(_some(["alias", "q", "a*"]))
    card["defaults"] = draw(price_maps)
    card["unknown_model"] = draw(st.sampled_from(["reject", *names]))
    return {"billing": card}


quantities = st.one_of(st.integers(0, 20), st.integers(0, 10**6), st.integers(0, 2**63 - 1))
calls = st.builds(
    OracleCall,
    model=st.sampled_from(MODELS),
    usage=st.dictionaries(st.sampled_from([*CLASSES, "never_heard_of"]), quantities, max_size=6),
    provider=st.sampled_from(["", "p", "openai"]),
    tier=st.sampled_from(["", "batch", "flex", "other"]),
    region=st.sampled_from(["", "us", "eu"]),
    speed=st.sampled_from(["", "fast"]),
    at=st.builds(lambda seconds: EPOCH + timedelta(seconds=seconds), st.integers(-8 * 86_400, 8 * 86_400)),
    calls=st.sampled_from([0, 1, 2]),
)


def card_yaml(card: dict[str, Any]) -> str:
    """Return a card, or own prices, as the file that a user would write."""
    return json.dumps(card, indent=1)


def price_call(card: RateCard, call: OracleCall, tenant_prices: TenantPrices | None = None) -> PricedCall:
    """Price a call by the compiled code, with its lines; the cost alone must be the same."""
    facts: dict[str, Any] = {
        "model": call.model,
        "usage": call.usage,
        "provider": call.provider,
        "occur_time_nanos": int(call.at.timestamp()) * 10**9,
        "tier": call.tier,
        "region": call.region,
        "speed": call.speed,
        "calls": call.calls,
        "tenant_prices": tenant_prices,
    }
    priced = card.price(**facts)
    is_priced = not any(line.unpriced for line in priced.lines)
    assert card.cost_picos(**facts) == (priced.cost_picos if is_priced else None)
    return priced


def _check_against_oracle(card: dict[str, Any], some_calls: list[OracleCall]) -> None:
    compiled = RateCard(parse_rate_card(card_yaml(card)).canonical_json)
    oracle = Oracle(card)
    for call in some_calls:
        try:
            expected = oracle.price(call)
        except OutOfRangeError:
            with pytest.raises(OverflowError):
                price_call(compiled, call)
            continue

        answer = price_call(compiled, call)

        assert answer.row == expected.row
        assert answer.overlays_applied == expected.overlays_applied
        assert answer.prompt_tokens == expected.prompt_tokens
        assert answer.quota_tokens == expected.quota_tokens
        assert answer.unknown_model == expected.unknown_model
        assert [
            (
                line.usage_class,
                line.quantity,
                line.billed_quantity,
                line.cost_picos,
                line.unpriced,
            )
            for line in answer.lines
        ] == [
            (line.usage_class, line.quantity, line.billed_quantity, line.cost_picos, line.price is None)
            for line in expected.lines
        ]
        assert [
            (str(line.priced_as), Fraction(line.amount_picos), line.per)
            for line in answer.lines
            if not line.unpriced
        ] == [
            (line.price.priced_as, line.price.amount * 10**12, line.price.per)
            for line in expected.lines
            if line.price
        ]
        assert answer.cost_picos == expected.cost_picos


@FEW
@given(card=cards(), some_calls=st.lists(calls, min_size=1, max_size=8))
def test_any_call_costs_what_rationals_say(card: dict[str, Any], some_calls: list[OracleCall]) -> None:
    """Compiled pricing and the rules in rationals agree on every line of every call."""
    _check_against_oracle(card, some_calls)


@pytest.mark.wide
@pytest.mark.timeout(1800)
@MANY
@given(card=cards(), some_calls=st.lists(calls, min_size=1, max_size=8))
def test_many_calls_cost_what_rationals_say(card: dict[str, Any], some_calls: list[OracleCall]) -> None:
    """The same for many more cards."""
    _check_against_oracle(card, some_calls)


def _reordered(value: Any, *, is_evaluated_in_order: bool = False) -> Any:
    """Return the same meaning in another order, with each decimal and each single value written another way."""
    if isinstance(value, dict):
        return {
            name: _reordered(below, is_evaluated_in_order=name == "when")
            for name, below in reversed(value.items())
        }
    if isinstance(value, list):
        changed = [_reordered(below) for below in value]
        return changed if is_evaluated_in_order else [*changed[::-1], *changed]
    return value


@FEW
@given(card=cards())
def test_equal_cards_have_equal_ids(card: dict[str, Any]) -> None:
    """Neither the order of keys nor the order or repetition of alternatives changes a card."""
    assert (
        parse_rate_card(card_yaml(card)).canonical_json
        == parse_rate_card(card_yaml(_reordered(card))).canonical_json
    )


@FEW
@given(card=cards(), data=st.data())
def test_another_price_is_another_card(card: dict[str, Any], data: st.DataObject) -> None:
    """Adding the smallest amount to any one price changes the id."""
    before = parse_rate_card(card_yaml(card))
    document = json.loads(before.canonical_json)
    row_name = data.draw(st.sampled_from(before.rows)).name
    name = data.draw(st.sampled_from(CLASSES))
    prices_before = document["rows"][row_name].get("prices", {})
    price = prices_before.get(name, {"price": "0", "per": 1})
    whole, _, fraction = price["price"].partition(".")
    picos = int(whole + fraction.ljust(12, "0")) + 1
    card["billing"]["rate_card"][row_name][name] = {"price": f"{picos}e-12", "per": str(price["per"])}

    assert parse_rate_card(card_yaml(card)).rate_card_id != before.rate_card_id
