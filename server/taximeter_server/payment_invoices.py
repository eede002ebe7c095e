# SPDX-License-Identifier: Apache-2.0
"""Final invoices on their way to the payment provider, and what it says became of them.

What has been pushed stands in the invoice itself, and what is to be has one name per invoice: however often invoices
are looked through, each is queued once.
"""

import dataclasses
from collections.abc import Callable

from taximeter_server.billing_errors import InvoiceStateError, InvoiceUnknownError
from taximeter_server.invoice import INVOICE, OPEN, Invoice
from taximeter_server.invoices import Invoices
from taximeter_server.payment_accounts import PaymentAccounts
from taximeter_server.payment_job import JobKind, PaymentJob
from taximeter_server.payment_provider import Outcome, PaymentEvent, Pushed, PushedInvoice, PushedLine
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
            for invoice in self._invoices.list(account.tenant, with_drafts=False):
                if (
                    invoice.kind == INVOICE
                    and invoice.state == OPEN
                    and invoice.due_minor
                    and not invoice.external_id
                ):
                    job = _job(invoice, now_ms)
                    self._store.queue(job.job_id, job.to_json(), now_ms)

    def note_pushed(self, number: str, pushed: Pushed) -> None:
        """Keep what the provider calls an invoice, where it is paid, and whether it is paid already."""
        self._invoices.change(
            number,
            lambda invoice: dataclasses.replace(invoice, external_id=pushed.provider_id, url=pushed.url),
        )
        self._mark(number, pushed)

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


def _job(invoice: Invoice, now_ms: int) -> PaymentJob:
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
    return PaymentJob(
        job_id=f"invoice/{invoice.number}",
        kind=JobKind.INVOICE,
        tenant=invoice.tenant,
        payload=dataclasses.asdict(pushed),
        create_time_ms=now_ms,
        next_attempt_time_ms=now_ms,
    )
