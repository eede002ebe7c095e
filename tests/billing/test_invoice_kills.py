# SPDX-License-Identifier: Apache-2.0
"""Processes that change subscriptions and invoices are killed at any point; nothing is ever half-done."""

import multiprocessing
import random
import time
from collections.abc import Sequence
from typing import Any

import pytest
import redis
from billing.conftest import BillingFixture
from billing.invoice_oracle import check_document, check_numbers, check_reversals
from billing.invoice_worker import DAY_MS, live, make_billing
from billing.set_clock import SetClock

from taximeter_server.invoice import INVOICE, Invoice
from taximeter_server.plan_terms import MONTH, Cadence, PlanTerms
from taximeter_server.store_names import INVOICE_IDS, INVOICE_NUMBERS, INVOICES_PREFIX, SUBSCRIPTIONS
from taximeter_server.subscriptions import NewPhase, NewSubscription

START_SECONDS = 25
SERVERS = 3
ROUNDS_TOGETHER = 12
"""Rounds after which other tenants are billed, so that what servers read and tests check does not grow with rounds."""
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["billing.invoice_worker"])


class Checker:
    """Checks what a round has changed, and at the end everything."""

    def __init__(self, store_url: str) -> None:
        self._url = store_url
        self._store: Any = redis.Redis.from_url(store_url, decode_responses=True)
        self._checked: dict[str, str] = {}
        self._numbers: dict[str, int] = {}

    def close(self) -> None:
        """Close the connection."""
        self._store.close()

    def count(self) -> int:
        """Return the number of documents."""
        return int(self._store.hlen(INVOICE_IDS))

    def check(self, tenants: Sequence[str], now_ms: int) -> None:
        """All that tenants have fits together; of documents, those that were changed since they were checked last."""
        documents, billing = make_billing(self._url, SetClock(now_ms))
        for tenant in tenants:
            account = billing.invoices.account(tenant)
            check_reversals(account.documents.values())
            # Each period that is over has its invoice, and no other has one.
            assert account.subscription is not None
            until_ms = account.stored.invoiced_until_ms
            closed = [one for one in account.subscription.periods(until_ms) if one.end_ms <= until_ms]
            invoices = [one for one in account.documents.values() if one.kind == INVOICE]
            assert sorted(one.period_start_ms for one in invoices) == [one.start_ms for one in closed]
            for document_id, text in account.stored.documents.items():
                if self._checked.get(document_id) != text:
                    check_document(account.documents[document_id])
                    self._checked[document_id] = text
        documents.close()
        self._check_new_numbers()

    def _check_new_numbers(self) -> None:
        """Numbers that were given since the last time are those that come next, and lead to documents."""
        given = {series: int(last) for series, last in self._store.hgetall(INVOICE_NUMBERS).items()}
        for series, last in given.items():
            new = [f"{series}-{number:06}" for number in range(self._numbers.get(series, 0) + 1, last + 1)]
            ids = self._store.hmget(INVOICE_IDS, new) if new else []
            assert all(document_id in self._checked for document_id in ids), (new, ids)
        self._numbers = given
        assert self.count() == sum(given.values())

    def check_all(self) -> None:
        """No number of all is skipped or given twice, whoever has it, and nothing has changed behind our back."""
        found = []
        for key in self._store.keys(f"{INVOICES_PREFIX}*"):
            for document_id, text in self._store.hgetall(key).items():
                assert self._checked[document_id] == text
                found.append(Invoice.from_json(text))
        check_numbers(found, {key: self._store.hgetall(key) for key in (INVOICE_IDS, INVOICE_NUMBERS)})

    def leave(self, tenants: Sequence[str]) -> None:
        """Have servers look at tenants no more; what they have stays."""
        self._store.hdel(SUBSCRIPTIONS, *tenants)


def subscribed(world: BillingFixture, number: int, now_ms: int) -> list[str]:
    """Return tenants that have just subscribed."""
    tenants = [f"{name}{number}" for name in "abc"]
    world.clock.now_ms = max(world.clock.now_ms, now_ms)
    for tenant in tenants:
        world.billing.subscriptions.put(NewSubscription(tenant=tenant, phases=(NewPhase(plan="p"),)))
    return tenants


@pytest.mark.parametrize(
    "kills", [6, pytest.param(1_000, marks=[pytest.mark.wide, pytest.mark.timeout(3_600)])]
)
def test_kills_leave_nothing_half_done(world: BillingFixture, store_url: str, kills: int) -> None:
    """Some servers at a time, each killed within moments: each document whole, each number and period once."""
    chance = random.Random(kills)
    for name, price in (("p", 49 * 10**12 // 3), ("q", 99 * 10**12)):
        world.put_plan(name, PlanTerms(currency_code="USD", price_picos=price, cadence=Cadence(MONTH, 1)))
    checker = Checker(store_url)
    now_ms = world.clock.now_ms
    tenants: list[str] = []
    for round_number, number in enumerate(range(0, kills, SERVERS)):
        if round_number % ROUNDS_TOGETHER == 0:
            if tenants:
                checker.leave(tenants)
            tenants = subscribed(world, round_number, now_ms)
        servers = [
            PROCESSES.Process(target=live, args=(store_url, now_ms, number + one, tenants), daemon=True)
            for one in range(SERVERS)
        ]
        for server in servers:
            server.start()
        # A moment to come up, and then any: the store tells how far they are.
        seen, deadline = checker.count(), time.monotonic() + START_SECONDS
        while checker.count() <= seen and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(chance.random() / 20)
        for server in servers:
            server.kill()
            server.join()
        checker.check(tenants, now_ms)
        now_ms = max(now_ms, world.clock.now_ms) + 40 * DAY_MS
    checker.check_all()
    assert checker.count()
    checker.close()
