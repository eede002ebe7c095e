# SPDX-License-Identifier: Apache-2.0
"""Stripe as the payment provider, by its official library.

Everything that makes something carries an idempotency key made of what it is, and its id as metadata. Stripe remembers
a key for a day at least; what an attempt of long ago may have left behind is searched for first.
"""

import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from taximeter_server.payment_provider import (
    Customer,
    Outcome,
    PaymentCard,
    PaymentEvent,
    Pushed,
    PushedInvoice,
    PushError,
    ReportedUsage,
    SignatureError,
    SubjectKind,
)

if TYPE_CHECKING:
    import stripe

TIMEOUT_SECONDS = (5, 20)
"""Of connecting, and of each wait for bytes."""
LINES_PER_CALL = 100
PROBLEM_LENGTH_MAX = 300

_INSTANCE, _ACCOUNT = "taximeter_instance", "taximeter_account"
_SUBJECTS = {SubjectKind.INVOICE: "taximeter_invoice"}
_EVENTS = {
    "invoice.paid": (SubjectKind.INVOICE, Outcome.PAID),
    "invoice.payment_failed": (SubjectKind.INVOICE, Outcome.FAILED),
}
_DUPLICATE = "already exists with identifier"
_INVOICE_OUTCOMES = {"paid": Outcome.PAID, "void": Outcome.FAILED, "uncollectible": Outcome.FAILED}
_HUNDREDFOLD = frozenset({"ISK", "UGX"})
"""Currencies without decimals that Stripe takes with two."""


