# SPDX-License-Identifier: Apache-2.0
"""Amounts are exact on every way through the client."""

from decimal import Decimal, localcontext
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taximeter.money import Money, decimal_string, parse_picos, picos_of

AMOUNTS = st.integers(min_value=-(10**40), max_value=10**40)


@given(picos=AMOUNTS, digits=st.integers(min_value=0, max_value=12))
def test_decimal_string_is_the_amount(picos: int, digits: int) -> None:
    """The text of an amount, read as a fraction, is the amount, and has the digits that were asked for."""
    text = decimal_string(picos, digits)

    assert Fraction(picos, 10**12) == Fraction(text)
    assert digits <= len(text.partition(".")[2]) <= 12


@pytest.mark.parametrize(
    ("picos", "digits", "text"),
    [
        (0, 0, "0"),
        (0, 2, "0.00"),
        (12_500_000_000_000, 2, "12.50"),
        (-1, 0, "-0.000000000001"),
        (10**12, 0, "1"),
    ],
)
def test_decimal_string_of_known_amounts(picos: int, digits: int, text: str) -> None:
    """Trailing zeros go, except for the digits that were asked for."""
    assert text == decimal_string(picos, digits)


@given(picos=st.integers(min_value=-(10**43), max_value=10**43))
def test_parse_picos_reverses_decimal_string(picos: int) -> None:
    """Writing an amount and reading it again gives the amount."""
    assert picos == parse_picos(decimal_string(picos))


@pytest.mark.parametrize(
    "text",
    ["", ".", "1.", ".5", "1e3", "1_000", " 1", "1\n", "+1", "NaN", "\u0661", "0.0000000000001", "1" * 33],
)
def test_parse_picos_takes_plain_digits_only(text: str) -> None:
    """What Decimal or int would quietly accept is no amount."""
    with pytest.raises(ValueError, match="is not an amount"):
        parse_picos(text)


@given(picos=st.integers(min_value=-(10**43), max_value=10**43))
def test_money_amount_does_not_round(picos: int) -> None:
    """A Decimal holds all digits of an amount, even those beyond the precision of the context."""
    with localcontext(prec=3):
        amount = Money("USD", picos).amount

    assert Fraction(picos, 10**12) == Fraction(amount)
    assert picos == picos_of(amount)


@pytest.mark.parametrize("text", ["NaN", "Infinity", "1E-13", "1E+32", "1E+999999", "1.0000000000001"])
def test_picos_of_refuses_what_it_cannot_hold(text: str) -> None:
    """A Decimal that is no exact number of picos in range is refused, at once even where the exponent is absurd."""
    with pytest.raises(ValueError, match="digits"):
        picos_of(Decimal(text))


def test_picos_of_takes_zeros_beyond_its_digits() -> None:
    """Zeros after the twelfth digit and a zero of any exponent lose nothing."""
    assert picos_of(Decimal("1.5000000000000000")) == 1_500_000_000_000
    assert picos_of(Decimal("0E-9999")) == 0


def test_money_adds_one_currency_only() -> None:
    """Amounts of two currencies have no sum; a zero without a currency adds to any."""
    assert Money("USD", 3) == Money("USD", 1) + Money("USD", 2)
    assert Money("USD", 1) == Money("", 0) + Money("USD", 1)
    with pytest.raises(ValueError, match="cannot add"):
        Money("USD", 1) + Money("EUR", 1)


def test_money_is_written_with_two_digits_at_least() -> None:
    """People read 12.50 USD, and all digits where there are more."""
    assert str(Money("USD", 12_500_000_000_000)) == "12.50 USD"
    assert str(Money("USD", 5_425_950_000_001)) == "5.425950000001 USD"
