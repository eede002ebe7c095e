# SPDX-License-Identifier: Apache-2.0
"""The dimensions of a report: how each is computed from a row, and how its values are written.

Dimensions of time are integers while they are grouped and sorted and become text at the end, so that hours sort by
when they were, also in the night in which a clock is set back and one local hour happens twice.
"""

import functools
import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone

from taximeter_server.ledger import KIND_ADJUSTMENT, KIND_NAMES, KIND_USAGE
from taximeter_server.report_time_zone import OffsetChange

ATTRIBUTE_PREFIX = "attributes."
_ATTRIBUTE_KEY = re.compile(r"[a-zA-Z0-9._-]{1,64}")

_SECOND_US = 1_000_000
_HOUR_S = 3_600
_DAY_S = 86_400
# An hour is its first instant and its offset in one integer: an offset is less than a day, which is less than 2^17.
_OFFSET_BITS = 18
_OFFSET_BIAS_S = 1 << (_OFFSET_BITS - 1)

LEVEL_PREFIX = "tenant_level_"
LEVELS = range(1, 5)
"""Segments of a tenant's path."""


def _level_sql(level: int) -> str:
    path = "string_split(tenant, '/')"
    return f"CASE WHEN len({path}) >= {level} THEN array_to_string({path}[1:{level}], '/') END"


# Also what takes back a line without a price.
PRICING_SQL = (
    f"CASE WHEN unpriced OR (prices_unpriced AND kind > {KIND_ADJUSTMENT}) THEN 'unpriced' ELSE 'priced' END"
)
"""Whether a row is of usage without a price."""
_COLUMNS = {
    "tenant": "tenant",
    "root_tenant": "split_part(tenant, '/', 1)",
    **{f"{LEVEL_PREFIX}{level}": _level_sql(level) for level in LEVELS},
    "model": "model",
    "provider": "provider",
    "usage_class": "usage_class",
    "rate_card_id": "rate_card_id",
    "rate_card_row": "rate_card_row",
    "pricing": PRICING_SQL,
    "tier": "tier",
    "region": "region",
    "speed": "speed",
    "entry_kind": "CASE kind "
    + "".join(f"WHEN {kind} THEN '{name}' " for kind, name in KIND_NAMES.items())
    + f"ELSE '{KIND_NAMES[KIND_USAGE]}' END",
}
_COLUMN_NAMES = {
    "root_tenant": "tenant",
    **{f"{LEVEL_PREFIX}{level}": "tenant" for level in LEVELS},
    "pricing": "unpriced",
    "entry_kind": "kind",
}
_WRITTEN_MAX = 10_000
"""Times whose text is remembered: an export writes the same ones again and again."""
_TIMES = ("hour", "day", "week", "month", "quarter", "year")
_MONDAY_DAY = 3
"""1970-01-01 was the fourth day of its week."""
PRICE_COLUMNS = ("priced_as", "amount_picos", "per", "list_amount_picos", "list_per")
"""Columns of a row that an export tells apart; not for queries."""
LINE_DIMENSIONS = frozenset({"usage_class", "pricing"})
"""Those that can differ between the rows of one entry."""


class Parameters:
    """Values of a statement by name, so that no value ever becomes part of its text."""

    def __init__(self) -> None:
        self.values: dict[str, object] = {}

    def add(self, value: object) -> str:
        """Return the placeholder that stands for value."""
        name = f"p{len(self.values)}"
        self.values[name] = value
        return f"${name}"

    def add_all(self, values: Sequence[str]) -> str:
        """Return the placeholders that stand for values, as in a list."""
        return ", ".join(map(self.add, values))


@dataclass(frozen=True, slots=True)
class Dimension:
    """sql: expression over a ledger row. write: turns its value, unless it is null, into that of the report."""

    sql: str
    write: Callable[[object], str]

    def write_all(self, values: Sequence[object]) -> list[str | None]:
        """Return values as the report has them, None for null."""
        write = self.write
        return [None if value is None else write(value) for value in values]