class StripePayments:
    """Payments by Stripe."""

    is_configured = True

    def __init__(self, *, key: str, webhook_secret: str, url: str, instance: str, meter_event: str) -> None:
        """url: base of the API. instance: tells this server's documents from others' on the same Stripe account.

        meter_event: name of the meter's events. webhook_secret: "" takes no events.
        """
        # Only who has configured it needs the library.
        import stripe  # noqa: PLC0415 (see above)

        stripe.enable_telemetry = False
        self._library = stripe
        # The library's own retries are left out: the outbox makes them, and remembers them.
        self._client: stripe.StripeClient = stripe.StripeClient(
            key,
            base_addresses={"api": url},
            http_client=stripe.RequestsClient(timeout=TIMEOUT_SECONDS),
            max_network_retries=0,
        )
        self._key = key
        self._webhook_secret = webhook_secret
        self._instance = instance
        self._meter_event = meter_event

    def put_customer(self, customer: Customer, customer_id: str) -> str:
        """Create or update a customer."""
        with self._translated():
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
        found = self._client.v1.customers.search({"query": self._query(_ACCOUNT, account), "limit": 1})
        if found.data:
            return str(found.data[0].id)
        created = self._client.v1.customers.create(
            {"metadata": self._metadata(_ACCOUNT, account)}, self._options("customer", account)
        )
        return str(created.id)

    def card(self, customer_id: str) -> PaymentCard | None:
        """Return the default card, or without one the newest."""
        with self._translated():
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
        with self._translated():
            return str(self._client.v1.billing_portal.sessions.create(asked).url)

    def push_invoice(self, customer_id: str, invoice: PushedInvoice, *, is_repeat: bool) -> Pushed:
        """Create an invoice, add its lines and finalize it; each step has a key of its own."""
        invoices, number = self._client.v1.invoices, invoice.number
        with self._translated():
            found, line_count = (self._find_invoice(number) if is_repeat else None), 0
            if found is None:
                found = invoices.create(
                    self._invoice_parameters(customer_id, invoice), self._options("invoice", number)
                )
            elif found.status == "draft":
                lines = invoices.line_items.list(found.id, {"limit": LINES_PER_CALL})
                line_count = sum(1 for _ in lines.auto_paging_iter())
            if found.status == "draft":
                found = self._complete_draft(found, invoice, line_count)
            outcome = _INVOICE_OUTCOMES.get(str(found.status), Outcome.OPEN)
            return Pushed(str(found.id), outcome, str(found.hosted_invoice_url or ""))

    def _find_invoice(self, number: str) -> Any:
        query = self._query(_SUBJECTS[SubjectKind.INVOICE], number)
        found = self._client.v1.invoices.search({"query": query, "limit": 1})
        # What a search finds may be some minutes old.
        return self._client.v1.invoices.retrieve(found.data[0].id) if found.data else None

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
            "metadata": self._metadata(_SUBJECTS[SubjectKind.INVOICE], invoice.number),
            **collected,
        }

    def _complete_draft(self, draft: Any, invoice: PushedInvoice, line_count: int) -> Any:
        """Add the lines behind the first line_count, and finalize."""
        invoices = self._client.v1.invoices
        for start in range(line_count, len(invoice.lines), LINES_PER_CALL):
            lines = [
                {"description": line.description, "amount": _amount(line.amount_cents, invoice.currency_code)}
                for line in invoice.lines[start : start + LINES_PER_CALL]
            ]
            options = self._options("invoice-lines", f"{invoice.number}/{start}")
            draft = invoices.add_lines(draft.id, {"lines": lines}, options)
        total = _amount(invoice.total_cents, invoice.currency_code)
        if draft.total != total:
            raise PushError(f"Stripe's total is {draft.total}, ours {total}", is_final=True)
        return invoices.finalize_invoice(
            draft.id, {"auto_advance": True}, self._options("invoice-final", invoice.number)
        )

    def report_usage(self, customer_id: str, usage: ReportedUsage) -> None:
        """Send a meter event."""
        payload = {"stripe_customer_id": customer_id, "value": str(usage.amount_micros)}
        event = {
            "event_name": self._meter_event,
            "identifier": f"{self._instance}/{usage.identifier}",
            "timestamp": usage.time_s,
            "payload": payload,
        }
        with self._translated():
            try:
                self._client.v1.billing.meter_events.create(event, self._options("usage", usage.identifier))
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
        if metadata.get(_INSTANCE) != self._instance or not isinstance(subject, str):
            return None
        pushed = Pushed(str(found["id"]), outcome, str(found.get("hosted_invoice_url") or ""))
        return PaymentEvent(event_id=str(event["id"]), kind=kind, subject=subject, pushed=pushed)

    def _metadata(self, name: str, value: str) -> dict[str, str]:
        return {_INSTANCE: self._instance, name: value}

    def _query(self, name: str, value: str) -> str:
        # Ids have no quotes and no backslashes.
        return f"metadata['{_INSTANCE}']:'{self._instance}' AND metadata['{name}']:'{value}'"

    def _options(self, kind: str, name: str) -> "stripe.RequestOptions":
        return {"idempotency_key": f"taximeter-{self._instance}-{kind}-{name}"}

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn the library's errors into ours. Their texts may quote the key, or what was sent."""
        library = self._library
        try:
            yield
        except library.CardError as error:
            raise PushError(f"the card was declined: {error.code}", is_final=True) from error
        except (library.AuthenticationError, library.PermissionError) as error:
            raise PushError("Stripe does not accept the key, or not for this") from error
        except library.RateLimitError as error:
            raise PushError("Stripe asks to wait") from error
        except library.APIConnectionError as error:
            raise PushError("no answer from Stripe") from error
        except library.StripeError as error:
            status = error.http_status or 0
            is_final = isinstance(error, library.InvalidRequestError) and status not in {409, 429}
            text = (
                f"Stripe answered {status}: {error.code or type(error).__name__} {error.user_message or ''}"
            )
            # Stripe quotes what it was sent.
            text = text.replace(self._key, "(the key)").strip()[:PROBLEM_LENGTH_MAX]
            raise PushError(text, is_final=is_final) from error


def _amount(cents: int, currency_code: str) -> int:
    """Return an amount in the unit in which Stripe takes it."""
    return cents * 100 if currency_code in _HUNDREDFOLD else cents
