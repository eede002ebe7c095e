# SPDX-License-Identifier: Apache-2.0
"""What can be asked of a report, and what it answers. Checked here, before anything is read."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import NamedTuple

from taximeter_server.errors import RangeInvalidError
from taximeter_server.report_dimensions import is_dimension, is_time_dimension
from taximeter_server.report_time_zone import is_time_zone
from taximeter_server.tenant_path import check_tenant
from taximeter_server.violations import Violations

RANGE_DAYS_MAX = 400
GROUP_BY_MAX = 8
FILTERS_MAX = 16
FILTER_VALUES_MAX = 1_000
ORDER_MAX = 8
TOP_MAX = 10_000

IN, NOT_IN, PREFIX, NULL, NOT_NULL = "in", "not_in", "prefix", "null", "not_null"
"""What a filter can ask of a dimension."""
MEASURES = ("calls", "quantities", "cost", "list_cost", "unpriced_lines", "credits")
ORDER_MEASURES = ("calls", "cost", "list_cost", "unpriced_lines", "credits")
QUANTITY_PREFIX = "quantities."

_DAY_US = 86_400 * 1_000_000
_QUANTITY = re.compile(re.escape(QUANTITY_PREFIX) + r"[a-z0-9_]{1,64}")


@dataclass(frozen=True, slots=True)
class ReportFilter:
    """Keeps usage whose dimension fulfils a condition; "" among values is usage without a value."""

    dimension: str
    values: tuple[str, ...] = ()
    operator: str = IN


@dataclass(frozen=True, slots=True)
class ReportOrder:
    """by: dimension of group_by, one of ORDER_MEASURES, or QUANTITY_PREFIX and a usage class."""

    by: str
    descending: bool = False


@dataclass(frozen=True, slots=True)
class ReportQuery:
    """What to sum. The interval is half-open, in whole microseconds since 1970 UTC.

    tenant: path whose usage and that of everything below is summed; "" is all.
    readable_tenants: paths that the caller may read, with everything below; None is all.
    as_of: that of an earlier report, to see what it saw. as_of_time_ms: see what had been recorded by then.
    measures: of MEASURES, empty for all. top: rows before the others are summed up in one, 0 for all.
    compared_us: half-open interval to sum beside this one.
    """

    start_time_us: int
    end_time_us: int
    tenant: str = ""
    group_by: tuple[str, ...] = ()
    filters: tuple[ReportFilter, ...] = ()
    time_zone: str = "UTC"
    readable_tenants: tuple[str, ...] | None = None
    as_of: str = ""
    as_of_time_ms: int | None = None
    measures: tuple[str, ...] = ()
    order: tuple[ReportOrder, ...] = ()
    top: int = 0
    compared_us: tuple[int, int] | None = None

    @property
    def intervals_us(self) -> tuple[tuple[int, int], ...]:
        """The interval, and the one that it is compared to."""
        own = (self.start_time_us, self.end_time_us)
        return (own,) if self.compared_us is None else (own, self.compared_us)

    def check(self) -> None:
        """Raise InvalidFieldsError with all that is wrong; RangeInvalidError when it is one interval alone."""
        self.violations().raise_any()

    def violations(self) -> Violations:
        """Return all for which the query cannot be answered."""
        violations = Violations()
        if self.tenant:
            with violations:
                check_tenant(self.tenant, "query.tenant")
        with violations:
            check_interval(self.start_time_us, self.end_time_us, "query.")
        self._check_group_by(violations)
        self._check_filters(violations)
        if not is_time_zone(self.time_zone):
            violations.add("query.time_zone", "is not an IANA time zone")
        self._check_order(violations)
        if not 0 <= self.top <= TOP_MAX:
            violations.add("query.top", f"must be 0 to {TOP_MAX}")
        if self.as_of and self.as_of_time_ms is not None:
            violations.add("query.as_of_time", "excludes query.as_of")
        if self.compared_us is not None:
            with violations:
                check_interval(*self.compared_us, "query.compare_to.")
        return violations

    def _check_group_by(self, violations: Violations) -> None:
        if len(self.group_by) > GROUP_BY_MAX:
            violations.add("query.group_by", f"has more than {GROUP_BY_MAX} dimensions")
            return
        for index, dimension in enumerate(self.group_by):
            field = f"query.group_by[{index}]"
            if not is_dimension(dimension):
                violations.add(field, "is not a dimension")
            elif dimension in self.group_by[:index]:
                violations.add(field, "stands in query.group_by before")
            elif self.compared_us is not None and is_time_dimension(dimension):
                violations.add(field, "its values in query.compare_to are others")

    def _check_filters(self, violations: Violations) -> None:
        if len(self.filters) > FILTERS_MAX:
            violations.add("query.filters", f"has more than {FILTERS_MAX} conditions")
            return
        for index, condition in enumerate(self.filters):
            field = f"query.filters[{index}]"
            if not is_dimension(condition.dimension) or is_time_dimension(condition.dimension):
                violations.add(f"{field}.dimension", "is not a dimension to filter by")
            if condition.operator in {NULL, NOT_NULL}:
                if condition.values:
                    violations.add(f"{field}.values", "excludes this operator")
            elif not 1 <= len(condition.values) <= FILTER_VALUES_MAX:
                violations.add(f"{field}.values", f"needs 1 to {FILTER_VALUES_MAX} values")

    def _check_order(self, violations: Violations) -> None:
        if len(self.order) > ORDER_MAX:
            violations.add("query.order", f"has more than {ORDER_MAX} keys")
            return
        for index, key in enumerate(self.order):
            is_known = key.by in self.group_by or key.by in ORDER_MEASURES
            if not is_known and not _QUANTITY.fullmatch(key.by):
                violations.add(
                    f"query.order[{index}].by",
                    "is neither a dimension of query.group_by nor a measure to order by",
                )

    def canonical_bytes(self) -> bytes:
        """Return a form that is equal for equal queries only. Page tokens are bound to it."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":")).encode()


