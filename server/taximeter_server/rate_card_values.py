# SPDX-License-Identifier: Apache-2.0
"""Values of a rate card: from the text in the file to the one canonical way of writing it.

Each function returns None when the text is not such a value; who calls it knows the place and says so.
"""

import functools
import re
from collections.abc import Iterable
from datetime import UTC, datetime

DECIMAL_DIGITS_MAX = 20
DECIMALS_MAX = 12
DECIMAL_RULE = f"decimal of at most {DECIMAL_DIGITS_MAX} digits and {DECIMALS_MAX} decimals"
PICOS_PER_UNIT = 10**DECIMALS_MAX
INTEGER_MAX = 2**63 - 1
MINUTES_PER_DAY = 1_440
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

MODEL_NAME = re.compile(r"[!-~]{1,256}")
CONDITION_VALUE = re.compile(r"[!-~]{1,64}")
CLASS_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")

_REMEMBERED_MAX = 4_096
"""Prices come again and again in a card."""
_DECIMAL_LENGTH_MAX = 64
_DECIMAL = re.compile(r"(0|[1-9][0-9]*)?(?:\.([0-9]+))?(?:[eE]([+-]?[0-9]{1,3}))?")
_WINDOW = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])-([01][0-9]|2[0-4]):([0-5][0-9])")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_INSTANT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2})?(Z|[+-][0-9]{2}:[0-9]{2})")


@functools.lru_cache(maxsize=_REMEMBERED_MAX)
def parse_decimal_picos(text: str) -> int | None:
    """Return a decimal times 10^12, None when it is negative or has too many digits or decimals."""
    if len(text) > _DECIMAL_LENGTH_MAX:
        return None
    found = _DECIMAL.fullmatch(text)
    if found is None or (found[1] is None and found[2] is None):
        return None
    whole, fraction, exponent = found[1] or "0", found[2] or "", int(found[3] or 0)
    decimals = max(len(fraction) - exponent, 0)
    zeros = max(exponent - len(fraction), 0)
    digits = (whole + fraction).lstrip("0")
    if decimals > DECIMALS_MAX or len(digits) + zeros > DECIMAL_DIGITS_MAX:
        return None
    return int((digits or "0") + "0" * (zeros + DECIMALS_MAX - decimals))


@functools.lru_cache(maxsize=_REMEMBERED_MAX)
def decimal_text(picos: int) -> str:
    """Return picos as a decimal of plain digits without superfluous zeros."""
    units, rest = divmod(picos, PICOS_PER_UNIT)
    return f"{units}.{rest:0{DECIMALS_MAX}}".rstrip("0").rstrip(".")


def parse_integer(text: str) -> int | None:
    """Return a whole number from 0 to 2^63 - 1; 1e6 is one too."""
    picos = parse_decimal_picos(text)
    if picos is None:
        return None
    number, rest = divmod(picos, PICOS_PER_UNIT)
    return number if rest == 0 and number <= INTEGER_MAX else None


def parse_window(text: str) -> tuple[int, int] | None:
    """Return the minutes of the day of HH:MM-HH:MM, end exclusive; the end may be before the start."""
    found = _WINDOW.fullmatch(text)
    if found is None:
        return None
    start, end = int(found[1]) * 60 + int(found[2]), int(found[3]) * 60 + int(found[4])
    return (start, end) if end <= MINUTES_PER_DAY and start != end else None


def window_texts(windows: Iterable[tuple[int, int]]) -> list[str]:
    """Return the same minutes as disjoint windows in order that do not wrap; [] when they are the whole day."""
    pieces: list[tuple[int, int]] = []
    for start, end in windows:
        pieces += [(start, end)] if start < end else [(start, MINUTES_PER_DAY), (0, end)]
    joined: list[tuple[int, int]] = []
    for start, end in sorted(piece for piece in pieces if piece[0] < piece[1]):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((start, end))
    if joined == [(0, MINUTES_PER_DAY)]:
        return []
    return [f"{start // 60:02}:{start % 60:02}-{end // 60:02}:{end % 60:02}" for start, end in joined]


def day_texts(days: Iterable[str]) -> list[str]:
    """Return days in the order of the week; [] when they are all seven."""
    named = set(days)
    return [] if len(named) == len(DAYS) else [day for day in DAYS if day in named]


def parse_instant(text: str) -> str | None:
    """Return a date (its midnight in UTC) or a time with its offset as ``2026-03-13T00:00:00Z``."""
    try:
        if _DATE.fullmatch(text):
            instant = datetime.fromisoformat(text).replace(tzinfo=UTC)
        elif _INSTANT.fullmatch(text):
            instant = datetime.fromisoformat(text).astimezone(UTC)
        else:
            return None
    except (ValueError, OverflowError):
        return None
    return instant.replace(tzinfo=None).isoformat(timespec="seconds") + "Z"
