# SPDX-License-Identifier: Apache-2.0
"""Messages of reports to values and back."""

from typing import Any, Protocol

from google.protobuf.timestamp_pb2 import Timestamp

from taximeter.v1 import metering_service_pb2 as pb
from taximeter.v1 import rate_card_service_pb2, tenant_service_pb2
from taximeter_server import _native
from taximeter_server.errors import InvalidFieldsError, SumOutOfRangeError
from taximeter_server.report_columns import ReportColumns, ReportColumnsPage
from taximeter_server.report_query import (
    IN,
    NOT_IN,
    NOT_NULL,
    NULL,
    PREFIX,
    ReportFilter,
    ReportOrder,
    ReportQuery,
    check_interval,
)
from taximeter_server.rpc.convert import timestamp_ms, timestamp_us, to_timestamp
from taximeter_server.rpc.principal import Principal
from taximeter_server.tenant_path import check_tenant
from taximeter_server.violations import Violations

_OPERATORS = {
    pb.FILTER_OPERATOR_UNSPECIFIED: IN,
    pb.FILTER_OPERATOR_IN: IN,
    pb.FILTER_OPERATOR_NOT_IN: NOT_IN,
    pb.FILTER_OPERATOR_PREFIX: PREFIX,
    pb.FILTER_OPERATOR_NULL: NULL,
    pb.FILTER_OPERATOR_NOT_NULL: NOT_NULL,
}
_MEASURES = {
    pb.REPORT_MEASURE_CALLS: "calls",
    pb.REPORT_MEASURE_QUANTITIES: "quantities",
    pb.REPORT_MEASURE_COST: "cost",
    pb.REPORT_MEASURE_LIST_COST: "list_cost",
    pb.REPORT_MEASURE_UNPRICED_LINES: "unpriced_lines",
    pb.REPORT_MEASURE_CREDITS: "credits",
}


def report_query_of(
    message: pb.ReportQuery, readable: tuple[str, ...], noted: Violations, *, within: str = ""
) -> ReportQuery:
    """Return a query, and note all that is wrong with it; then it is not to be used.

    readable: tenants that the caller is bound to, empty for all. within: path of what has the query, with a dot.
    """
    violations = Violations()
    start_us, end_us = _noted_interval_us(message, "query.", violations)
    filters, measures, as_of_time_ms = [], [], None
    for index, each in enumerate(message.filters):
        with violations:
            filters.append(_filter_of(each, index))
    for index, measure in enumerate(message.measures):
        with violations:
            measures.append(_measure_of(measure, index))
    if message.HasField("as_of_time"):
        with violations:
            as_of_time_ms = timestamp_ms(message.as_of_time, "query.as_of_time")
    query = ReportQuery(
        start_time_us=start_us,
        end_time_us=end_us,
        tenant=message.tenant,
        group_by=tuple(message.group_by),
        filters=tuple(filters),
        time_zone=message.time_zone or "UTC",
        readable_tenants=readable or None,
        as_of=message.as_of,
        as_of_time_ms=as_of_time_ms,
        measures=tuple(measures),
        order=tuple(ReportOrder(each.by, each.descending) for each in message.order),
        top=message.top,
        compared_us=_noted_interval_us(message.compare_to, "query.compare_to.", violations)
        if message.HasField("compare_to")
        else None,
    )
    violations.extend(query.violations())
    noted.extend(violations, within=within)
    return query


def usage_of(
    message: rate_card_service_pb2.CompareRateCardsRequest
    | rate_card_service_pb2.PostAdjustmentsRequest
    | tenant_service_pb2.SimulateQuotaRequest,
    principal: Principal,
) -> ReportQuery:
    """Return the usage that is meant. Raises InvalidFieldsError, RangeInvalidError, TenantForbiddenError."""
    start_us, end_us = _interval_us(message, "")
    check_interval(start_us, end_us, "")
    if message.tenant:
        principal.require_reach(check_tenant(message.tenant, "tenant"))
    return ReportQuery(start_us, end_us, tenant=message.tenant, readable_tenants=principal.tenants or None)


class _Interval(Protocol):
    """A message with an interval."""

    @property
    def start_time(self) -> Timestamp: ...
    @property
    def end_time(self) -> Timestamp: ...
    def HasField(self, field_name: Any, /) -> bool: ...  # noqa: N802


def _interval_us(message: _Interval, prefix: str) -> tuple[int, int]:
    violations, times_us = Violations(), []
    for name in ("start_time", "end_time"):
        with violations:
            if not message.HasField(name):
                raise InvalidFieldsError.required(f"{prefix}{name}")
            times_us.append(timestamp_us(getattr(message, name), f"{prefix}{name}"))
    violations.raise_any()
    start_us, end_us = times_us
    return start_us, end_us


def _noted_interval_us(message: _Interval, prefix: str, violations: Violations) -> tuple[int, int]:
    """Return the interval; one with which nothing is wrong in the place of one that cannot be read, which is noted."""
    with violations:
        return _interval_us(message, prefix)
    return 0, 1


def _filter_of(message: pb.ReportFilter, index: int) -> ReportFilter:
    operator = _OPERATORS.get(message.operator)
    if operator is None:
        raise InvalidFieldsError.of(f"query.filters[{index}].operator", "is not one that this server knows")
    return ReportFilter(message.dimension, tuple(message.values), operator)


def _measure_of(measure: pb.ReportMeasure.ValueType, index: int) -> str:
    name = _MEASURES.get(measure)
    if name is None:
        raise InvalidFieldsError.of(f"query.measures[{index}]", "is not one that this server knows")
    return name


def to_response(page: ReportColumnsPage, query: ReportQuery, currency_code: str) -> pb.ReportResponse:
    """Return a page as a message. Raises SumOutOfRangeError when a sum does not fit."""
    response = _rows(page.rows, query, currency_code)
    (total,) = _rows(page.total, query, currency_code).rows
    response.next_page_token = page.next_page_token
    response.total.CopyFrom(total.measures)
    response.as_of_time.CopyFrom(to_timestamp(page.as_of_time_ms))
    response.as_of = page.as_of
    if total.HasField("compared"):
        response.compared_total.CopyFrom(total.compared)
    return response


def _rows(columns: ReportColumns, query: ReportQuery, currency_code: str) -> pb.ReportResponse:
    try:
        rows = _native.report_rows(
            columns.to_ipc(),
            dimensions=query.group_by[: columns.dimension_count],
            measures=query.measures,
            currency_code=currency_code,
        )
    except OverflowError:
        raise SumOutOfRangeError from None
    return pb.ReportResponse.FromString(rows)
