# SPDX-License-Identifier: Apache-2.0
"""What a report sums: its interval, groups, filters, order and bounds."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType

Filters = Mapping[str, Iterable[str]]
NO_FILTERS: Filters = MappingProxyType({})


class FilterOperator(StrEnum):
    """A condition on a dimension."""

    IN = "IN"
    """Has one of the values."""
    NOT_IN = "NOT_IN"
    """Has none of the values. Usage without a value passes unless "" is among them."""
    PREFIX = "PREFIX"
    """Begins with one of the values."""
    NULL = "NULL"
    """Has no value."""
    NOT_NULL = "NOT_NULL"
    """Has a value."""


class Measure(StrEnum):
    """A part of Measures."""

    CALLS = "CALLS"
    """Calls."""
    QUANTITIES = "QUANTITIES"
    """Quantities by usage class."""
    COST = "COST"
    """Cost, and the part of it that adjustments are."""
    LIST_COST = "LIST_COST"
    """What the rate card alone would have charged."""
    UNPRICED_LINES = "UNPRICED_LINES"
    """Lines without a price."""
    CREDITS = "CREDITS"
    """Microcredits that were taken, and what no grant covered."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Keeps usage whose dimension fulfils a condition; "" among the values is usage without a value."""

    dimension: str
    """Dimension as in ReportQuery.group_by, except the granularities."""
    values: tuple[str, ...] = ()
    """1 to 1,000 values; none for NULL and NOT_NULL."""
    operator: FilterOperator = FilterOperator.IN
    """The condition."""


@dataclass(frozen=True, slots=True)
class Order:
    """A key to order rows by."""

    by: str
    """Dimension of the groups, "calls", "cost", "list_cost", "unpriced_lines", "credits" or "quantities.CLASS"."""
    descending: bool = False
    """Largest first."""


@dataclass(frozen=True, slots=True)
class ReportQuery:
    """What to sum. Times need a time zone; intervals are half-open and at most 400 days long."""

    start_time: datetime
    """First instant."""
    end_time: datetime
    """Instant after the last."""
    tenant: str = ""
    """Path whose usage and that of everything below is summed; empty for all that the key may read."""
    group_by: tuple[str, ...] = ()
    """Dimensions, at most 8, as ReportQuery in the API lists them."""
    filters: tuple[Filter, ...] = field(default=())
    """Conditions that all must hold, at most 16."""
    time_zone: str = "UTC"
    """IANA zone of hours, days, weeks, months, quarters and years."""
    measures: tuple[Measure, ...] = ()
    """What to answer; the rest is left empty. All, when none are named."""
    order: tuple[Order, ...] = ()
    """Keys of the order, at most 8; by the groups when there are none, and where rows are equal."""
    top: int = 0
    """Rows before all others become one last row; 0 for all rows."""
    as_of: str = ""
    """`as_of` of an earlier report, to see exactly what that one saw."""
    as_of_time: datetime | None = None
    """Instant that is over, to see what had been recorded by then."""
    compare_to: tuple[datetime, datetime] | None = None
    """Another interval to sum beside this one."""


def filters_in(filters: Filters) -> tuple[Filter, ...]:
    """Returns conditions that dimensions have one of the values given by name."""
    return tuple(Filter(dimension, tuple(values)) for dimension, values in filters.items())
