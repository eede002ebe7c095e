# SPDX-License-Identifier: Apache-2.0
"""Reports and exports: the part of the client that reads."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from enum import StrEnum

from taximeter import _convert, _convert_report
from taximeter._session import Session
from taximeter.estimates import Estimate, Sample
from taximeter.provider_usage import ProviderUsage
from taximeter.report_query import NO_FILTERS, Filters, ReportQuery, filters_in
from taximeter.results import Report
from taximeter.usage import Usage
from taximeter.v1 import metering_service_pb2, metering_service_pb2_grpc

REPORT_TIMEOUT_S = 60.0
EXPORT_TIMEOUT_S = 600.0
_REPORT_PAGE_SIZE = 10_000


class ExportFormat(StrEnum):
    """Format of an exported report."""

    CSV = "CSV"
    """RFC 4180 with the stable columns; its grouping is fixed."""
    JSON_LINES = "JSON_LINES"
    """One JSON object per row; amounts are decimal strings."""
    PARQUET = "PARQUET"
    """Apache Parquet, one row per group; amounts are exact decimals."""
    FOCUS = "FOCUS"
    """CSV of the FinOps FOCUS 1.2 specification; its grouping is fixed."""


class Reporting:
    """Calls that sum what was recorded."""

    # Set by the client.
    _session: Session
    _metering: metering_service_pb2_grpc.MeteringServiceStub

    def report(
        self,
        start_time: datetime,
        end_time: datetime,
        *,
        tenant: str = "",
        group_by: Iterable[str] = (),
        filters: Filters = NO_FILTERS,
        time_zone: str = "UTC",
        timeout_s: float = REPORT_TIMEOUT_S,
    ) -> Report:
        """Sums recorded usage from `start_time` to before `end_time`, at most 400 days; fetches all pages.

        `timeout_s` is for each page. Dimensions of `group_by` and `filters` are those of ReportQuery in the API, such
        as "tenant", "model", "day" or "attributes.KEY". For order, comparison and all else, see `query_report`.
        """
        query = ReportQuery(start_time, end_time, tenant, tuple(group_by), filters_in(filters), time_zone)
        return self.query_report(query, timeout_s=timeout_s)

    def query_report(self, query: ReportQuery, *, timeout_s: float = REPORT_TIMEOUT_S) -> Report:
        """Answers a query; fetches all pages. `timeout_s` is for each page."""
        message = _convert_report.report_query(query)

        def fetch(token: str) -> metering_service_pb2.ReportResponse:
            request = metering_service_pb2.ReportRequest(
                query=message, page_size=_REPORT_PAGE_SIZE, page_token=token
            )
            return self._session.unary(self._metering.Report, request, timeout_s)

        pages = list(self._session.pages(fetch))
        last = pages[-1]
        return Report(
            rows=tuple(_convert_report.report_row(row) for page in pages for row in page.rows),
            total=_convert_report.measures(last.total),
            as_of_time=_convert.instant(last.as_of_time) if last.HasField("as_of_time") else None,
            as_of=last.as_of,
            compared_total=(
                _convert_report.measures(last.compared_total) if last.HasField("compared_total") else None
            ),
        )

    def export_report(
        self,
        start_time: datetime,
        end_time: datetime,
        *,
        file_format: ExportFormat = ExportFormat.CSV,
        tenant: str = "",
        group_by: Iterable[str] = (),
        filters: Filters = NO_FILTERS,
        time_zone: str = "UTC",
        timeout_s: float = EXPORT_TIMEOUT_S,
    ) -> Iterator[bytes]:
        """Yields a report as the pieces of a file. The arguments are those of `report`.

        A ServerError may come after some pieces: the file is then not whole.
        """
        query = ReportQuery(start_time, end_time, tenant, tuple(group_by), filters_in(filters), time_zone)
        return self.query_export(query, file_format=file_format, timeout_s=timeout_s)

    def query_export(
        self, query: ReportQuery, *, file_format: ExportFormat, timeout_s: float = EXPORT_TIMEOUT_S
    ) -> Iterator[bytes]:
        """Yields the answer to a query as the pieces of a file. A ServerError may come after some pieces."""
        request = metering_service_pb2.ExportReportRequest(
            query=_convert_report.report_query(query),
            format=metering_service_pb2.ExportFormat.Value(f"EXPORT_FORMAT_{file_format.value}"),
        )
        pieces = self._session.stream(self._metering.ExportReport, request, timeout_s)
        return (piece.chunk for piece in pieces)

    def estimate(  # noqa: PLR0913 - by name, one per field of the request
        self,
        usage: Usage | ProviderUsage | None = None,
        *,
        model: str = "",
        call_count: int = 1,
        rate_card_id: str = "",
        occur_time: datetime | None = None,
        provider: str = "",
        tier: str = "",
        region: str = "",
        speed: str = "",
        high_usage: Usage | None = None,
        sample: Sample | None = None,
        limits_tenant: str = "",
        calls_per_minute: int = 0,
        timeout_s: float = REPORT_TIMEOUT_S,
    ) -> Estimate:
        """Prices calls that have not happened, from the usage of one or from a sample run, recording nothing.

        `usage`, in classes or as a provider reported it, and `high_usage` are a cheap and an expensive call;
        `limits_tenant` asks what would remain of its limits and which would stop the calls, `calls_per_minute` when.
        Raises NotFoundError (MODEL_UNKNOWN) when the card has no row for the model.
        """
        request = metering_service_pb2.EstimateRequest(
            model=model,
            provider=provider,
            usage=_convert.expected_usage(usage),
            provider_usage=_convert.expected_provider_usage(usage),
            call_count=call_count,
            rate_card_id=rate_card_id,
            occur_time=_convert.timestamp(occur_time),
            tier=tier,
            region=region,
            speed=speed,
            high_usage=None if high_usage is None else _convert.usage_message(high_usage),
            sample=None if sample is None else _convert_report.sample(sample),
            limits_tenant=limits_tenant,
            calls_per_minute=calls_per_minute,
        )
        response = self._session.unary(self._metering.Estimate, request, timeout_s)
        return _convert_report.estimate(response)
