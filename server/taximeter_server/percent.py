# SPDX-License-Identifier: Apache-2.0
"""Changes in per cent, from exact ratios and without ever becoming a float."""

from fractions import Fraction

PERCENT_DECIMALS = 6


def change_percent(before: int | Fraction, after: int | Fraction) -> str:
    """Return by how many per cent after differs from before, such as "-12.5"; "" when before is 0.

    Exact where PERCENT_DECIMALS suffice, else rounded half to even.
    """
    if before == 0:
        return ""
    scaled = round(Fraction(after - before) / before * 100 * 10**PERCENT_DECIMALS)
    whole, fraction = divmod(abs(scaled), 10**PERCENT_DECIMALS)
    text = f"{whole}.{fraction:0{PERCENT_DECIMALS}}".rstrip("0").rstrip(".")
    return f"-{text}" if scaled < 0 else text