def check_interval(start_us: int, end_us: int, prefix: str) -> None:
    """Raise RangeInvalidError for an interval that is reversed, empty or too long."""
    if end_us <= start_us:
        raise RangeInvalidError(f"{prefix}end_time", f"must be after {prefix}start_time")
    if end_us - start_us > RANGE_DAYS_MAX * _DAY_US:
        raise RangeInvalidError(
            f"{prefix}end_time", f"must be at most {RANGE_DAYS_MAX} days after {prefix}start_time"
        )


class ReportMeasures(NamedTuple):
    """Exact sums. A tuple, as a page makes thousands.

    quantities: by usage class, in the unit of the class; classes without usage are left out.
    unpriced_lines: had no price when they were recorded; adjusted_unpriced_lines: those that an adjustment has priced.
    adjustment_picos: the part of cost_picos that adjustments are. list_cost_picos: the cost by the card alone.
    """

    calls: int
    quantities: Mapping[str, int]
    cost_picos: int
    unpriced_lines: int
    adjustment_picos: int = 0
    adjusted_unpriced_lines: int = 0
    list_cost_picos: int = 0
    credit_microcredits: int = 0
    overdrawn_microcredits: int = 0


class ReportRow(NamedTuple):
    """One group. group: one value per dimension of the query, in its order, None for usage without a value.

    compared: the same group in compared_us; None without it. is_other: all groups after the top.
    """

    group: tuple[str | None, ...]
    measures: ReportMeasures
    compared: ReportMeasures | None = None
    is_other: bool = False


@dataclass(frozen=True, slots=True)
class ReportPage:
    """One page. next_page_token is "" on the last. total sums the rows of all pages. as_of names what was seen."""

    rows: tuple[ReportRow, ...]
    next_page_token: str
    total: ReportMeasures
    as_of_time_ms: int
    as_of: str
    compared_total: ReportMeasures | None = None
