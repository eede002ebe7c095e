# SPDX-License-Identifier: Apache-2.0
"""From messages of taximeter.v1 to the values of this package, for invoices."""

from taximeter._convert import enum_member, instant, money
from taximeter.billing import Invoice, InvoiceKind, InvoiceLine, InvoiceLineKind, InvoiceState
from taximeter.v1 import invoice_pb2


def invoice_of(message: invoice_pb2.Invoice) -> Invoice:
    """Converts a document."""
    return Invoice(
        invoice_id=message.invoice_id,
        kind=enum_member(InvoiceKind, invoice_pb2.InvoiceKind.items(), "INVOICE_KIND_", message.kind),
        state=enum_member(InvoiceState, invoice_pb2.InvoiceState.items(), "INVOICE_STATE_", message.state),
        number=message.number,
        tenant=message.tenant,
        customer_name=message.customer_name,
        currency_code=message.currency_code,
        minor_digits=message.minor_digits,
        period_start_time=instant(message.period_start_time),
        period_end_time=instant(message.period_end_time),
        time_zone=message.time_zone,
        lines=tuple(_line(line) for line in message.lines),
        total_minor=message.total_minor,
        credited_minor=message.credited_minor,
        due_minor=message.due_minor,
        finalize_time=instant(message.finalize_time) if message.HasField("finalize_time") else None,
        due_time=instant(message.due_time) if message.HasField("due_time") else None,
        paid_time=instant(message.paid_time) if message.HasField("paid_time") else None,
        void_time=instant(message.void_time) if message.HasField("void_time") else None,
        due_finalize_time=instant(message.due_finalize_time)
        if message.HasField("due_finalize_time")
        else None,
        as_of=message.as_of,
        content_sha256=message.content_sha256,
        original_invoice_id=message.original_invoice_id,
        reason=message.reason,
        url=message.url,
        external_id=message.external_id,
    )


def _line(message: invoice_pb2.InvoiceLine) -> InvoiceLine:
    kinds = invoice_pb2.InvoiceLineKind.items()
    return InvoiceLine(
        kind=enum_member(InvoiceLineKind, kinds, "INVOICE_LINE_KIND_", message.kind),
        description=message.description,
        service_start_time=instant(message.service_start_time),
        service_end_time=instant(message.service_end_time),
        item=message.item,
        quantity=message.quantity,
        unit=message.unit,
        amount=money(message.amount),
        amount_minor=message.amount_minor,
        correction=message.correction,
    )
