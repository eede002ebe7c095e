# SPDX-License-Identifier: Apache-2.0
"""Own prices as text: what is accepted, what is wrong with them, and what makes them the same."""

import json

import pytest

from taximeter_server.rate_card import RateCardInvalidError
from taximeter_server.tenant_prices import parse_tenant_prices


@pytest.mark.parametrize(
    ("source", "line", "field", "reason"),
    [
        ("", 0, "billing", "FIELD_REQUIRED"),
        ("billing: {}", 1, "markup_basis_points", "FIELD_REQUIRED"),
        ("billing: []", 1, "", "WRONG_SHAPE"),
        ("billing:\n  markup: 5", 2, "markup", "UNKNOWN_FIELD"),
        ("billing:\n  markup_basis_points: -10001", 2, "markup_basis_points", "MARKUP_INVALID"),
        ("billing:\n  markup_basis_points: 100001", 2, "markup_basis_points", "MARKUP_INVALID"),
        ("billing:\n  markup_basis_points: 0.5", 2, "markup_basis_points", "MARKUP_INVALID"),
        ("billing:\n  markup_basis_points: 5%", 2, "markup_basis_points", "MARKUP_INVALID"),
        ("billing:\n  markup_basis_points:", 2, "markup_basis_points", "FIELD_REQUIRED"),
        ("billing:\n  unknown_model: reject\n  rate_card: {}", 2, "unknown_model", "UNKNOWN_FIELD"),
        ("billing:\n  rate_card:\n    m: {inptu: 1}", 3, "rate_card.m.inptu", "UNKNOWN_CLASS"),
        ("billing:\n  rate_card:\n    m: {input: -1}", 3, "rate_card.m.input", "DECIMAL_NEGATIVE"),
        (
            "billing:\n  rate_card:\n    m:\n      when:\n        - {tier: batch, multiply: 2, classes: [input]}",
            5,
            "rate_card.m.when[0].classes",
            "FIELD_NOT_ACCEPTED",
        ),
    ],
)
def test_problems_have_their_place(source: str, line: int, field: str, reason: str) -> None:
    """Each problem names its line, its field and a stable reason."""
    with pytest.raises(RateCardInvalidError) as caught:
        parse_tenant_prices(source)

    problems = [problem for problem in caught.value.problems if problem.reason == reason]
    assert [(problem.line, problem.field) for problem in problems] == [(line, field)]


def test_an_unknown_field_names_the_nearest() -> None:
    """The nearest valid word is suggested, and all problems come at once."""
    with pytest.raises(RateCardInvalidError) as caught:
        parse_tenant_prices("billing:\n  markup_basis_point: 5\n  rate_cards: {}\n")

    messages = [problem.message for problem in caught.value.problems]
    assert 'unknown field "markup_basis_point"; did you mean "markup_basis_points"?' in messages
    assert 'unknown field "rate_cards"; did you mean "rate_card"?' in messages


def test_canonical_form() -> None:
    """A markup is a number, own prices are a card inside, and what says nothing is left out."""
    found = parse_tenant_prices(
        'billing:\n  markup_basis_points: "+0250" # 2.5 per cent\n  rate_card: {m: {input: 4.00}}\n'
    )
    markup_only = parse_tenant_prices("billing: {markup_basis_points: -10000, rate_card: {}}")

    assert json.loads(found.canonical_json) == {
        "format": 1,
        "markup_basis_points": 250,
        "card": {
            "format": 1,
            "currency": "USD",
            "rows": {"m": {"prices": {"input": {"price": "4", "per": 1000000}}}},
        },
    }
    assert found.currency == "USD"
    assert markup_only.canonical_json == b'{"format":1,"markup_basis_points":-10000}'
    assert markup_only.currency is None


def test_zero_markup_is_something_else_than_nothing() -> None:
    """No discount, said on purpose, keeps that of a parent away; a file that says nothing is refused."""
    assert parse_tenant_prices("billing: {markup_basis_points: 0}").canonical_json == (
        b'{"format":1,"markup_basis_points":0}'
    )
