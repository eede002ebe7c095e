# SPDX-License-Identifier: Apache-2.0
"""Processes that change subscriptions and invoices are killed at any point; nothing is ever half-done."""

import multiprocessing
import random
import time

import pytest
import redis
from billing.conftest import BillingFixture
from billing.invoice_oracle import check_document, check_numbers, check_reversals
from billing.invoice_worker import DAY_MS, TENANTS, live, make_billing
from billing.set_clock import SetClock

from taximeter_server.invoice import INVOICE, Invoice
from taximeter_server.plan_terms import MONTH, Cadence, PlanTerms
from taximeter_server.store_names import INVOICE_IDS, INVOICE_NUMBERS
from taximeter_server.subscriptions import NewPhase, NewSubscription

START_SECONDS = 25
SERVERS = 3
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["billing.invoice_worker"])


def check(store_url: str, now_ms: int) -> int:
    """Everything in the store fits together. Returns the number of documents."""
    documents, billing = make_billing(store_url, SetClock(now_ms))
    found: list[Invoice] = []
    for tenant in TENANTS:
        account = billing.invoices.account(tenant)
        invoices = [one for one in account.documents.values() if one.kind == INVOICE]
        check_reversals(account.documents.values())
        # Each period that is over has its invoice, and no other has one.
        assert account.subscription is not None
        until_ms = account.stored.invoiced_until_ms
        closed = [one for one in account.subscription.periods(until_ms) if one.end_ms <= until_ms]
        assert sorted(one.period_start_ms for one in invoices) == [one.start_ms for one in closed]
        found += account.documents.values()
    for document in found:
        check_document(document)
    with redis.Redis.from_url(store_url, decode_responses=True) as store:
        check_numbers(found, {key: store.hgetall(key) for key in (INVOICE_IDS, INVOICE_NUMBERS)})
    documents.close()
    return len(found)


@pytest.mark.parametrize(
    "kills", [6, pytest.param(1_000, marks=[pytest.mark.wide, pytest.mark.timeout(3_600)])]
)
def test_kills_leave_nothing_half_done(world: BillingFixture, store_url: str, kills: int) -> None:
    """Some servers at a time, each killed within moments: each document whole, each number and period once."""
    chance = random.Random(kills)
    for name, price in (("p", 49 * 10**12 // 3), ("q", 99 * 10**12)):
        world.put_plan(name, PlanTerms(currency_code="USD", price_picos=price, cadence=Cadence(MONTH, 1)))
    for tenant in TENANTS:
        world.billing.subscriptions.put(NewSubscription(tenant=tenant, phases=(NewPhase(plan="p"),)))
    now_ms = world.clock.now_ms
    documents = 0
    store = redis.Redis.from_url(store_url)
    for number in range(0, kills, SERVERS):
        servers = [
            PROCESSES.Process(target=live, args=(store_url, now_ms, number + one), daemon=True)
            for one in range(SERVERS)
        ]
        for server in servers:
            server.start()
        # A moment to come up, and then any: the store tells how far they are.
        seen, deadline = documents, time.monotonic() + START_SECONDS
        while documents <= seen and time.monotonic() < deadline:
            time.sleep(0.002)
            documents = int(store.hlen(INVOICE_IDS))
        time.sleep(chance.random() / 20)
        for server in servers:
            server.kill()
            server.join()
        documents = check(store_url, now_ms)
        now_ms = max(now_ms, world.clock.now_ms) + 40 * DAY_MS
    store.close()
    assert documents
