# SPDX-License-Identifier: Apache-2.0
"""Exact amounts: a Decimal for people, an integer of pico-units for machines, never a float.

A pico-unit is 10^-12 of the currency. Conversions use integers and strings only, because Decimal arithmetic
rounds to the precision of its context and a sum of many records can have more digits than that.
"""

import re
from dataclasses import dataclass
from decimal import Decimal

PICOS_PER_UNIT = 10**12
PICOS_MAX = 2**63 - 1
_UNIT_DIGITS_MAX = 32
_FRACTION_DIGITS_MAX = 12
# Plain digits only: Decimal also takes exponents, underscores, "NaN" and digits of other scripts.
_PLAIN_AMOUNT = re.compile(r"(-?)([0-9]{1,32})(?:\.([0-9]{1,12}))?", re.ASCII)


def decimal_string(picos: int, fraction_digits_min: int = 0) -> str:
    """Writes an amount of pico-units as an exact decimal, such as "12.5".

    Trailing zeros are left out down to `fraction_digits_min` digits after the point.
    """
    sign = "-" if picos < 0 else ""
    units, rest = divmod(abs(picos), PICOS_PER_UNIT)
    fraction = f"{rest:012d}".rstrip("0").ljust(fraction_digits_min, "0")
    return f"{sign}{units}.{fraction}" if fraction else f"{sign}{units}"


def parse_picos(text: str) -> int:
    """Reads an amount such as "12.50" exactly into pico-units.

    Raises ValueError for anything but plain digits with an optional sign and at most 12 digits after the
    point.
    """
    match = _PLAIN_AMOUNT.fullmatch(text)
    if match is None:
        message = f"{text!r} is not an amount: plain digits such as 12.50, at most 12 after the point"
        raise ValueError(message)
    sign, units, fraction = match.group(1), match.group(2), match.group(3) or ""
    picos = int(units) * PICOS_PER_UNIT + int(fraction.ljust(12, "0"))
    return -picos if sign else picos


def picos_of(amount: Decimal) -> int:
    """Converts a Decimal exactly into pico-units.

    Raises ValueError when it is not finite, has digits beyond 10^-12, or needs more than 32 digits of units.
    """
    if amount.is_finite() and amount.is_zero():
        return 0
    # Checked before formatting, which would write out every zero of an extreme exponent.
    if not amount.is_finite() or not -_FRACTION_DIGITS_MAX <= amount.adjusted() < _UNIT_DIGITS_MAX:
        message = f"{amount} is not an amount of at most 32 digits before the point and 12 after it"
        raise ValueError(message)
    head, _, fraction = format(amount, "f").partition(".")
    kept, lost = fraction[:_FRACTION_DIGITS_MAX], fraction[_FRACTION_DIGITS_MAX:]
    if lost.strip("0"):
        message = f"{amount} has more than 12 digits after the point"
        raise ValueError(message)
    return parse_picos(f"{head}.{kept}" if kept else head)


@dataclass(frozen=True, slots=True)
class Money:
    """An exact amount of one currency."""

    currency_code: str
    """ISO 4217 code in capitals, such as "USD". Empty where the server knows no currency yet."""
    picos: int
    """The whole amount in pico-units, 10^-12 of the currency."""

    @property
    def amount(self) -> Decimal:
        """The amount as an exact Decimal, without trailing zeros."""
        return Decimal(decimal_string(self.picos))

    def __add__(self, other: "Money") -> "Money":
        """Adds an amount of the same currency, or zero without one. Raises ValueError otherwise."""
        if not isinstance(other, Money):
            return NotImplemented
        if self.currency_code == other.currency_code:
            return Money(self.currency_code, self.picos + other.picos)
        for zero, kept in ((self, other), (other, self)):
            if zero.picos == 0 and not zero.currency_code:
                return kept
        message = f"cannot add {other} to {self}"
        raise ValueError(message)

    def __str__(self) -> str:
        """Writes the amount with at least two digits after the point, such as "12.50 USD"."""
        return f"{decimal_string(self.picos, 2)} {self.currency_code}".rstrip()
