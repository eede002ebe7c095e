# SPDX-License-Identifier: Apache-2.0
"""Sizes of files and rollups, each eight times the one before: only what is of one size is put together.

Otherwise what is large would be written again and again for the sake of the little that came since.
"""

_TIER_0_BITS = 12
_BITS_PER_TIER = 3


def tier_of(row_count: int) -> int:
    """Return 0 below 4,096 rows, 1 below 32,768, and so on."""
    above = max(0, row_count.bit_length() - _TIER_0_BITS)
    return (above + _BITS_PER_TIER - 1) // _BITS_PER_TIER
