# SPDX-License-Identifier: Apache-2.0
"""A process that changes subscriptions and invoices until it is killed."""

import random
from collections.abc import Sequence
from contextlib import nullcontext

from billing.set_clock import NoAccounts, NoLimits, SetClock

from taximeter_server.billing import Billing
from taximeter_server.billing_errors import CreditTooLargeError, InvoiceStateError
from taximeter_server.credits import Credits
from taximeter_server.invoice import INVOICE
from taximeter_server.plans import Plans
from taximeter_server.report_query import ReportMeasures, ReportPage, ReportQuery
from taximeter_server.store import DocumentStore

DAY_MS = 86_400_000


class NoUsage:
    """The reports of a ledger in which nothing was ever recorded: what is killed here is not the ledger."""

    def report(self, _query: ReportQuery, *, page_size: int = 0, page_token: str = "") -> ReportPage:  # noqa: ARG002 (the shape)
        """Return nothing."""
        return ReportPage((), "", ReportMeasures(0, {}, 0, 0), 0, "as of now")


def make_billing(store_url: str, clock: SetClock) -> tuple[DocumentStore, Billing]:
    """Return the billing of one server."""
    documents = DocumentStore(store_url)
    billing = Billing(
        documents,
        Plans(documents, NoLimits(), clock),
        NoUsage(),
        Credits(NoAccounts(), NoAccounts(), documents.changes, clock),
        audited=lambda _name: nullcontext(),
        clock=clock,
        currency_code=lambda: "USD",
        grace_seconds=3_600,
    )
    return documents, billing


def live(store_url: str, start_ms: int, seed: int, tenants: Sequence[str]) -> None:
    """Let time pass and change whatever can be changed of these tenants, until killed."""
    chance = random.Random(seed)
    clock = SetClock(start_ms)
    _, billing = make_billing(store_url, clock)
    while True:
        clock.now_ms += chance.randrange(10 * DAY_MS)
        billing.keeper.keep()
        tenant = chance.choice(tenants)
        billing.subscriptions.change_plan(
            tenant, chance.choice(("p", "q")), at_period_end=chance.random() < 0.5
        )
        found = [one for one in billing.invoices.account(tenant).documents.values() if one.kind == INVOICE]
        for invoice in chance.sample(found, min(2, len(found))):
            try:
                if chance.random() < 0.5:
                    billing.credit_notes.void(invoice.invoice_id, "wrong")
                else:
                    name = f"c{chance.randrange(10**9)}"
                    billing.credit_notes.credit(
                        invoice.invoice_id, name, 1 + chance.randrange(2_000), "goodwill"
                    )
            except (InvoiceStateError, CreditTooLargeError):
                continue
