# SPDX-License-Identifier: Apache-2.0
"""What a job is at the provider: makes it, and says what became of it."""

from typing import TYPE_CHECKING, Any

from taximeter_server.errors import RequestError
from taximeter_server.payment_accounts import PaymentAccounts
from taximeter_server.payment_invoices import InvoiceSource
from taximeter_server.payment_job import JobKind, PaymentJob
from taximeter_server.payment_provider import (
    Outcome,
    PaymentProvider,
    Pushed,
    PushedInvoice,
    PushedLine,
    PushError,
    ReportedUsage,
)

if TYPE_CHECKING:
    from collections.abc import Callable


class PaymentSender:
    """Sends jobs. Thread-safe."""

    def __init__(self, provider: PaymentProvider, accounts: PaymentAccounts, invoices: InvoiceSource) -> None:
        self._provider = provider
        self._accounts = accounts
        self._invoices = invoices
        self._send: dict[JobKind, Callable[[str, PaymentJob], Pushed]] = {
            JobKind.INVOICE: self._push_invoice,
            JobKind.USAGE: self._report_usage,
        }

    def send(self, job: PaymentJob) -> Pushed:
        """Make one attempt. Raises PushError."""
        try:
            customer_id = self._accounts.customer_id(job.tenant)
        except RequestError as error:
            raise PushError(error.message) from error
        return self._send[job.kind](customer_id, job)

    def _push_invoice(self, customer_id: str, job: PaymentJob) -> Pushed:
        values: dict[str, Any] = dict(job.payload)
        lines = tuple(PushedLine(**line) for line in values.pop("lines"))
        invoice = PushedInvoice(lines=lines, **values)
        pushed = self._provider.push_invoice(customer_id, invoice, is_repeat=_is_repeat(job))
        self._invoices.note_pushed(invoice.number, pushed)
        return pushed

    def _report_usage(self, customer_id: str, job: PaymentJob) -> Pushed:
        self._provider.report_usage(customer_id, ReportedUsage(**job.payload))
        return Pushed("", Outcome.PAID)


def _is_repeat(job: PaymentJob) -> bool:
    # The count is kept before an attempt is made.
    return job.attempt_count > 1
