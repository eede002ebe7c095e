# SPDX-License-Identifier: Apache-2.0
"""The part of the client that corrects records."""

from datetime import datetime

from taximeter import _convert
from taximeter._session import Session
from taximeter.corrections import CorrectedRecord
from taximeter.usage import Usage
from taximeter.v1 import metering_service_pb2, metering_service_pb2_grpc

CORRECT_TIMEOUT_S = 300
"""A record is looked for in the whole ledger."""


class Correcting:
    """Calls that take records back or amend them. Need an admin key that is bound to no tenant; raise ServerError."""

    # Set by the client.
    _session: Session
    _metering: metering_service_pb2_grpc.MeteringServiceStub

    def void_record(
        self, tenant: str, record_id: str, *, reason: str, occur_time: datetime | None = None
    ) -> CorrectedRecord:
        """Takes a record back: a reversing entry is appended, the record itself never changes.

        Safe to call again. `occur_time` tells records apart where an id came again. Raises NotFoundError
        (RECORD_UNKNOWN), PreconditionError (RECORD_IS_CORRECTION).
        """
        request = metering_service_pb2.VoidRecordRequest(
            tenant=tenant,
            record_id=record_id,
            reason=reason,
            occur_time=None if occur_time is None else _convert.timestamp(occur_time),
        )
        response = self._session.unary(self._metering.VoidRecord, request, CORRECT_TIMEOUT_S)
        return _corrected(response)

    def amend_record(
        self, tenant: str, record_id: str, usage: Usage, *, reason: str, occur_time: datetime | None = None
    ) -> CorrectedRecord:
        """Says what a record should have said, as a whole: it is charged by the record's own card and time.

        Safe to call again. Raises as void_record does, and PreconditionError (RECORD_VOIDED).
        """
        request = metering_service_pb2.AmendRecordRequest(
            tenant=tenant,
            record_id=record_id,
            usage=_convert.usage_message(usage),
            reason=reason,
            occur_time=None if occur_time is None else _convert.timestamp(occur_time),
        )
        response = self._session.unary(self._metering.AmendRecord, request, CORRECT_TIMEOUT_S)
        return _corrected(response)


def _corrected(
    response: metering_service_pb2.VoidRecordResponse | metering_service_pb2.AmendRecordResponse,
) -> CorrectedRecord:
    correction = response.correction
    return CorrectedRecord(
        duplicate=response.duplicate,
        correction_id=correction.correction_id,
        occur_time=_convert.instant(correction.occur_time),
        previous_cost=_convert.money(correction.previous_cost),
        cost=_convert.money(correction.cost),
        lines=_convert.cost_lines(correction.lines),
    )
