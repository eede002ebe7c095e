# SPDX-License-Identifier: Apache-2.0
"""Billing on a real store and a real ledger, at a time that the test sets."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace

import pytest
import redis
from billing.set_clock import NoAccounts, NoLimits, SetClock
from reports import conftest as reports_fixtures
from reports.conftest import LedgerFixture
from reports.ledger_entries import Entry, Line

from taximeter_server.billing import Billing
from taximeter_server.credits import Credits
from taximeter_server.limits import Limits
from taximeter_server.plan_terms import PlanTerms
from taximeter_server.plans import Plan, Plans
from taximeter_server.store import DocumentStore
from taximeter_server.store_names import (
    INVOICE_IDS,
    INVOICE_NUMBERS,
    INVOICED_UNTIL,
    INVOICES_PREFIX,
    PLANS,
    SUBSCRIPTIONS,
)

encode, store_url, engine = reports_fixtures.encode, reports_fixtures.store_url, reports_fixtures.engine
make_ledger, ledger = reports_fixtures.make_ledger, reports_fixtures.ledger


@dataclass
class BillingFixture:
    """One server's billing. now_ms: what its clock shows."""

    ledger: LedgerFixture
    documents: DocumentStore
    plans: Plans
    billing: Billing
    clock: SetClock

    def put_plan(self, name: str, terms: PlanTerms) -> None:
        """Put a plan without limits."""
        self.plans.put(Plan(name=name, limits=Limits(), terms=terms))

    def use(self, tenant: str, time_ms: int, cost_picos: int, *, model: str = "m", calls: int = 1) -> None:
        """Record usage of one call."""
        line = Line("input", 1, cost_picos)
        entry = Entry(tenant=tenant, model=model, occur_time_us=time_ms * 1_000, calls=calls, lines=(line,))
        self.ledger.record([replace(entry)])


@pytest.fixture
def world(ledger: LedgerFixture, store_url: str) -> Iterator[BillingFixture]:
    """Billing of one server, at 2026-01-31T10:00:00Z, with an hour of grace."""
    empty(store_url)
    fixture = world_maker(ledger, store_url)()
    yield fixture
    fixture.documents.close()


def empty(store_url: str) -> None:
    """Forget all plans, subscriptions and invoices."""
    with redis.Redis.from_url(store_url) as store:
        for key in (PLANS, SUBSCRIPTIONS, INVOICED_UNTIL, INVOICE_NUMBERS, INVOICE_IDS):
            store.delete(key)
        store.delete(*(store.keys(f"{INVOICES_PREFIX}*") or ["{tx:cfg}:none"]))


def world_maker(ledger: LedgerFixture, store_url: str) -> Callable[[], BillingFixture]:
    """Return what makes servers of one store and ledger."""
    clock = SetClock(1_769_853_600_000)
    reporter = ledger.reporter()

    def make() -> BillingFixture:
        documents = DocumentStore(store_url)
        plans = Plans(documents, NoLimits(), clock)
        billing = Billing(
            documents,
            plans,
            reporter,
            Credits(NoAccounts(), NoAccounts(), documents.changes, clock),
            audited=lambda _name: nullcontext(),
            clock=clock,
            currency_code=lambda: "USD",
            grace_seconds=3_600,
        )
        return BillingFixture(ledger, documents, plans, billing, clock)

    return make
