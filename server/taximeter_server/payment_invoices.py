# SPDX-License-Identifier: Apache-2.0
"""Final invoices on their way to the payment provider, what takes them back, and what it says became of them.

What has been pushed stands in the document itself, and what is to be has one name per document: however often they are
looked through, each is queued once.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from taximeter_server.billing_errors import InvoiceStateError, InvoiceUnknownError
from taximeter_server.invoice import INVOICE, OPEN, REVERSAL, VOID, Invoice
from taximeter_server.invoices import Invoices
from taximeter_server.payment_accounts import PaymentAccounts
from taximeter_server.payment_job import JobKind, PaymentJob
from taximeter_server.payment_provider import (
    Outcome,
    PaymentEvent,
    Pushed,
    PushedCreditNote,
    PushedInvoice,
    PushedLine,
)
from taximeter_server.payment_store import PaymentStore

INTERVAL_MS = 10_000
_MS_PER_DAY = 86_400_000


class InvoiceSource:
    """Queues final invoices of accounts that pay through the provider."""

    def __init__(
        self, store: PaymentStore, accounts: PaymentAccounts, invoices: Invoices, clock: Callable[[], int]
    ) -> None:
        """clock: the store's, in milliseconds."""
        self._store = store
        self._accounts = accounts
        self._invoices = invoices
        self._clock = clock

    def queue(self) -> None:
        """Queue what has become final since the last time; every INTERVAL_MS is often enough."""
        now_ms = self._clock()
        for account in self._accounts.list():
            documents = self._invoices.list(account.tenant, with_drafts=False)
            for job in _jobs(documents, now_ms):
                self._store.queue(job.job_id, job.to_json(), now_ms)

    def is_void(self, number: str) -> bool:
        """Say whether an invoice was taken back."""
        return self._invoices.get(number).state == VOID

    def note_pushed(self, number: str, pushed: Pushed, *, credited_minor: int) -> None:
        """Keep what the provider calls an invoice, where it is paid, and whether it is paid already.

        credited_minor: of credit notes that it was pushed with.
        """
        self._invoices.change(
            number,
            lambda invoice: dataclasses.replace(
                invoice,
                external_id=pushed.provider_id,
                url=pushed.url,
                pushed_credited_minor=credited_minor,
            ),
        )
        self._mark(number, pushed)

    def note_told(self, number: str, external_id: str) -> None:
        """Keep that the provider knows of a credit note or reversal."""
        self._invoices.change(number, lambda found: dataclasses.replace(found, external_id=external_id))

    def apply(self, event: PaymentEvent) -> None:
        """Do as an event says. An invoice that is void here, or that nobody knows any more, stays as it is."""
        self._mark(event.subject, event.pushed)

    def _mark(self, number: str, pushed: Pushed) -> None:
        if pushed.outcome != Outcome.PAID:
            return
        try:
            self._invoices.mark_paid(number, time_ms=self._clock())
        except (InvoiceStateError, InvoiceUnknownError):
            return


def _jobs(documents: Sequence[Invoice], now_ms: int) -> Iterator[PaymentJob]:
    """Yield what is to be pushed of the documents of one account."""
    pushed = {one.invoice_id: one for one in documents if one.kind == INVOICE and one.external_id}
    credited_minor: dict[str, int] = {}
    for document in sorted(documents, key=lambda one: one.number):
        invoice = pushed.get(document.original_invoice_id)
        if document.kind == INVOICE:
            if document.state == OPEN and document.due_minor and not document.external_id:
                yield _job(JobKind.INVOICE, document, _invoice_payload(document), now_ms)
        elif invoice is None:
            continue
        elif document.kind == REVERSAL:
            if not document.external_id:
                payload = {
                    "number": invoice.number,
                    "invoice_id": invoice.external_id,
                    "reversal_number": document.number,
                }
                yield _job(JobKind.VOID, document, payload, now_ms)
        else:
            # Notes are made one after the other, so the first of them are those that the invoice was pushed with.
            before_minor = credited_minor.get(invoice.invoice_id, 0)
            credited_minor[invoice.invoice_id] = before_minor - document.total_minor
            if before_minor >= invoice.pushed_credited_minor and not document.external_id:
                yield _job(JobKind.CREDIT_NOTE, document, _note_payload(document, invoice), now_ms)


def _job(kind: JobKind, document: Invoice, payload: Mapping[str, Any], now_ms: int) -> PaymentJob:
    return PaymentJob(
        job_id=f"{kind.replace('_', '-')}/{document.number}",
        kind=kind,
        tenant=document.tenant,
        payload=payload,
        create_time_ms=now_ms,
        next_attempt_time_ms=now_ms,
    )


def _note_payload(note: Invoice, invoice: Invoice) -> dict[str, Any]:
    pushed = PushedCreditNote(
        number=note.number,
        invoice_number=invoice.number,
        invoice_id=invoice.external_id,
        currency_code=note.currency_code,
        amount_cents=-note.total_minor,
        reason=note.reason,
    )
    return dataclasses.asdict(pushed)


def _invoice_payload(invoice: Invoice) -> dict[str, Any]:
    days = 0
    if invoice.due_time_ms is not None and invoice.finalize_time_ms is not None:
        days = max(0, invoice.due_time_ms - invoice.finalize_time_ms) // _MS_PER_DAY
    lines = [
        PushedLine(description=line.description, amount_cents=line.amount_minor)
        for line in invoice.lines
        if line.amount_minor
    ]
    if invoice.credited_minor:
        lines.append(PushedLine(description="Credit notes", amount_cents=-invoice.credited_minor))
    pushed = PushedInvoice(
        number=invoice.number,
        currency_code=invoice.currency_code,
        lines=lines,
        total_cents=invoice.total_minor - invoice.credited_minor,
        days_until_due=days,
    )
    return {**dataclasses.asdict(pushed), "credited_minor": invoice.credited_minor}
