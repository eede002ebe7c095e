# SPDX-License-Identifier: Apache-2.0
"""What can be asked of a report, and what it answers. Checked here, before anything is read."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from taximeter_server.errors import InvalidFieldsError, RangeInvalidError
from taximeter_server.report_dimensions import is_dimension, is_time_dimension
from taximeter_server.report_time_zone import is_time_zone

RANGE_DAYS_MAX = 400
GROUP_BY_MAX = 8
FILTERS_MAX = 16
FILTER_VALUES_MAX = 1_000

_DAY_US = 86_400 * 1_000_000
_SEGMENT = r"(?!\.{1,2}(?:/|$))[a-z0-9._-]{1,64}"
_TENANT = re.compile(rf"{_SEGMENT}(?:/{_SEGMENT}){{0,3}}")


@dataclass(frozen=True, slots=True)
class ReportFilter:
    """Keeps usage whose dimension has one of values; "" is usage without a value."""

    dimension: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReportQuery:
    """What to sum. The interval is half-open, in whole microseconds since 1970 UTC.

    tenant: path whose usage and that of everything below is summed; "" is all.
    readable_tenants: paths that the caller may read, with everything below; None is all.
    as_of: that of an earlier report, to see what it saw. as_of_time_ms: see what had been recorded by then.
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

    def check(self) -> None:
        """Raise RangeInvalidError or InvalidFieldsError when the query is not one that can be answered."""
        if self.end_time_us <= self.start_time_us:
            raise RangeInvalidError("query.end_time", "must be after query.start_time")
        if self.end_time_us - self.start_time_us > RANGE_DAYS_MAX * _DAY_US:
            raise RangeInvalidError(
                "query.end_time", f"must be at most {RANGE_DAYS_MAX} days after query.start_time"
            )
        if self.tenant and not _TENANT.fullmatch(self.tenant):
            raise InvalidFieldsError.of("query.tenant", "is not the path of a tenant")
        if not is_time_zone(self.time_zone):
            raise InvalidFieldsError.of("query.time_zone", "is not an IANA time zone")
        if self.as_of and self.as_of_time_ms is not None:
            raise InvalidFieldsError.of("query.as_of_time", "excludes query.as_of")
        self._check_group_by()
        self._check_filters()

    def _check_group_by(self) -> None:
        if len(self.group_by) > GROUP_BY_MAX:
            raise InvalidFieldsError.of("query.group_by", f"has more than {GROUP_BY_MAX} dimensions")
        for index, dimension in enumerate(self.group_by):
            field = f"query.group_by[{index}]"
            if not is_dimension(dimension):
                raise InvalidFieldsError.of(field, "is not a dimension")
            if dimension in self.group_by[:index]:
                raise InvalidFieldsError.of(field, "stands in query.group_by before")

    def _check_filters(self) -> None:
        if len(self.filters) > FILTERS_MAX:
            raise InvalidFieldsError.of("query.filters", f"has more than {FILTERS_MAX} conditions")
        for index, condition in enumerate(self.filters):
            field = f"query.filters[{index}]"
            if not is_dimension(condition.dimension) or is_time_dimension(condition.dimension):
                raise InvalidFieldsError.of(f"{field}.dimension", "is not a dimension to filter by")
            if not 1 <= len(condition.values) <= FILTER_VALUES_MAX:
                raise InvalidFieldsError.of(f"{field}.values", f"needs 1 to {FILTER_VALUES_MAX} values")

    def canonical_bytes(self) -> bytes:
        """Return a form that is equal for equal queries only. Page tokens are bound to it."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":")).encode()


@dataclass(frozen=True, slots=True)
class ReportMeasures:
    """Exact sums. quantities: by usage class, in the unit of the class; classes without usage are left out.

    unpriced_lines: had no price when they were recorded; adjusted_unpriced_lines: those that an adjustment has priced.
    adjustment_picos: the part of cost_picos that adjustments are.
    """

    calls: int
    quantities: Mapping[str, int]
    cost_picos: int
    unpriced_lines: int
    adjustment_picos: int = 0
    adjusted_unpriced_lines: int = 0


@dataclass(frozen=True, slots=True)
class ReportRow:
    """One group. group: one value per dimension of the query, in its order, None for usage without a value."""

    group: tuple[str | None, ...]
    measures: ReportMeasures


@dataclass(frozen=True, slots=True)
class ReportPage:
    """One page. next_page_token is "" on the last. total sums the rows of all pages. as_of names what was seen."""

    rows: tuple[ReportRow, ...]
    next_page_token: str
    total: ReportMeasures
    as_of_time_ms: int
    as_of: str
