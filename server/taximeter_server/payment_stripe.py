# SPDX-License-Identifier: Apache-2.0
"""Stripe as the payment provider, by its official library.

Everything that makes something carries an idempotency key made of what it is, and its id as metadata. Stripe remembers
a key for a day at least; what an attempt of long ago may have left behind is searched for first.
"""

import json
from collections.abc import Mapping
from typing import Any

from taximeter_server.payment_provider import (
    Charge,
    Customer,
    Outcome,
    PaymentCard,
    PaymentEvent,
    Pushed,
    PushedCreditNote,
    PushedInvoice,
    ReportedUsage,
    SignatureError,
    SubjectKind,
)
from taximeter_server.stripe_charges import StripeCharges
from taximeter_server.stripe_invoices import StripeInvoices
from taximeter_server.stripe_session import ACCOUNT, CHARGE, INSTANCE, INVOICE, StripeSession

_SUBJECTS = {SubjectKind.INVOICE: INVOICE, SubjectKind.TOP_UP: CHARGE}
_EVENTS = {
    "invoice.paid": (SubjectKind.INVOICE, Outcome.PAID),
    "invoice.payment_failed": (SubjectKind.INVOICE, Outcome.FAILED),
    "payment_intent.succeeded": (SubjectKind.TOP_UP, Outcome.PAID),
}
_DUPLICATE = "already exists with identifier"


class StripePayments:
    """Payments by Stripe."""

    is_configured = True

    def __init__(self, *, key: str, webhook_secret: str, url: str, instance: str, meter_event: str) -> None:
        """url: base of the API. instance: tells this server's documents from others' on the same Stripe account.

        meter_event: name of the meter's events. webhook_secret: "" takes no events.
        """
        self._session = StripeSession(key=key, url=url, instance=instance)
        self._client, self._library = self._session.client, self._session.library
        self._invoices = StripeInvoices(self._session)
        self._charges = StripeCharges(self._session)
        self._webhook_secret = webhook_secret
        self._instance = instance
        self._meter_event = meter_event

    def put_customer(self, customer: Customer, customer_id: str) -> str:
        """Create or update a customer."""
        with self._session.translated():
            if not customer_id:
                customer_id = self._create_customer(customer.account)
            self._client.v1.customers.update(
                customer_id,
                {
                    "name": customer.name,
                    "email": customer.email,
                    "address": {"line1": ", ".join(customer.address_lines)},
                },
            )
        return customer_id

    def _create_customer(self, account: str) -> str:
        # Nothing of it may differ from one attempt to the next: what people change is put by the update.
        found = self._client.v1.customers.search({"query": self._session.query(ACCOUNT, account), "limit": 1})
        if found.data:
            return str(found.data[0].id)
        created = self._client.v1.customers.create(
            {"metadata": self._session.metadata(ACCOUNT, account)}, self._session.options("customer", account)
        )
        return str(created.id)

    def card(self, customer_id: str) -> PaymentCard | None:
        """Return the default card, or without one the newest."""
        with self._session.translated():
            method = self._default_method(customer_id)
            if method is None or method.card is None:
                return None
            card = method.card
            return PaymentCard(str(card.brand), str(card.last4), int(card.exp_month), int(card.exp_year))

    def _default_method(self, customer_id: str) -> Any:
        customer = self._client.v1.customers.retrieve(
            customer_id, {"expand": ["invoice_settings.default_payment_method"]}
        )
        settings = getattr(customer, "invoice_settings", None)
        method = getattr(settings, "default_payment_method", None)
        if method is not None:
            return method
        methods = self._client.v1.customers.payment_methods.list(customer_id, {"type": "card", "limit": 1})
        return methods.data[0] if methods.data else None

    def portal_url(self, customer_id: str, return_url: str) -> str:
        """Open a session of the customer portal."""
        asked = {"customer": customer_id} | ({"return_url": return_url} if return_url else {})
        with self._session.translated():
            return str(self._client.v1.billing_portal.sessions.create(asked).url)

    def push_invoice(self, customer_id: str, invoice: PushedInvoice, *, is_repeat: bool) -> Pushed:
        """Create an invoice, add its lines and finalize it; each step has a key of its own."""
        return self._invoices.push(customer_id, invoice, is_repeat=is_repeat)

    def push_credit_note(self, note: PushedCreditNote, *, is_repeat: bool) -> Pushed:
        """Credit an invoice."""
        return self._invoices.push_credit_note(note, is_repeat=is_repeat)

    def void_invoice(self, number: str, invoice_id: str) -> Pushed:
        """Take an invoice back."""
        return self._invoices.void(number, invoice_id)

    def charge(self, customer_id: str, charge: Charge, *, decline_count: int) -> Pushed:
        """Charge the default card, or without one the newest."""
        with self._session.translated():
            method = self._default_method(customer_id)
        method_id = None if method is None else str(method.id)
        return self._charges.charge(customer_id, charge, method_id, decline_count=decline_count)

    def report_usage(self, customer_id: str, usage: ReportedUsage) -> None:
        """Send a meter event."""
        payload = {"stripe_customer_id": customer_id, "value": str(usage.amount_micros)}
        event = {
            "event_name": self._meter_event,
            "identifier": f"{self._instance}/{usage.identifier}",
            "timestamp": usage.time_s,
            "payload": payload,
        }
        with self._session.translated():
            try:
                self._client.v1.billing.meter_events.create(
                    event, self._session.options("usage", usage.identifier)
                )
            except self._library.InvalidRequestError as error:
                # There is no code for it. That the identifier is known means that the event has arrived.
                if _DUPLICATE not in (error.user_message or ""):
                    raise

    def read_event(self, payload: bytes, signature: str) -> PaymentEvent | None:
        """Check the signature, which may be five minutes old, and read what it is about."""
        if not self._webhook_secret:
            raise SignatureError
        try:
            self._library.WebhookSignature.verify_header(
                payload.decode(), signature, self._webhook_secret, self._library.Webhook.DEFAULT_TOLERANCE
            )
            event = json.loads(payload)
            known = _EVENTS.get(event["type"])
            return None if known is None else self._event(event, *known)
        except (self._library.SignatureVerificationError, ValueError, KeyError, TypeError, IndexError):
            # Not the cause: it quotes what came in.
            raise SignatureError from None

    def _event(self, event: Mapping[str, Any], kind: SubjectKind, outcome: Outcome) -> PaymentEvent | None:
        found = event["data"]["object"]
        metadata = found.get("metadata") or {}
        subject = metadata.get(_SUBJECTS[kind])
        # Others may use the same Stripe account.
        if metadata.get(INSTANCE) != self._instance or not isinstance(subject, str):
            return None
        pushed = Pushed(str(found["id"]), outcome, str(found.get("hosted_invoice_url") or ""))
        return PaymentEvent(event_id=str(event["id"]), kind=kind, subject=subject, pushed=pushed)
