# SPDX-License-Identifier: Apache-2.0
"""Three years of credits, on a store whose clock the test sets: entries are the balance, invoices the ledger."""

import contextlib
import random
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pytest
import redis
from billing.conftest import empty
from billing.invoice_oracle import billed_picos, check_document, check_numbers, check_reversals
from billing.seller import CENTS, TERMS, Seller
from quota import conftest as quota_fixtures
from quota.conftest import Stepped

from taximeter_server.billing_errors import CreditTooLargeError, InvoiceStateError
from taximeter_server.credit_grant import ALLOW, PAID, PROMO, Grant
from taximeter_server.credits import AccountStatus
from taximeter_server.errors import InvalidFieldsError
from taximeter_server.invoice import INVOICE, TOP_UP, VOID, Invoice
from taximeter_server.payment_provider import Outcome, PaymentEvent, Pushed, SubjectKind
from taximeter_server.store_names import INVOICE_IDS, INVOICE_NUMBERS
from taximeter_server.subscriptions import NewPhase, NewSubscription
from taximeter_server.top_up import DONE, PENDING

short_directory, stepped = quota_fixtures.short_directory, quota_fixtures.stepped

DAY_MS = 86_400_000
CREDIT = 1_000_000
USAGE_KINDS = ("usage", "void", "adjustment", "amendment")


@pytest.fixture
def seller(stepped: Stepped, tmp_path: Path) -> Iterator[Seller]:
    """All of billing on an empty store."""
    empty(stepped.store.url)
    with Seller(stepped, tmp_path) as found:
        yield found


