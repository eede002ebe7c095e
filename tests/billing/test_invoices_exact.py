# SPDX-License-Identifier: Apache-2.0
"""Three years of usage, corrections, changes of plan and voids: invoices and the open period are the ledger."""

import contextlib
import random
from fractions import Fraction

import pytest
import redis
from billing.conftest import BillingFixture
from billing.invoice_oracle import billed_picos, check_document, check_numbers, check_reversals
from reports.ledger_entries import Entry, void_of

from taximeter_server.billing_errors import CreditTooLargeError, InvoiceStateError
from taximeter_server.invoice import INVOICE, OPEN, Invoice
from taximeter_server.plan_terms import DAY, MONTH, YEAR, Cadence, PlanTerms
from taximeter_server.store_names import INVOICE_IDS, INVOICE_NUMBERS
from taximeter_server.subscriptions import NewPhase, NewSubscription

TENANT = "acme"
DAY_MS = 86_400_000
YEAR_MS = 366 * DAY_MS
CADENCES = (Cadence(MONTH, 1), Cadence(MONTH, 1), Cadence(DAY, 30), Cadence(MONTH, 3), Cadence(YEAR, 1))
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu")


class Years:
    """A random account, and what it owes by arithmetic of its own."""

    def __init__(self, world: BillingFixture, seed: int) -> None:
        self.world = world
        self.chance = random.Random(seed)
        self.start_ms = world.clock.now_ms
        for number, cadence in enumerate(CADENCES):
            price = self.chance.choice((0, 49 * 10**12, 10**12 // 3, 1_234_567_890_123_457))
            world.put_plan(f"p{number}", PlanTerms(currency_code="USD", price_picos=price, cadence=cadence))
        world.billing.subscriptions.put(
            NewSubscription(
                tenant=TENANT,
                phases=(NewPhase(plan="p0"),),
                time_zone=self.chance.choice(ZONES),
                anchor_day=self.chance.choice((None, 1, 31)),
            )
        )

    def live(self, steps: int) -> None:
        """Let a year pass in so many steps, each with something that happens."""
        for _ in range(steps):
            self.world.clock.now_ms += self.chance.randrange(2 * YEAR_MS // steps) // 1_000 * 1_000
            self.world.billing.keeper.keep()
            action = self.chance.choices(
                (self.use, self.correct, self.change_plan, self.void_invoice, self.credit, self.pay),
                (10, 3, 2, 1, 1, 1),
            )[0]
            action()

    def use(self) -> None:
        """Record usage, some of it late."""
        now_ms = self.world.clock.now_ms
        time_ms = max(self.start_ms, now_ms - self.chance.choice((0, 0, 1, 40 * DAY_MS)))
        cost = self.chance.choice((1, 7, 5 * 10**9, 5 * 10**9, 10**12 + 3, 123_456_789_012))
        tenant = self.chance.choice((TENANT, f"{TENANT}/a/b", f"{TENANT}x"))
        self.world.use(tenant, time_ms, cost, model=self.chance.choice(("m", "n", "")), calls=2)

    def correct(self) -> None:
        """Take a record back, however old."""
        taken = {entry.adjusted_record_id for entry in self.world.ledger.entries}
        left = [one for one in self.world.ledger.entries if not one.kind and one.record_id not in taken]
        if left:
            self.world.ledger.record([void_of(self.chance.choice(left))])

    def change_plan(self) -> None:
        """Take another plan, or other terms of the same one."""
        self.world.billing.subscriptions.change_plan(
            TENANT, f"p{self.chance.randrange(len(CADENCES))}", at_period_end=self.chance.random() < 0.5
        )

    def some_invoice(self) -> str | None:
        """Return the id of some document."""
        found = [one for one in self.documents() if one.kind == INVOICE]
        return self.chance.choice(found).invoice_id if found else None

    def void_invoice(self) -> None:
        """Take an invoice back, if it can be."""
        if invoice_id := self.some_invoice():
            with contextlib.suppress(InvoiceStateError):
                self.world.billing.credit_notes.void(invoice_id, "wrong address")

    def credit(self) -> None:
        """Give back some of an invoice, if it can be."""
        if invoice_id := self.some_invoice():
            amount = self.chance.choice((1, 250, 10**9))
            name = f"c{self.chance.randrange(10**9)}"
            try:
                note = self.world.billing.credit_notes.credit(invoice_id, name, amount, "goodwill")
            except (CreditTooLargeError, InvoiceStateError):
                return
            assert self.world.billing.credit_notes.credit(invoice_id, name, amount, "goodwill") == note

    def pay(self) -> None:
        """Note a payment."""
        for one in self.documents():
            if one.kind == INVOICE and one.state == OPEN and self.chance.random() < 0.3:
                self.world.billing.invoices.mark_paid(one.invoice_id, time_ms=self.world.clock.now_ms)

    def documents(self) -> list[Invoice]:
        """Return all documents."""
        return list(self.world.billing.invoices.account(TENANT).documents.values())

    def owed_picos(self) -> int:
        """Return prices of all periods that have begun, and usage in them."""
        account = self.world.billing.invoices.account(TENANT)
        assert account.subscription is not None
        periods = list(account.subscription.periods(self.world.clock.now_ms + 1))
        prices = 0
        for period in periods:
            shares = [part.terms.price_picos * (part.end_ms - part.start_ms) for part in period.parts]
            prices += round(Fraction(sum(shares), 1_000 * period.span.whole_seconds))
        first_us, last_us = periods[0].start_ms * 1_000, periods[-1].end_ms * 1_000
        used = [
            one
            for one in self.world.ledger.entries
            if _is_of(one) and first_us <= one.occur_time_us < last_us
        ]
        return prices + sum(line.cost_picos for one in used for line in one.lines)


def _is_of(entry: Entry) -> bool:
    return entry.tenant == TENANT or entry.tenant.startswith(f"{TENANT}/")


def check(years: Years, store_url: str) -> None:
    """All of it adds up, once."""
    documents = years.documents()
    drafts = [one for one in years.world.billing.invoices.list(TENANT) if not one.number]
    for document in (*documents, *drafts):
        check_document(document)
    check_reversals(documents)
    with redis.Redis.from_url(store_url, decode_responses=True) as store:
        check_numbers(documents, {key: store.hgetall(key) for key in (INVOICE_IDS, INVOICE_NUMBERS)})
    assert billed_picos([*documents, *drafts]) == years.owed_picos()
    ends = sorted(one.period_end_ms for one in documents if one.kind == INVOICE)
    assert len(ends) == len(set(ends))


@pytest.mark.parametrize("seed", [1, *(pytest.param(n, marks=pytest.mark.wide) for n in range(2, 30))])
def test_invoices_and_the_open_period_are_the_ledger(
    world: BillingFixture, store_url: str, seed: int
) -> None:
    """Whatever happens within three years, what is billed and what is open are what is owed, to the pico-unit."""
    years = Years(world, seed)
    for _ in range(3):
        years.live(10)
        check(years, store_url)
    if seed % 2:
        world.ledger.archiver().run_once()
        check(years, store_url)
