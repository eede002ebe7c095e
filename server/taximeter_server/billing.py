# SPDX-License-Identifier: Apache-2.0
"""The parts of billing, joined: subscriptions, their invoices, and what finalises those by itself."""

from collections.abc import Callable
from contextlib import AbstractContextManager

from taximeter_server.billing_keeper import BillingKeeper
from taximeter_server.credit_notes import CreditNotes
from taximeter_server.credits import Credits
from taximeter_server.invoice_usage import Owed, UsageReports
from taximeter_server.invoices import Invoices
from taximeter_server.plans import Plans
from taximeter_server.store import DocumentStore
from taximeter_server.subscription_credits import SubscriptionCredits
from taximeter_server.subscriptions import Subscriptions


class Billing:
    """Billing of a store, as one instance sees it."""

    def __init__(
        self,
        store: DocumentStore,
        plans: Plans,
        reports: UsageReports,
        account_credits: Credits,
        *,
        audited: Callable[[str], AbstractContextManager[None]],
        clock: Callable[[], int],
        currency_code: Callable[[], str],
        grace_seconds: int,
    ) -> None:
        """clock: one that all instances share, the store's; milliseconds since 1970 UTC.

        audited: see BillingKeeper. currency_code: that of what is recorded. grace_seconds: see Invoices.
        """
        kept = store.billing
        self.credits = SubscriptionCredits(account_credits)
        self.subscriptions = Subscriptions(
            kept, plans, self.credits, currency_code=currency_code, clock=clock
        )
        self.invoices = Invoices(kept, Owed(reports), grace_seconds=grace_seconds, clock=clock)
        self.credit_notes = CreditNotes(kept, self.invoices)
        self.keeper = BillingKeeper(kept, self.invoices, self.credits, audited=audited, clock=clock)
