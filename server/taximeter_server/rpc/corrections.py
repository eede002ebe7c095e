# SPDX-License-Identifier: Apache-2.0
"""VoidRecord and AmendRecord of MeteringService. They change what tenants are charged, so bound keys cannot."""

from collections.abc import Callable

from taximeter.v1 import metering_service_pb2 as pb
from taximeter.v1 import usage_pb2
from taximeter_server import _native
from taximeter_server.adjustments import check_note
from taximeter_server.errors import InvalidFieldsError
from taximeter_server.rate_card_values import decimal_text
from taximeter_server.record_correction import Amended, Correction, Line, RecordCorrector, Target
from taximeter_server.rpc.convert import check_record_id, timestamp_us, to_money, to_timestamp_us
from taximeter_server.rpc.principal import Principal
from taximeter_server.tenant_path import check_tenant


class RecordCorrections:
    """Corrects records."""

    def __init__(self, corrector: RecordCorrector, *, currency_code: Callable[[], str]) -> None:
        """currency_code: of the newest card."""
        self._corrector = corrector
        self._currency_code = currency_code

    def void_record(self, request: pb.VoidRecordRequest, principal: Principal) -> pb.VoidRecordResponse:
        """Take a record back."""
        target, reason = _target_of(request, principal)
        found = self._corrector.correct(target, None, reason=reason, author=principal.key_id)
        return pb.VoidRecordResponse(duplicate=found.duplicate, correction=self._to_message(found))

    def amend_record(self, request: pb.AmendRecordRequest, principal: Principal) -> pb.AmendRecordResponse:
        """Say what a record should have said."""
        target, reason = _target_of(request, principal)
        if not request.HasField("usage"):
            raise InvalidFieldsError.required("usage")
        quantities = _native.usage_quantities(request.usage.SerializeToString(), "usage")
        amended = Amended(dict(quantities), max(request.usage.calls, 1))
        found = self._corrector.correct(target, amended, reason=reason, author=principal.key_id)
        return pb.AmendRecordResponse(duplicate=found.duplicate, correction=self._to_message(found))

    def _to_message(self, found: Correction) -> pb.RecordCorrection:
        previous_cost_picos = found.cost_picos if found.duplicate else found.previous_cost_picos
        return pb.RecordCorrection(
            correction_id=found.correction_id,
            occur_time=to_timestamp_us(found.occur_time_us),
            previous_cost=to_money(previous_cost_picos, self._currency_code()),
            cost=to_money(found.cost_picos, self._currency_code()),
            lines=[_to_line(line) for line in found.lines],
        )


def _target_of(
    request: pb.VoidRecordRequest | pb.AmendRecordRequest, principal: Principal
) -> tuple[Target, str]:
    """Return the record that is meant, and why. Raises InvalidFieldsError, TenantForbiddenError."""
    principal.require_unbound()
    tenant = check_tenant(request.tenant, "tenant")
    record_id = check_record_id(request.record_id)
    occur_time_us = timestamp_us(request.occur_time, "occur_time") if request.HasField("occur_time") else None
    return Target(tenant, record_id, occur_time_us), check_note(request.reason, "reason")


def _to_line(line: Line) -> usage_pb2.CostLine:
    return usage_pb2.CostLine(
        usage_class=line["usage_class"],
        priced_as=line["priced_as"],
        quantity=line["quantity"],
        billed_quantity=line["billed_quantity"],
        unit_price=decimal_text(line["amount_picos"]) if line["per"] else "",
        per=line["per"],
        cost_picos=line["cost_picos"],
        unpriced=line["unpriced"],
    )
