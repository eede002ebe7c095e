# SPDX-License-Identifier: Apache-2.0
"""Between the values of this package and the messages of taximeter.v1, for reports."""

from taximeter._convert import cost_lines, instant, limit_status, money, pricing_state, timestamp
from taximeter.estimates import Estimate, EstimateLimit, Sample
from taximeter.report_query import ReportQuery
from taximeter.results import Measures, ReportRow
from taximeter.v1 import metering_service_pb2


def measures(message: metering_service_pb2.ReportMeasures) -> Measures:
    """Converts sums."""
    return Measures(
        calls=message.calls,
        quantities=dict(message.quantities),
        cost=money(message.cost),
        unpriced_lines=message.unpriced_lines,
        adjustment_cost=money(message.adjustment_cost),
        adjusted_unpriced_lines=message.adjusted_unpriced_lines,
        list_cost=money(message.list_cost),
        credit_microcredits=message.credit_microcredits,
        overdrawn_microcredits=message.overdrawn_microcredits,
    )


def report_row(message: metering_service_pb2.ReportRow) -> ReportRow:
    """Converts one group of a report."""
    return ReportRow(
        group={value.dimension: value.value if value.HasField("value") else None for value in message.group},
        measures=measures(message.measures),
        compared=measures(message.compared) if message.HasField("compared") else None,
        is_other=message.is_other,
    )


def report_query(query: ReportQuery) -> metering_service_pb2.ReportQuery:
    """Makes the query of a report."""
    message = metering_service_pb2.ReportQuery(
        tenant=query.tenant,
        start_time=timestamp(query.start_time),
        end_time=timestamp(query.end_time),
        group_by=query.group_by,
        filters=[
            metering_service_pb2.ReportFilter(
                dimension=each.dimension,
                values=each.values,
                operator=metering_service_pb2.FilterOperator.Value(f"FILTER_OPERATOR_{each.operator.value}"),
            )
            for each in query.filters
        ],
        time_zone=query.time_zone,
        measures=[
            metering_service_pb2.ReportMeasure.Value(f"REPORT_MEASURE_{measure.value}")
            for measure in query.measures
        ],
        order=[metering_service_pb2.ReportOrder(by=key.by, descending=key.descending) for key in query.order],
        top=query.top,
        as_of=query.as_of,
        as_of_time=timestamp(query.as_of_time),
    )
    if query.compare_to is not None:
        start_time, end_time = query.compare_to
        message.compare_to.CopyFrom(
            metering_service_pb2.ReportInterval(
                start_time=timestamp(start_time), end_time=timestamp(end_time)
            )
        )
    return message


def sample(value: Sample) -> metering_service_pb2.EstimateSample:
    """Makes the sample of an estimate."""
    return metering_service_pb2.EstimateSample(
        query=report_query(value.query), item_count=value.item_count, item_dimension=value.item_dimension
    )


def estimate(message: metering_service_pb2.EstimateResponse) -> Estimate:
    """Converts an estimate."""
    return Estimate(
        cost_per_call=money(message.cost_per_call),
        cost=money(message.cost),
        lines=cost_lines(message.lines),
        rate_card_id=message.rate_card_id,
        rate_card_row=message.rate_card_row,
        pricing_state=pricing_state(message.pricing_state),
        low_cost=money(message.low_cost),
        high_cost=money(message.high_cost),
        limits=tuple(_estimate_limit(limit) for limit in message.limits),
        sample_item_count=message.sample_item_count,
        unpriced_lines=message.unpriced_lines,
        list_cost=money(message.list_cost) if message.HasField("list_cost") else None,
        tenant_prices_version=message.tenant_prices_version,
        credit_microcredits=message.credit_microcredits,
    )


def _estimate_limit(message: metering_service_pb2.EstimateLimit) -> EstimateLimit:
    return EstimateLimit(
        status=limit_status(message.status),
        needed=message.needed,
        remaining_after=message.remaining_after,
        stops=message.stops,
        passed_count=message.passed_count,
        stop_time=instant(message.stop_time) if message.HasField("stop_time") else None,
    )
