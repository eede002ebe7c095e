# SPDX-License-Identifier: Apache-2.0
"""No payment provider: whatever is asked of it says what to configure."""

from typing import NoReturn

from taximeter_server.payment_errors import PaymentNotConfiguredError
from taximeter_server.payment_provider import (
    Charge,
    Customer,
    PushedCreditNote,
    PushedInvoice,
    ReportedUsage,
)


class NoPayments:
    """The default."""

    is_configured = False

    def put_customer(self, customer: Customer, customer_id: str) -> str:
        """Refuse."""
        del customer, customer_id
        raise PaymentNotConfiguredError

    def card(self, customer_id: str) -> NoReturn:
        """Refuse."""
        del customer_id
        raise PaymentNotConfiguredError

    def portal_url(self, customer_id: str, return_url: str) -> str:
        """Refuse."""
        del customer_id, return_url
        raise PaymentNotConfiguredError

    def push_invoice(self, customer_id: str, invoice: PushedInvoice, *, is_repeat: bool) -> NoReturn:
        """Refuse."""
        del customer_id, invoice, is_repeat
        raise PaymentNotConfiguredError

    def push_credit_note(self, note: PushedCreditNote, *, is_repeat: bool) -> NoReturn:
        """Refuse."""
        del note, is_repeat
        raise PaymentNotConfiguredError

    def void_invoice(self, number: str, invoice_id: str) -> NoReturn:
        """Refuse."""
        del number, invoice_id
        raise PaymentNotConfiguredError

    def charge(self, customer_id: str, charge: Charge, *, decline_count: int) -> NoReturn:
        """Refuse."""
        del customer_id, charge, decline_count
        raise PaymentNotConfiguredError

    def report_usage(self, customer_id: str, usage: ReportedUsage) -> None:
        """Refuse."""
        del customer_id, usage
        raise PaymentNotConfiguredError

    def read_event(self, payload: bytes, signature: str) -> NoReturn:
        """Refuse."""
        del payload, signature
        raise PaymentNotConfiguredError
