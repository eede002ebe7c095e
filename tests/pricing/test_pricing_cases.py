# SPDX-License-Identifier: Apache-2.0
"""The golden cases: cards and calls with every line and total worked out by hand."""

import json
from datetime import datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import yaml
from pricing.oracle import Oracle, OracleCall, OutOfRangeError

from taximeter_server._native import PricedCall, RateCard
from taximeter_server.rate_card import parse_rate_card

GOLDEN = json.loads((Path(__file__).parents[1] / "cases" / "pricing-cases.json").read_text())
CASES = {case["id"]: case for case in GOLDEN["cases"]}
ANY_TIME = "2026-11-22T00:00:00Z"
FACTS = ("model", "provider", "tier", "region", "speed")


@pytest.fixture(scope="module")
def cards() -> dict[str, RateCard]:
    """Return the compiled cards of the cases."""
    return {name: RateCard(parse_rate_card(text).canonical_json) for name, text in GOLDEN["cards"].items()}


def _answer(card: RateCard, case: dict[str, Any]) -> PricedCall | str:
    request = case["request"]
    at = datetime.fromisoformat(request.get("at", ANY_TIME))
    try:
        priced = card.price(
            usage=case["usage"],
            occur_time_nanos=int(at.timestamp()) * 10**9,
            **{fact: request[fact] for fact in FACTS if fact in request},
        )
    except OverflowError:
        return "out_of_range"
    return "unknown_model" if priced.unknown_model else priced


def _expected_line(line: dict[str, Any]) -> dict[str, Any]:
    return {
        "usage_class": line["class"],
        "priced_as": line["priced_as"],
        "quantity": line["quantity"],
        "billed_quantity": line.get("billed_quantity", line["quantity"]),
        "unit_price": line["price_usd"],
        "amount_picos": int(Fraction(line["price_usd"]) * 10**12),
        "per": line["per"],
        "cost_picos": int(line["pico_usd"]),
        "unpriced": False,
    }


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_case(cards: dict[str, RateCard], case: dict[str, Any]) -> None:
    """A call costs what the case says, line by line."""
    answer = _answer(cards[case["card"]], case)

    expected = case["expected"]
    if "error" in expected:
        assert answer == expected["error"]
        return
    assert isinstance(answer, PricedCall)
    for line, wanted in zip(answer.lines, expected["lines"], strict=True):
        expected_line = _expected_line(wanted)
        assert {name: getattr(line, name) for name in expected_line} == expected_line
    assert answer.row == expected["row"]
    assert answer.overlays_applied == expected["overlays_applied"]
    assert answer.prompt_tokens == expected["prompt_tokens"]
    assert answer.cost_picos == int(expected["total_pico_usd"])


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_oracle_agrees(case: dict[str, Any]) -> None:
    """The oracle of the property tests prices the golden cases as they say."""
    request = dict(case["request"])
    at = datetime.fromisoformat(request.pop("at", ANY_TIME))
    oracle = Oracle(yaml.load(GOLDEN["cards"][case["card"]], Loader=yaml.BaseLoader))  # noqa: S506 - text only
    expected = case["expected"]
    if expected.get("error") == "out_of_range":
        with pytest.raises(OutOfRangeError):
            oracle.price(OracleCall(usage=case["usage"], at=at, **request))
        return

    answer = oracle.price(OracleCall(usage=case["usage"], at=at, **request))

    assert answer.unknown_model == ("error" in expected)
    if not answer.unknown_model:
        assert answer.cost_picos == int(expected["total_pico_usd"])
        assert answer.overlays_applied == expected["overlays_applied"]
        assert answer.prompt_tokens == expected["prompt_tokens"]
        assert answer.row == expected["row"]


def test_default_card_is_the_seed() -> None:
    """The card that a new server starts with is the golden cases' first card, price for price."""
    default = Path(parse_rate_card.__code__.co_filename).with_name("default_rate_card.yaml").read_bytes()

    assert parse_rate_card(default).canonical_json == parse_rate_card(GOLDEN["cards"]["seed"]).canonical_json
