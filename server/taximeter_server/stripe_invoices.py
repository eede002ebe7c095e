# SPDX-License-Identifier: Apache-2.0
"""Invoices at Stripe: made, made less by credit notes, and taken back."""

from typing import TYPE_CHECKING, Any, cast

from taximeter_server.payment_provider import Outcome, Pushed, PushedCreditNote, PushedInvoice, PushError
from taximeter_server.stripe_session import CREDIT_NOTE, INVOICE, StripeSession, stripe_amount

if TYPE_CHECKING:
    from stripe.params import CreditNoteCreateParams

LINES_PER_CALL = 100

_OUTCOMES = {"paid": Outcome.PAID, "void": Outcome.FAILED, "uncollectible": Outcome.FAILED}


class StripeInvoices:
    """Invoices of one Stripe account. Every method raises PushError."""

    def __init__(self, session: StripeSession) -> None:
        self._session = session
        self._invoices = session.client.v1.invoices

    def push(self, customer_id: str, invoice: PushedInvoice, *, is_repeat: bool) -> Pushed:
        """Create an invoice, add its lines and finalize it; each step has a key of its own."""
        number = invoice.number
        with self._session.translated():
            found, line_count = (self._find(number) if is_repeat else None), 0
            if found is None:
                found = self._invoices.create(
                    self._invoice_parameters(customer_id, invoice), self._session.options("invoice", number)
                )
            elif found.status == "draft":
                lines = self._invoices.line_items.list(found.id, {"limit": LINES_PER_CALL})
                line_count = sum(1 for _ in lines.auto_paging_iter())
            if found.status == "draft":
                found = self._complete_draft(found, invoice, line_count)
            outcome = _OUTCOMES.get(str(found.status), Outcome.OPEN)
            return Pushed(str(found.id), outcome, str(found.hosted_invoice_url or ""))

    def _find(self, number: str) -> Any:
        query = self._session.query(INVOICE, number)
        found = self._invoices.search({"query": query, "limit": 1})
        # What a search finds may be some minutes old.
        return self._invoices.retrieve(found.data[0].id) if found.data else None

    def _invoice_parameters(self, customer_id: str, invoice: PushedInvoice) -> dict[str, Any]:
        collected: dict[str, Any] = {"collection_method": "charge_automatically"}
        if invoice.days_until_due:
            collected = {"collection_method": "send_invoice", "days_until_due": invoice.days_until_due}
        return {
            "customer": customer_id,
            "currency": invoice.currency_code.lower(),
            "number": invoice.number,
            # Nothing but our lines, and nothing happens before they are there.
            "auto_advance": False,
            "pending_invoice_items_behavior": "exclude",
            "metadata": self._session.metadata(INVOICE, invoice.number),
            **collected,
        }

    def _complete_draft(self, draft: Any, invoice: PushedInvoice, line_count: int) -> Any:
        """Add the lines behind the first line_count, and finalize."""
        for start in range(line_count, len(invoice.lines), LINES_PER_CALL):
            lines = [
                {
                    "description": line.description,
                    "amount": stripe_amount(line.amount_cents, invoice.currency_code),
                }
                for line in invoice.lines[start : start + LINES_PER_CALL]
            ]
            options = self._session.options("invoice-lines", f"{invoice.number}/{start}")
            draft = self._invoices.add_lines(draft.id, {"lines": lines}, options)
        total = stripe_amount(invoice.total_cents, invoice.currency_code)
        if draft.total != total:
            raise PushError(f"Stripe's total is {draft.total}, ours {total}", is_final=True)
        return self._invoices.finalize_invoice(
            draft.id, {"auto_advance": True}, self._session.options("invoice-final", invoice.number)
        )

    def push_credit_note(self, note: PushedCreditNote, *, is_repeat: bool) -> Pushed:
        """Credit an invoice: it asks for less, and what was paid already is the customer's balance at Stripe."""
        notes = self._session.client.v1.credit_notes
        with self._session.translated():
            if is_repeat:
                wanted = self._session.metadata(CREDIT_NOTE, note.number)
                for one in notes.list({"invoice": note.invoice_id, "limit": 100}).auto_paging_iter():
                    if one.metadata and wanted.items() <= one.metadata.to_dict().items():
                        return Pushed(str(one.id), Outcome.PAID)
            amount = stripe_amount(note.amount_cents, note.currency_code)
            asked: dict[str, Any] = {
                "invoice": note.invoice_id,
                "amount": amount,
                "memo": note.reason,
                "metadata": self._session.metadata(CREDIT_NOTE, note.number),
            }
            found = self._invoices.retrieve(note.invoice_id)
            if found.status == "paid":
                asked["credit_amount"] = amount
            # Stripe refuses a key that comes again with other arguments.
            options = self._session.options(f"credit-note-{found.status}", note.number)
            made = notes.create(cast("CreditNoteCreateParams", asked), options)
            return Pushed(str(made.id), Outcome.PAID)

    def void(self, number: str, invoice_id: str) -> Pushed:
        """Take an invoice back. A draft that an attempt has left is deleted; one that is not there is no problem."""
        with self._session.translated():
            found = self._invoices.retrieve(invoice_id) if invoice_id else self._find(number)
            if found is None or getattr(found, "deleted", False):
                return Pushed("", Outcome.FAILED)
            if found.status == "draft":
                self._invoices.delete(found.id)
            elif found.status == "paid":
                raise PushError("it was paid at Stripe: give the money back there", is_final=True)
            elif found.status != "void":
                self._invoices.void_invoice(found.id, {}, self._session.options("void", number))
            return Pushed(str(found.id), Outcome.FAILED)
