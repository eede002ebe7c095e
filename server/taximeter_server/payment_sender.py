# SPDX-License-Identifier: Apache-2.0
"""What a job is at the provider: makes it, and says what became of it."""

from typing import TYPE_CHECKING, Any

from taximeter_server.errors import RequestError, StoreUnavailableError
from taximeter_server.payment_accounts import PaymentAccounts
from taximeter_server.payment_invoices import InvoiceSource
from taximeter_server.payment_job import JobKind, PaymentJob
from taximeter_server.payment_provider import (
    Charge,
    Outcome,
    PaymentProvider,
    Pushed,
    PushedCreditNote,
    PushedInvoice,
    PushedLine,
    PushError,
    ReportedUsage,
)
from taximeter_server.top_up import DONE
from taximeter_server.top_ups import TopUps

if TYPE_CHECKING:
    from collections.abc import Callable

_NOTHING = Pushed("", Outcome.FAILED)
"""Nothing was to be pushed any more."""


class PaymentSender:
    """Sends jobs. Thread-safe."""

    def __init__(
        self, provider: PaymentProvider, accounts: PaymentAccounts, invoices: InvoiceSource, top_ups: TopUps
    ) -> None:
        self._provider = provider
        self._accounts = accounts
        self._invoices = invoices
        self._top_ups = top_ups
        self._send: dict[JobKind, Callable[[str, PaymentJob], Pushed]] = {
            JobKind.INVOICE: self._push_invoice,
            JobKind.USAGE: self._report_usage,
            JobKind.TOP_UP: self._charge,
            JobKind.CREDIT_NOTE: self._push_credit_note,
            JobKind.VOID: self._void_invoice,
        }

    def send(self, job: PaymentJob) -> Pushed:
        """Make one attempt. Raises PushError."""
        try:
            customer_id = self._accounts.customer_id(job.tenant)
            return self._send[job.kind](customer_id, job)
        except StoreUnavailableError:
            raise
        except RequestError as error:
            raise PushError(error.message) from error

    def _push_invoice(self, customer_id: str, job: PaymentJob) -> Pushed:
        values: dict[str, Any] = dict(job.payload)
        credited_minor = values.pop("credited_minor", 0)
        lines = tuple(PushedLine(**line) for line in values.pop("lines"))
        invoice = PushedInvoice(lines=lines, **values)
        if self._invoices.is_void(invoice.number):
            # It became void before it was pushed, or an attempt to push it has left something.
            return self._provider.void_invoice(invoice.number, "") if _is_repeat(job) else _NOTHING
        pushed = self._provider.push_invoice(customer_id, invoice, is_repeat=_is_repeat(job))
        self._invoices.note_pushed(invoice.number, pushed, credited_minor=credited_minor)
        return pushed

    def _push_credit_note(self, _customer_id: str, job: PaymentJob) -> Pushed:
        note = PushedCreditNote(**job.payload)
        pushed = self._provider.push_credit_note(note, is_repeat=_is_repeat(job))
        self._invoices.note_told(note.number, pushed.provider_id)
        return pushed

    def _void_invoice(self, _customer_id: str, job: PaymentJob) -> Pushed:
        values = dict(job.payload)
        pushed = self._provider.void_invoice(values["number"], values["invoice_id"])
        self._invoices.note_told(values["reversal_number"], pushed.provider_id)
        return pushed

    def _charge(self, customer_id: str, job: PaymentJob) -> Pushed:
        top_up = self._top_ups.get(job.tenant, job.payload["request_id"])
        if top_up is None:
            raise PushError("there is no such top-up any more", is_final=True)
        if top_up.state == DONE:
            return Pushed(top_up.external_id, Outcome.PAID)
        pushed = Pushed("", Outcome.PAID)
        if top_up.price_minor:
            charge = Charge(
                name=f"{top_up.tenant}/{top_up.request_id}",
                description=top_up.description,
                currency_code=top_up.currency_code,
                amount_cents=top_up.price_minor,
            )
            pushed = self._provider.charge(customer_id, charge, decline_count=job.decline_count)
        if pushed.outcome != Outcome.PAID:
            raise PushError("the card's bank has not answered yet")
        self._top_ups.settle(top_up.tenant, top_up.request_id, pushed.provider_id)
        return pushed

    def _report_usage(self, customer_id: str, job: PaymentJob) -> Pushed:
        self._provider.report_usage(customer_id, ReportedUsage(**job.payload))
        return Pushed("", Outcome.PAID)


def _is_repeat(job: PaymentJob) -> bool:
    # The count is kept before an attempt is made.
    return job.attempt_count > 1
