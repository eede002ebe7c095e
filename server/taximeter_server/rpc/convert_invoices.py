# SPDX-License-Identifier: Apache-2.0
"""Invoices as messages."""

from taximeter.v1 import invoice_pb2
from taximeter_server import invoice
from taximeter_server.invoice import Invoice, InvoiceLine
from taximeter_server.rpc.convert import int64, to_money, to_timestamp

_KINDS = {
    invoice.INVOICE: invoice_pb2.INVOICE_KIND_INVOICE,
    invoice.CREDIT_NOTE: invoice_pb2.INVOICE_KIND_CREDIT_NOTE,
    invoice.REVERSAL: invoice_pb2.INVOICE_KIND_REVERSAL,
}
_STATES = {
    invoice.DRAFT: invoice_pb2.INVOICE_STATE_DRAFT,
    invoice.OPEN: invoice_pb2.INVOICE_STATE_OPEN,
    invoice.PAID: invoice_pb2.INVOICE_STATE_PAID,
    invoice.VOID: invoice_pb2.INVOICE_STATE_VOID,
}
_LINE_KINDS = {
    invoice.PLAN: invoice_pb2.INVOICE_LINE_KIND_PLAN,
    invoice.USAGE: invoice_pb2.INVOICE_LINE_KIND_USAGE,
    invoice.OVERAGE: invoice_pb2.INVOICE_LINE_KIND_OVERAGE,
    invoice.ROUNDING: invoice_pb2.INVOICE_LINE_KIND_ROUNDING,
    invoice.CREDIT: invoice_pb2.INVOICE_LINE_KIND_CREDIT,
    invoice.CARRY: invoice_pb2.INVOICE_LINE_KIND_CARRY,
    invoice.TOP_UP: invoice_pb2.INVOICE_LINE_KIND_TOP_UP,
    invoice.TOP_UP_PAYMENT: invoice_pb2.INVOICE_LINE_KIND_TOP_UP_PAYMENT,
}


def to_invoice(document: Invoice) -> invoice_pb2.Invoice:
    """Return a document as a message. Raises SumOutOfRangeError when an amount does not fit its field."""
    message = invoice_pb2.Invoice(
        invoice_id=document.invoice_id,
        kind=_KINDS[document.kind],
        state=_STATES[document.state],
        number=document.number,
        tenant=document.tenant,
        customer_name=document.customer_name,
        currency_code=document.currency_code,
        minor_digits=document.minor_digits,
        period_start_time=to_timestamp(document.period_start_ms),
        period_end_time=to_timestamp(document.period_end_ms),
        time_zone=document.time_zone,
        lines=[_to_line(line, document.currency_code) for line in document.lines],
        total_minor=int64(document.total_minor),
        credited_minor=document.credited_minor,
        due_minor=document.due_minor,
        as_of=document.as_of,
        content_sha256=document.content_sha256,
        original_invoice_id=document.original_invoice_id,
        reason=document.reason,
        url=document.url,
        external_id=document.external_id,
    )
    for name, time_ms in (
        ("finalize_time", document.finalize_time_ms),
        ("due_time", document.due_time_ms),
        ("paid_time", document.paid_time_ms),
        ("void_time", document.void_time_ms),
        ("due_finalize_time", document.due_finalize_time_ms),
    ):
        if time_ms is not None:
            getattr(message, name).CopyFrom(to_timestamp(time_ms))
    return message


def _to_line(line: InvoiceLine, currency_code: str) -> invoice_pb2.InvoiceLine:
    return invoice_pb2.InvoiceLine(
        kind=_LINE_KINDS[line.kind],
        description=line.description,
        service_start_time=to_timestamp(line.start_ms),
        service_end_time=to_timestamp(line.end_ms),
        item=line.item,
        quantity=int64(line.quantity),
        unit=line.unit,
        amount=to_money(line.amount_picos, currency_code),
        amount_minor=int64(line.amount_minor),
        correction=line.is_correction,
    )