class Years:
    """A random account with credits, and what it must be by arithmetic of its own."""

    def __init__(self, seller: Seller, seed: int) -> None:
        self.seller = seller
        self.chance = random.Random(seed)
        self.tenant = seller.tenant
        for name in TERMS:
            seller.put_plan(name)
        seller.billing.subscriptions.put(
            NewSubscription(tenant=self.tenant, phases=(NewPhase(plan="bills"),), anchor_day=31)
        )
        seller.billing.keeper.keep()

    def live(self, steps: int) -> None:
        """Let a year pass in so many steps, each with something that happens."""
        actions = {
            self.use: 12,
            self.grant: 3,
            self.void_grant: 1,
            self.correct: 2,
            self.change_plan: 2,
            self.buy: 2,
            self.void_invoice: 1,
            self.credit: 1,
        }
        for _ in range(steps):
            self.seller.advance(1 + self.chance.randrange(2 * 366 * 86_400 // steps))
            self.seller.expire_due()
            self.seller.billing.keeper.keep()
            self.chance.choices(list(actions), list(actions.values()))[0]()
            self.seller.top_ups.queue()
            self.pay()

    def use(self) -> None:
        """Record usage, some of it late."""
        for _ in range(self.chance.randrange(1, 4)):
            late_ms = self.chance.choice((0, 0, 0, 33 * DAY_MS))
            tokens = self.chance.choice((0, 1, 999, 40_000, 3_000_000)), self.chance.choice((0, 7, 200_000))
            self.seller.record(self.chance.choice("mn"), *tokens, late_ms=late_ms)

    def grant(self) -> None:
        """Give credits, for some time, for some of it all."""
        start_ms = self.chance.choice((0, 0, self.seller.now_ms + 20 * DAY_MS))
        lasts_ms = self.chance.choice((0, 1_000, 50 * DAY_MS))
        self.seller.credits.grant(
            self.tenant,
            Grant(
                grant_id=f"g{self.chance.randrange(10**12)}",
                amount_microcredits=self.chance.choice((1, 77 * CREDIT, 1_000 * CREDIT)),
                kind=self.chance.choice((PAID, PROMO)),
                priority=self.chance.choice((1, 100)),
                effective_time_ms=start_ms,
                expire_time_ms=(start_ms or self.seller.now_ms) + lasts_ms if lasts_ms else 0,
                models=self.chance.choice(((), (), ("m",))),
                usage_classes=self.chance.choice(((), (), ("output",))),
            ),
        )

    def void_grant(self) -> None:
        """Take back what is left of some grant."""
        grants = self.account().grants
        if grants:
            self.seller.credits.void(self.tenant, self.chance.choice(grants).grant.grant_id, "a test")

    def correct(self) -> None:
        """Take a record back, however old."""
        if self.seller.recorded:
            self.seller.void_record(self.chance.choice(list(self.seller.recorded)))

    def change_plan(self) -> None:
        """Take another plan."""
        # Refused in the minutes in which a period begins.
        with contextlib.suppress(InvalidFieldsError):
            self.seller.billing.subscriptions.change_plan(
                self.tenant, self.chance.choice(list(TERMS)), at_period_end=self.chance.random() < 0.5
            )

    def buy(self) -> None:
        """Begin a top-up, or find one that is pending."""
        name = f"order-{self.chance.randrange(10**9)}"
        first = self.seller.top_ups.buy(self.tenant, name, self.chance.choice((1, 500)) * CREDIT)
        assert self.seller.top_ups.get(self.tenant, first.top_up.request_id) == first.top_up

    def pay(self) -> None:
        """Have the provider tell that some of the pending charges have succeeded, some of them twice."""
        for one in self.seller.top_ups.list(self.tenant):
            if one.top_up.state == PENDING and self.chance.random() < 0.7:
                subject = f"{self.tenant}/{one.top_up.request_id}"
                event = PaymentEvent(
                    event_id="e", kind=SubjectKind.TOP_UP, subject=subject, pushed=Pushed("pi", Outcome.PAID)
                )
                for _ in range(self.chance.choice((1, 2))):
                    self.seller.top_ups.apply(event)

    def void_invoice(self) -> None:
        """Take an invoice back, if it can be."""
        if documents := self.invoices():
            with contextlib.suppress(InvoiceStateError):
                self.seller.billing.credit_notes.void(self.chance.choice(documents).invoice_id, "wrong")

    def credit(self) -> None:
        """Give back some of an invoice, if it can be."""
        if documents := self.invoices():
            chosen, name = self.chance.choice(documents), f"c{self.chance.randrange(10**9)}"
            with contextlib.suppress(CreditTooLargeError, InvoiceStateError):
                self.seller.billing.credit_notes.credit(chosen.invoice_id, name, 1, "goodwill")

    def documents(self) -> list[Invoice]:
        """Return all documents."""
        return list(self.seller.billing.invoices.account(self.tenant).documents.values())

    def invoices(self) -> list[Invoice]:
        """Return all invoices."""
        return [one for one in self.documents() if one.kind == INVOICE]

    def account(self) -> AccountStatus:
        """Return the credit account."""
        return self.seller.credits.account(self.tenant)


def check_credits(years: Years) -> None:
    """Entries add up to the balance and to each grant; what was used is what all lines cost; top-ups are grants."""
    seller, account = years.seller, years.account()
    moves = [move for entry in seller.read_entries() for move in entry.moves]
    by_grant = Counter[str]()
    for move in moves:
        by_grant[move.grant_id] += move.microcredits
    pending = sum(one.remaining_microcredits for one in account.grants if one.state == "pending")
    assert sum(move.microcredits for move in moves) - pending == account.balance_microcredits
    left = {one.grant.grant_id: one.remaining_microcredits for one in account.grants}
    assert {name: by_grant[name] for name in left} == left
    assert set(by_grant) <= {"", *left}
    assert max(-by_grant[""], 0) == account.overdrawn_microcredits
    assert account.used_microcredits == sum(seller.recorded.values())

    bought = {one.top_up.grant.grant_id: one.top_up for one in seller.top_ups.list(years.tenant)}
    granted = {one.grant.grant_id: one.grant for one in account.grants if one.grant.grant_id in bought}
    assert granted.keys() == {name for name, one in bought.items() if one.state == DONE}
    for name, grant in granted.items():
        assert (grant.amount_microcredits, grant.cost_basis_picos) == (
            bought[name].amount_microcredits,
            bought[name].price_minor * CENTS,
        )
        assert bought[name].price_minor == round(Fraction(bought[name].amount_microcredits * 9, 10 * CREDIT))


def owed_picos(years: Years) -> int:
    """Return prices of all periods that have begun, and of credits that nothing covered where the plan bills them."""
    account = years.seller.billing.invoices.account(years.tenant)
    assert account.subscription is not None
    overdrawn = [
        (entry.occur_time_ms, -move.microcredits)
        for entry in years.seller.read_entries()
        for move in entry.moves
        if entry.kind in USAGE_KINDS and not move.grant_id
    ]
    picos = 0
    for period in account.subscription.periods(years.seller.now_ms + 1):
        shares = [part.terms.price_picos * (part.end_ms - part.start_ms) for part in period.parts]
        picos += round(Fraction(sum(shares), 1_000 * period.span.whole_seconds))
        for part in period.parts:
            terms = part.terms.credits
            if terms is not None and terms.overage_policy == ALLOW and terms.overage_picos is not None:
                found = sum(more for time_ms, more in overdrawn if part.start_ms <= time_ms < part.end_ms)
                picos += round(Fraction(found * terms.overage_picos, CREDIT))
    return picos


def check_invoices(years: Years) -> None:
    """Invoices and the open period are what is owed, and numbers have no gaps."""
    documents = years.documents()
    drafts = [one for one in years.seller.billing.invoices.list(years.tenant) if not one.number]
    for document in (*documents, *drafts):
        check_document(document)
    check_reversals(documents)
    with redis.Redis.from_url(years.seller.store_url, decode_responses=True) as store:
        check_numbers(documents, {key: store.hgetall(key) for key in (INVOICE_IDS, INVOICE_NUMBERS)})
    assert billed_picos([*documents, *drafts]) == owed_picos(years)
    bought = Counter(
        line.item
        for document in (*documents, *drafts)
        if document.kind == INVOICE and document.state != VOID
        for line in document.lines
        if line.kind == TOP_UP
    )
    paid = [one.top_up for one in years.seller.top_ups.list(years.tenant) if one.top_up.state == DONE]
    assert bought == Counter(one.request_id for one in paid)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", [1, *(pytest.param(n, marks=pytest.mark.wide) for n in range(2, 30))])
def test_credits_and_invoices_are_the_ledger(seller: Seller, seed: int) -> None:
    """Whatever happens within three years, the sum of entries is the balance, and what is billed and open is owed."""
    years = Years(seller, seed)
    for _ in range(3):
        years.live(12)
        seller.expire_due()
        check_credits(years)
        check_invoices(years)
    assert seller.recorded
