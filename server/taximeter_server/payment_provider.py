# SPDX-License-Identifier: Apache-2.0
"""What Taximeter asks of whoever moves the money. One server talks to one provider; payment_none.py is the default.

Amounts are integers in the currency's smallest unit, cents for short. Every method may be called again with the same
arguments, whatever became of the call before: the provider makes nothing twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Customer:
    """Who pays for an account, the first segment of a tenant's path."""

    account: str
    name: str
    email: str = ""
    address_lines: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class PaymentCard:
    """A card as the provider shows it."""

    brand: str
    last4: str
    expire_month: int
    expire_year: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PushedLine:
    """One line of an invoice. Amounts below zero are credits."""

    description: str
    amount_cents: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PushedInvoice:
    """A final invoice. total_cents is the sum of the lines."""

    number: str
    currency_code: str
    lines: Sequence[PushedLine]
    total_cents: int
    days_until_due: int = 0
    """0 charges the card on file at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedUsage:
    """Usage of one customer. identifier: never used for other usage; amount: in millionths of the currency's unit."""

    identifier: str
    amount_micros: int
    time_s: int
    """Seconds since 1970 UTC, at most 35 days ago."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """Money that is taken from the card on file, once. name: never used for another charge."""

    name: str
    description: str
    currency_code: str
    amount_cents: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PushedCreditNote:
    """What a pushed invoice asks for less. number: of the credit note; amount_cents: above 0.

    invoice_number, invoice_id: of the invoice, here and at the provider.
    """

    number: str
    invoice_number: str
    invoice_id: str
    currency_code: str
    amount_cents: int
    reason: str


class Outcome(StrEnum):
    """What became of money that was asked for."""

    OPEN = "open"
    PAID = "paid"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Pushed:
    """What the provider has made. url: where the customer sees it, "" for nowhere."""

    provider_id: str
    outcome: Outcome
    url: str = ""


class SubjectKind(StrEnum):
    """What an event of the provider is about."""

    INVOICE = "invoice"
    TOP_UP = "top_up"


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentEvent:
    """What the provider tells by itself. subject: the number of an invoice, the name of a charge."""

    event_id: str
    kind: SubjectKind
    subject: str
    pushed: Pushed


class PushError(Exception):
    """The provider did not do what it was asked. is_final: asking again cannot help. The message holds no secret.

    is_decline: there is no card, or its bank does not pay. Asking again helps when that has changed, and not at once.
    """

    def __init__(self, problem: str, *, is_final: bool = False, is_decline: bool = False) -> None:
        super().__init__(problem)
        self.problem = problem
        self.is_final = is_final
        self.is_decline = is_decline


class SignatureError(Exception):
    """An event is not of the provider, or too old."""


class PaymentProvider(Protocol):
    """A payment provider. Thread-safe. Methods but the last raise PushError, and PaymentNotConfiguredError."""

    @property
    def is_configured(self) -> bool:
        """Whether there is a provider at all."""

    def put_customer(self, customer: Customer, customer_id: str) -> str:
        """Tell of a customer; customer_id "" for a new one. Returns the provider's id."""

    def card(self, customer_id: str) -> PaymentCard | None:
        """Return the card on file."""

    def portal_url(self, customer_id: str, return_url: str) -> str:
        """Return the URL of pages where the customer changes cards. return_url: "" for nowhere to return to."""

    def push_invoice(self, customer_id: str, invoice: PushedInvoice, *, is_repeat: bool) -> Pushed:
        """Make an invoice and have it paid. is_repeat: it may be there from an attempt long ago."""

    def push_credit_note(self, note: PushedCreditNote, *, is_repeat: bool) -> Pushed:
        """Have an invoice ask for less; what was paid of it already becomes the customer's balance."""

    def void_invoice(self, number: str, invoice_id: str) -> Pushed:
        """Take an invoice back that is not paid. invoice_id: "" for one of which nobody knows whether it was made."""

    def charge(self, customer_id: str, charge: Charge, *, decline_count: int) -> Pushed:
        """Charge the card on file, without the customer there. decline_count: answers so far that it was declined.

        What has succeeded once is answered as paid, and not charged again.
        """

    def report_usage(self, customer_id: str, usage: ReportedUsage) -> None:
        """Report usage that the provider's own plans charge for."""

    def read_event(self, payload: bytes, signature: str) -> PaymentEvent | None:
        """Return what a signed request tells, None for nothing that matters here. Raises SignatureError."""
