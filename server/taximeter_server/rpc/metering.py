# SPDX-License-Identifier: Apache-2.0
"""MeteringService, the part behind the front: reports and estimates. The front serves what is on the request path."""

from collections.abc import Callable, Generator, Iterator, Mapping
from typing import ClassVar

from google.protobuf.descriptor import ServiceDescriptor

from taximeter.v1 import metering_service_pb2 as pb
from taximeter_server.errors import InvalidFieldsError
from taximeter_server.report import Reporter
from taximeter_server.report_csv import csv_chunks
from taximeter_server.report_focus import FocusContext, focus_chunks
from taximeter_server.report_json import json_chunks
from taximeter_server.report_parquet import parquet_chunks
from taximeter_server.report_query import ReportQuery
from taximeter_server.rpc.convert_report import report_query_of, to_response
from taximeter_server.rpc.corrections import RecordCorrections
from taximeter_server.rpc.estimates import Estimates
from taximeter_server.rpc.levels import LevelReadings
from taximeter_server.rpc.principal import Principal
from taximeter_server.rpc.server import Handler
from taximeter_server.violations import Violations

FRONT_METHODS = frozenset({"Record", "RecordBatch", "CheckQuota", "ExtendHold", "ReleaseHold"})
"""Methods of the service that never arrive here."""

RESPONSE_BYTES_MAX = 3 << 20
"""gRPC clients refuse answers of more than 4 MiB unless told otherwise; a page beyond this is cut shorter."""


class MeteringService:
    """Serves RecordLevel, corrections, Report, ExportReport and Estimate of taximeter.v1.MeteringService."""

    descriptor: ClassVar[ServiceDescriptor] = pb.DESCRIPTOR.services_by_name["MeteringService"]
    serves_without_store: ClassVar[bool] = True

    def __init__(
        self,
        reporter: Reporter,
        estimates: Estimates,
        readings: LevelReadings,
        corrections: RecordCorrections,
        *,
        currency_code: Callable[[], str],
    ) -> None:
        """currency_code: of the newest card."""
        self._reporter = reporter
        self._estimates = estimates
        self._readings = readings
        self._corrections = corrections
        self._currency_code = currency_code

    def handlers(self) -> Mapping[str, Handler]:
        """Return the handler of every method that the front does not serve."""
        return {
            "RecordLevel": self.record_level,
            "VoidRecord": self.void_record,
            "AmendRecord": self.amend_record,
            "Report": self.report,
            "ExportReport": self.export_report,
            "Estimate": self.estimate,
        }

    def slow_methods(self) -> frozenset[str]:
        """Return the methods that read the ledger."""
        return frozenset({"Report", "ExportReport", "Estimate", "VoidRecord", "AmendRecord"})

    def record_level(self, request: pb.RecordLevelRequest, principal: Principal) -> pb.RecordLevelResponse:
        """Record a reading of a level."""
        return self._readings.record_level(request, principal)

    def void_record(self, request: pb.VoidRecordRequest, principal: Principal) -> pb.VoidRecordResponse:
        """Take a record back."""
        return self._corrections.void_record(request, principal)

    def amend_record(self, request: pb.AmendRecordRequest, principal: Principal) -> pb.AmendRecordResponse:
        """Say what a record should have said."""
        return self._corrections.amend_record(request, principal)

    def report(self, request: pb.ReportRequest, principal: Principal) -> pb.ReportResponse:
        """Answer one page."""
        violations = Violations()
        query = report_query_of(request.query, principal.tenants, violations)
        _require(violations, query, principal)
        page_size = request.page_size
        while True:
            page = self._reporter.page(query, page_size=page_size, page_token=request.page_token)
            response = to_response(page, query, self._currency_code())
            size_bytes = response.ByteSize()
            if size_bytes <= RESPONSE_BYTES_MAX or len(response.rows) <= 1:
                return response
            # Rows differ in size, so aim well below.
            page_size = max(1, len(response.rows) * RESPONSE_BYTES_MAX // size_bytes * 3 // 4)

    def export_report(
        self, request: pb.ExportReportRequest, principal: Principal
    ) -> Generator[pb.ExportReportResponse, None, None]:
        """Stream a report as a file. Errors of the query come before the first piece."""
        violations = Violations()
        query = report_query_of(request.query, principal.tenants, violations)
        if request.query.HasField("compare_to"):
            violations.add("query.compare_to", "is not for files")
        with violations:
            _check_format(request.format)
        _require(violations, query, principal)
        return _to_responses(self._chunks(request.format, query))

    def _chunks(self, file_format: pb.ExportFormat.ValueType, query: ReportQuery) -> Iterator[bytes]:
        currency_code = self._currency_code()
        if file_format == pb.EXPORT_FORMAT_CSV:
            return csv_chunks(self._reporter.csv_rows(query))
        if file_format == pb.EXPORT_FORMAT_FOCUS:
            context = FocusContext(self._reporter.ledger_id, currency_code, query.time_zone)
            return focus_chunks(self._reporter.focus_rows(query), context)
        if file_format == pb.EXPORT_FORMAT_JSON_LINES:
            return json_chunks(
                self._reporter.rows(query), group_by=query.group_by, currency_code=currency_code
            )
        return parquet_chunks(
            self._reporter.rows(query), group_by=query.group_by, currency_code=currency_code
        )

    def estimate(self, request: pb.EstimateRequest, principal: Principal) -> pb.EstimateResponse:
        """Price usage that has not happened."""
        return self._estimates.estimate(request, principal)


def _require(violations: Violations, query: ReportQuery, principal: Principal) -> None:
    """Raise what is wrong with a request, or that it is not for the caller."""
    violations.raise_any()
    if query.tenant:
        principal.require_reach(query.tenant)


def _check_format(file_format: pb.ExportFormat.ValueType) -> None:
    if file_format == pb.EXPORT_FORMAT_UNSPECIFIED:
        raise InvalidFieldsError.required("format")
    if file_format not in pb.ExportFormat.values():
        raise InvalidFieldsError.of("format", "is not one that this server knows")


def _to_responses(chunks: Iterator[bytes]) -> Generator[pb.ExportReportResponse, None, None]:
    for chunk in chunks:
        yield pb.ExportReportResponse(chunk=chunk)