def is_dimension(name: str) -> bool:
    """Return whether name is a dimension."""
    if name.startswith(ATTRIBUTE_PREFIX):
        return _ATTRIBUTE_KEY.fullmatch(name.removeprefix(ATTRIBUTE_PREFIX)) is not None
    return name in _COLUMNS or is_time_dimension(name)


def is_time_dimension(name: str) -> bool:
    """Return whether name is a dimension of time, which a filter cannot have."""
    return name in _TIMES


def column_of(name: str) -> str | None:
    """Return the column of a ledger row that a dimension is made of; None for one of time."""
    if name.startswith(ATTRIBUTE_PREFIX):
        return "attributes"
    return None if is_time_dimension(name) else _COLUMN_NAMES.get(name, name)


def dimension(name: str, offsets: Sequence[OffsetChange], parameters: Parameters) -> Dimension:
    """Return the dimension.

    name: one that is_dimension accepts, or of PRICE_COLUMNS. offsets: of the query's time zone, over its range.
    """
    if name.startswith(ATTRIBUTE_PREFIX):
        key = parameters.add(name.removeprefix(ATTRIBUTE_PREFIX))
        # An empty value is no value, as with the other dimensions.
        return Dimension(f"nullif(map_extract_value(attributes, {key}), '')", str)
    if name in _COLUMNS or name in PRICE_COLUMNS:
        return Dimension(_COLUMNS.get(name, name), str)
    # Events are after 1970, so that // rounds down.
    offset_s = _offset_sql(offsets)
    local_s = f"(occur_time_us // {_SECOND_US} + {offset_s})"
    if name == "hour":
        start_s = f"({local_s} // {_HOUR_S} * {_HOUR_S} - {offset_s})"
        return Dimension(f"({start_s} * {1 << _OFFSET_BITS} + {offset_s} + {_OFFSET_BIAS_S})", _write_hour)
    day = f"({local_s} // {_DAY_S})"
    if name == "day":
        return Dimension(day, write_day)
    if name == "week":
        return Dimension(f"({day} - ({day} + {_MONDAY_DAY}) % 7)", write_day)
    local_date = f"(DATE '1970-01-01' + {day}::INTEGER)"
    month = f"(year({local_date}) * 12 + month({local_date}) - 1)"
    writers: dict[str, tuple[int, Callable[[object], str]]] = {
        "month": (1, _write_month),
        "quarter": (3, _write_quarter),
        "year": (12, _write_year),
    }
    months, write = writers[name]
    return Dimension(f"({month} // {months})", write)


def _offset_sql(offsets: Sequence[OffsetChange]) -> str:
    if len(offsets) == 1:
        return f"({offsets[0].offset_s})"
    cases = [
        f"WHEN occur_time_us < {following.start_time_us} THEN {current.offset_s}"
        for current, following in itertools.pairwise(offsets)
    ]
    return f"(CASE {' '.join(cases)} ELSE {offsets[-1].offset_s} END)"


@functools.lru_cache(maxsize=_WRITTEN_MAX)
def _write_hour(value: object) -> str:
    start_s, biased_s = divmod(_integer(value), 1 << _OFFSET_BITS)
    offset = timezone(timedelta(seconds=biased_s - _OFFSET_BIAS_S))
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=start_s)).astimezone(offset).isoformat()


@functools.lru_cache(maxsize=_WRITTEN_MAX)
def write_day(value: object) -> str:
    """Return days since 1970 as "2026-06-03"."""
    return (date(1970, 1, 1) + timedelta(days=_integer(value))).isoformat()


@functools.lru_cache(maxsize=_WRITTEN_MAX)
def _write_month(value: object) -> str:
    year, month = divmod(_integer(value), 12)
    return f"{year:04}-{month + 1:02}"


def _write_quarter(value: object) -> str:
    year, quarter = divmod(_integer(value), 4)
    return f"{year:04}-Q{quarter + 1}"


def _write_year(value: object) -> str:
    return f"{_integer(value):04}"


def _integer(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError(f"expected an integer from the database, got {type(value).__name__}")
    return value
