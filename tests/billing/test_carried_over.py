# SPDX-License-Identifier: Apache-2.0
"""Invoices of less than nothing: what is left for the tenant is taken off the next ones, until it is used up."""

from billing.conftest import BillingFixture
from billing.invoice_oracle import check_document
from reports.ledger_entries import void_of

from taximeter_server.invoice import CARRY, PAID, Invoice
from taximeter_server.plan_terms import MONTH, Cadence, PlanTerms
from taximeter_server.subscriptions import NewPhase, NewSubscription

DAY_MS = 86_400_000
UNIT = 10**12


def subscribe(world: BillingFixture) -> None:
    """Subscribe acme to a plan of 1 USD, and use 10 USD in the first month, which are taken back in the second."""
    world.put_plan("p", PlanTerms(currency_code="USD", price_picos=UNIT, cadence=Cadence(MONTH, 1)))
    world.billing.subscriptions.put(NewSubscription(tenant="acme", phases=(NewPhase(plan="p"),)))
    world.use("acme", world.clock.now_ms, 10 * UNIT)
    next_month(world)
    world.ledger.record([void_of(world.ledger.entries[0])])


def next_month(world: BillingFixture) -> None:
    """Let a month and its grace pass."""
    world.clock.now_ms += 31 * DAY_MS
    world.billing.keeper.keep()


def invoices(world: BillingFixture) -> list[Invoice]:
    """Return the documents, oldest first."""
    found = world.billing.invoices.list("acme", with_drafts=False)[::-1]
    for one in found:
        check_document(one)
    return found


def carried(invoice: Invoice) -> list[int]:
    """Return the cents that an invoice carries over, those from before first."""
    return [line.amount_minor for line in invoice.lines if line.kind == CARRY]


def test_what_is_left_is_taken_off_until_it_is_used_up(world: BillingFixture) -> None:
    """No invoice is below zero, and what all of them ask for is what was owed."""
    subscribe(world)
    for _ in range(2):
        next_month(world)
    world.use("acme", world.clock.now_ms, 20 * UNIT)
    next_month(world)

    found = invoices(world)
    assert [one.total_minor for one in found] == [1_100, 0, 0, 1_300]
    assert [carried(one) for one in found] == [[], [900], [-900, 800], [-800]]
    assert [one.state for one in found[1:3]] == [PAID, PAID]
    assert [line.description for line in found[2].lines if line.kind == CARRY] == [
        "Carried over from an earlier invoice",
        "Carried over to the next invoice",
    ]


def test_a_void_owes_again_what_was_carried_over(world: BillingFixture) -> None:
    """An invoice that carries over can be void like others: the next one has all that it said."""
    subscribe(world)
    next_month(world)
    world.billing.credit_notes.void(invoices(world)[1].invoice_id, "wrong address")
    next_month(world)

    found = [one for one in invoices(world) if one.kind == "invoice"]
    assert [one.total_minor for one in found] == [1_100, 0, 0]
    assert carried(found[2]) == [800]


def test_the_last_one_is_left_as_it_is(world: BillingFixture) -> None:
    """Without a next invoice nothing is carried over: what the tenant gets back shows."""
    subscribe(world)
    world.billing.subscriptions.cancel("acme", at_once=False)
    next_month(world)

    last = invoices(world)[-1]
    assert (last.total_minor, carried(last), last.state) == (-900, [], PAID)
