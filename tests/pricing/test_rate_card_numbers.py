# SPDX-License-Identifier: Apache-2.0
"""Prices are exact decimals, whatever YAML would make of them."""

import json

import pytest
from pricing.card_text import DECIMAL_RULE, cpu_seconds, problems_of, reasons_of, row_text

from taximeter_server.rate_card import parse_rate_card


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("3", "3"),
        ("3.00", "3"),
        ("3e0", "3"),
        ("0.3E1", "3"),
        ('"3.000"', "3"),
        ("'3'", "3"),
        ("1.10", "1.1"),
        ("0", "0"),
        ("0.000", "0"),
        (".5", "0.5"),
        ("1e3", "1000"),
        ("25e-1", "2.5"),
        ("1e-12", "0.000000000001"),
        ("0.000000000001", "0.000000000001"),
        ("1234567.123456789012", "1234567.123456789012"),
        ("9223372.036854775807", "9223372.036854775807"),
    ],
)
def test_accepted(written: str, canonical: str) -> None:
    """A decimal within the limits is kept exactly, in one canonical way of writing it."""
    card = json.loads(parse_rate_card(row_text(f"input: {written}")).canonical_json)

    assert card["rows"]["m"]["prices"]["input"] == {"price": canonical, "per": 1_000_000}


@pytest.mark.parametrize(
    "written",
    [
        "1e999999",
        "1e-999999",
        "NaN",
        ".nan",
        "Infinity",
        "-.inf",
        "-0",
        "-0.0",
        "+3",
        "1_000",
        "1,5",
        '" 1 "',
        '"1\\n"',
        "١٢",
        "\uff11",
        "0x10",
        "0o10",
        "010",
        "00",
        "1.",
        ".",
        "e3",
        "1e",
        "on",
        "yes",
        "1:30",
        "12:30:00",
        "2026-01-01",
        "0.0000000000001",
        "1.0000000000000",
        "1e-13",
        "123456789012345678901",
        "1e20",
        "$3",
        "9" * 60,
    ],
)
def test_refused(written: str) -> None:
    """Everything else is refused, in less than a millisecond, with the rule."""
    source = row_text(f"input: {written if ',' not in written else f'{written!r}'}")

    (problem,) = problems_of(source)

    assert (problem.field, problem.reason) == ("rate_card.m.input", "DECIMAL_INVALID")
    assert problem.message == f"price: {DECIMAL_RULE}"
    assert (problem.line, problem.column) == (3, 16)
    assert cpu_seconds(lambda: problems_of(source)) < 0.001


@pytest.mark.parametrize("quote", ["", '"'])
@pytest.mark.parametrize("as_bytes", [False, True])
def test_million_digits(quote: str, as_bytes: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """A number of a million digits is refused before anything reads it."""
    text = row_text(f"input: {quote}{'7' * 1_000_000}{quote}")
    source = text.encode() if as_bytes else text

    (problem,) = problems_of(source)

    assert problem.reason == "DECIMAL_INVALID"
    assert problem.line == 3
    assert DECIMAL_RULE in problem.message
    assert cpu_seconds(lambda: problems_of(source)) < 0.001


@pytest.mark.parametrize("written", ["-1", "-0.5", '"-1e-12"'])
def test_negative(written: str) -> None:
    """A price below zero is refused."""
    assert reasons_of(row_text(f"input: {written}")) == [("rate_card.m.input", "DECIMAL_NEGATIVE")]


def test_range() -> None:
    """A price that 64 bits of picos cannot hold is refused, also after all multipliers."""
    assert reasons_of(row_text("input: 9223372.036854775808")) == [("rate_card.m.input", "PRICE_RANGE")]
    multiplied = "input: 5000000, when: [{tier: a, multiply: 2}, {tier: b, multiply: 0.1}]"
    assert reasons_of(row_text(multiplied)) == [("rate_card.m", "PRICE_RANGE")]


@pytest.mark.parametrize("written", ["", "~", "null", "[1]", "{}"])
def test_missing(written: str) -> None:
    """A price that is not there is not a price of zero."""
    assert len(problems_of(row_text(f"input: {written}"))) == 1
