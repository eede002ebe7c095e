# SPDX-License-Identifier: Apache-2.0
"""Documents that take back invoices: reversals as a whole, credit notes in part. The invoice keeps what it says.

What a void invoice has billed is owed again, and comes onto the next one. What a credit note gives back stays given.
"""

import re
from collections.abc import Sequence
from dataclasses import replace

from taximeter_server.billing_errors import (
    CreditNoteConflictError,
    CreditTooLargeError,
    InvoiceStateError,
    InvoiceUnknownError,
)
from taximeter_server.errors import InvalidFieldsError, StoreUnavailableError
from taximeter_server.invoice import (
    CREDIT,
    CREDIT_NOTE,
    DRAFT,
    INVOICE,
    OPEN,
    PAID,
    REVERSAL,
    VOID,
    Invoice,
    InvoiceLine,
    to_picos,
)
from taximeter_server.invoices import (
    ATTEMPTS_MAX,
    CREDIT_SERIES,
    Account,
    Invoices,
    check_reason,
    kept,
    next_number,
)
from taximeter_server.store_billing import BillingStore, FieldChange
from taximeter_server.store_names import INVOICES_PREFIX

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class CreditNotes:
    """Voids and credits invoices. Thread-safe. Every method raises StoreUnavailableError, StoreCorruptError, too."""

    def __init__(self, store: BillingStore, invoices: Invoices) -> None:
        self._store = store
        self._invoices = invoices

    def void(self, invoice_id: str, reason: str) -> tuple[Invoice, Invoice]:
        """Take an invoice back that is not paid. Returns it and its reversal. Idempotent.

        Raises InvalidFieldsError, InvoiceUnknownError, InvoiceStateError.
        """
        check_reason(reason)
        for _ in range(ATTEMPTS_MAX):
            account, invoice = self._found(invoice_id)
            reversal_id = f"{invoice.invoice_id}/void"
            if invoice.state == VOID:
                return invoice, account.documents[reversal_id]
            # Nothing was paid of what was never to be paid.
            if invoice.kind != INVOICE or not (invoice.state == OPEN or invoice.total_minor <= 0):
                raise InvoiceStateError(invoice.invoice_id, invoice.state)
            reversal = self._document(account, invoice, reversal_id, REVERSAL, _reversed(invoice), reason)
            after = replace(invoice, state=VOID, void_time_ms=account.now_ms)
            if self._keep(account, invoice, after, reversal):
                return after, reversal
        raise StoreUnavailableError

    def credit(self, invoice_id: str, request_id: str, amount_minor: int, reason: str) -> Invoice:
        """Give back part of an invoice, or all. Idempotent by request_id. Returns the credit note.

        Raises InvalidFieldsError, InvoiceUnknownError, InvoiceStateError, CreditTooLargeError,
        CreditNoteConflictError.
        """
        check_reason(reason)
        if not _REQUEST_ID.fullmatch(request_id):
            raise InvalidFieldsError.of("request_id", "1 to 64 of A-Z a-z 0-9 . _ -")
        if amount_minor < 1:
            raise InvalidFieldsError.of("amount_minor", "from 1 on")
        for _ in range(ATTEMPTS_MAX):
            account, invoice = self._found(invoice_id)
            note_id = f"{invoice.invoice_id}/credit/{request_id}"
            existing = account.documents.get(note_id)
            if existing is not None:
                if (existing.total_minor, existing.reason) != (-amount_minor, reason):
                    raise CreditNoteConflictError(request_id)
                return existing
            if invoice.kind != INVOICE or invoice.state not in {OPEN, PAID}:
                raise InvoiceStateError(invoice.invoice_id, invoice.state)
            left_minor = max(0, invoice.total_minor) - invoice.credited_minor
            if amount_minor > left_minor:
                raise CreditTooLargeError(invoice.invoice_id, left_minor)
            line = _credit_line(invoice, -amount_minor)
            note = self._document(account, invoice, note_id, CREDIT_NOTE, [line], reason)
            after = replace(invoice, credited_minor=invoice.credited_minor + amount_minor)
            if after.state == OPEN and after.due_minor == 0:
                after = replace(after, state=PAID, paid_time_ms=account.now_ms)
            if self._keep(account, invoice, after, note):
                return note
        raise StoreUnavailableError

    def _found(self, reference: str) -> tuple[Account, Invoice]:
        invoice_id = self._invoices.id_of(reference)
        account = self._invoices.account(self._invoices.tenant_of(invoice_id))
        invoice = account.documents.get(invoice_id)
        if invoice is None:
            # A draft is not given back: it is computed anew all the time.
            if any(one.invoice_id == invoice_id for one in self._invoices.list(invoice_id.partition("/")[0])):
                raise InvoiceStateError(invoice_id, DRAFT)
            raise InvoiceUnknownError(invoice_id)
        return account, invoice

    def _document(
        self,
        account: Account,
        invoice: Invoice,
        document_id: str,
        kind: str,
        lines: Sequence[InvoiceLine],
        reason: str,
    ) -> Invoice:
        number, _ = next_number(account.stored, CREDIT_SERIES)
        return replace(
            invoice,
            invoice_id=document_id,
            kind=kind,
            state=PAID,
            number=number,
            lines=tuple(lines),
            finalize_time_ms=account.now_ms,
            due_time_ms=None,
            original_invoice_id=invoice.invoice_id,
            reason=reason,
            credited_minor=0,
            pushed_credited_minor=0,
            paid_time_ms=None,
            url="",
            external_id="",
        ).sealed()

    def _keep(self, account: Account, before: Invoice, after: Invoice, document: Invoice) -> bool:
        _, numbering = next_number(account.stored, CREDIT_SERIES)
        seen = account.stored.documents[before.invoice_id]
        return self._store.replace(
            [
                FieldChange(INVOICES_PREFIX + after.tenant, after.invoice_id, seen, after.to_json()),
                *numbering,
                *kept(document),
            ]
        )


def _reversed(invoice: Invoice) -> list[InvoiceLine]:
    """Return the lines that take back an invoice, less what credit notes took back before."""
    lines = [
        replace(
            line,
            quantity=-line.quantity,
            amount_picos=-line.amount_picos,
            amount_minor=-line.amount_minor,
        )
        for line in invoice.lines
    ]
    return [*lines, _credit_line(invoice, invoice.credited_minor)] if invoice.credited_minor else lines


def _credit_line(invoice: Invoice, amount_minor: int) -> InvoiceLine:
    return InvoiceLine(
        kind=CREDIT,
        item=invoice.number,
        start_ms=invoice.period_start_ms,
        end_ms=invoice.period_end_ms,
        quantity=0,
        unit="",
        amount_picos=to_picos(amount_minor, invoice.minor_digits),
        amount_minor=amount_minor,
    )
