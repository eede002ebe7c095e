# SPDX-License-Identifier: Apache-2.0
"""Charges of the card on file at Stripe, without the customer there.

Each is one payment intent, which can succeed once. It is found again by its key for a day, by its metadata for good.
"""

from typing import Any

from taximeter_server.payment_provider import Charge, Outcome, Pushed, PushError
from taximeter_server.stripe_session import CHARGE, StripeSession, stripe_amount


class StripeCharges:
    """Charges of one Stripe account."""

    def __init__(self, session: StripeSession) -> None:
        self._session = session
        self._intents = session.client.v1.payment_intents

    def charge(
        self, customer_id: str, charge: Charge, method_id: str | None, *, decline_count: int
    ) -> Pushed:
        """Charge a card, or say that it was. method_id: of the card, None where there is none. Raises PushError."""
        with self._session.translated():
            intent = self._intent(customer_id, charge)
            if intent.status in {"requires_payment_method", "requires_confirmation", "requires_action"}:
                if method_id is None:
                    raise PushError("there is no card on file", is_decline=True)
                intent = self._confirmed(intent, charge, method_id, decline_count)
            if intent.status == "canceled":
                raise PushError("the charge was canceled at Stripe", is_final=True)
            is_paid = intent.status == "succeeded"
            return Pushed(str(intent.id), Outcome.PAID if is_paid else Outcome.OPEN)

    def _intent(self, customer_id: str, charge: Charge) -> Any:
        # First: a key is forgotten after a day, and what was made long ago must not be made again.
        found = self._intents.search({"query": self._session.query(CHARGE, charge.name), "limit": 1})
        if not found.data:
            made = self._intents.create(
                {
                    "customer": customer_id,
                    "amount": stripe_amount(charge.amount_cents, charge.currency_code),
                    "currency": charge.currency_code.lower(),
                    "description": charge.description,
                    "payment_method_types": ["card"],
                    "metadata": self._session.metadata(CHARGE, charge.name),
                },
                self._session.options("charge", charge.name),
            )
        # What a search finds, and what a key answers, may be old.
        return self._intents.retrieve(found.data[0].id if found.data else made.id)

    def _confirmed(self, intent: Any, charge: Charge, method_id: str, decline_count: int) -> Any:
        # A key answers a decline again and again, so each answer has led to the next key.
        options = self._session.options("charge-confirm", f"{charge.name}/{decline_count}")
        try:
            return self._intents.confirm(
                intent.id, {"payment_method": method_id, "off_session": True}, options
            )
        except self._session.library.CardError as error:
            code = getattr(error.error, "decline_code", None) or error.code
            raise PushError(f"the card was declined: {code}", is_decline=True) from error
