# SPDX-License-Identifier: Apache-2.0
"""Servers that are killed while credits change: grants, voids, usage, corrections, top-ups. Nothing is half-done."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from payments.stripe_server import StripeServer
from payments.test_kills import wait_until
from payments.test_payments import ACME

from harness.server_process import ServerProcess
from taximeter import CreditGrant, CreditPolicy, Meter, TaximeterError, Usage, new_record_id
from taximeter.top_ups import TopUpState

CREDIT = 1_000_000
WORKERS = 3


class Answered:
    """What was answered: it must be there."""

    def __init__(self) -> None:
        self.grants: dict[str, int] = {}
        self.records: dict[str, int] = {}
        self.voided: set[str] = set()
        self.voids_begun: set[str] = set()


def work(server: ServerProcess, answered: Answered, chance: random.Random) -> None:
    """Change credits until the server dies."""
    with Meter(f"http://{server.address}", key=server.admin_key) as meter:
        try:
            while True:
                change(meter, answered, chance)
        except TaximeterError:
            return


def change(meter: Meter, answered: Answered, chance: random.Random) -> None:
    """Do one thing."""
    name, action = f"n{chance.randrange(10**12)}", chance.random()
    if action < 0.3:
        amount = chance.choice((1, 50 * CREDIT))
        meter.grant_credits("acme", CreditGrant(name, amount))
        answered.grants[name] = amount
    elif action < 0.4 and answered.grants:
        meter.void_credit_grant("acme", chance.choice(list(answered.grants)), reason="a test")
    elif action < 0.5:
        meter.top_up_credits("acme", 70 * CREDIT, request_id=name)
    elif action < 0.6 and (left := sorted(answered.records.keys() - answered.voids_begun)):
        record_id = chance.choice(left)
        answered.voids_begun.add(record_id)
        meter.void_record("acme/bot", record_id, reason="a test")
        answered.voided.add(record_id)
    else:
        record_id = new_record_id()
        usage = Usage(uncached_input_tokens=chance.choice((1, 20_000)))
        recorded = meter.record("acme/bot", usage, model="gpt-5", record_id=record_id)
        answered.records[record_id] = recorded.credit_microcredits


def check(meter: Meter, stripe: StripeServer, answered: Answered) -> None:
    """Entries are the balance and each grant; what was answered is there once; what is charged is granted."""
    entries = meter.list_credit_entries("acme")
    by_grant = Counter[str]()
    for entry in entries:
        assert sum(move.microcredits for move in entry.moves) == entry.microcredits
        for move in entry.moves:
            by_grant[move.grant_id] += move.microcredits
    account, grants = meter.get_credit_account("acme"), meter.list_credit_grants("acme")
    assert sum(entry.microcredits for entry in entries) == account.balance_microcredits
    left = {one.grant_id: one.remaining_microcredits for one in grants}
    assert {name: by_grant[name] for name in left} == left

    amounts = {one.grant_id: one.amount_microcredits for one in grants}
    assert answered.grants.items() <= amounts.items()
    usage = {entry.record_id: -entry.microcredits for entry in entries if entry.kind.value == "USAGE"}
    assert len(usage) == sum(entry.kind.value == "USAGE" for entry in entries)
    assert answered.records.items() <= usage.items()
    voids = sum(entry.kind.value == "VOID" for entry in entries)
    assert len(answered.voided) <= voids <= len(answered.voids_begun)

    bought = {one.grant_id: one for one in meter.list_top_ups("acme")}
    assert {one.state for one in bought.values()} <= {TopUpState.DONE}
    assert bought.keys() == {name for name in amounts if name.startswith("top-up.")}
    charged = Counter(one["metadata"]["taximeter_charge"] for one in stripe.of_kind("payment_intent"))
    assert charged == Counter(f"acme/{one.request_id}" for one in bought.values())
    assert {one["confirmations"] for one in stripe.of_kind("payment_intent")} <= {1}


@pytest.mark.parametrize(
    "kills",
    [
        pytest.param(2, marks=pytest.mark.timeout(300)),
        # A time limit of the function would go before this one.
        pytest.param(100, marks=[pytest.mark.wide, pytest.mark.timeout(1_800)]),
    ],
)
def test_kills_leave_credits_whole(
    fresh_server: Callable[..., ServerProcess],
    stripe: StripeServer,
    stripe_arguments: list[str],
    tmp_path: Path,
    kills: int,
) -> None:
    """Whatever was under way, credits are whole, what was answered is kept, and what was charged is granted."""
    chance, answered = random.Random(kills), Answered()
    data = tmp_path / "data"
    server = fresh_server(data, arguments=stripe_arguments)
    with Meter(f"http://{server.address}", key=server.admin_key) as meter:
        meter.put_payment_account(ACME)
        meter.put_credit_account("acme", 10_000, policy=CreditPolicy.BLOCK)
    for _ in range(kills):
        workers = [
            threading.Thread(target=work, args=(server, answered, random.Random(chance.random())))
            for _ in range(WORKERS)
        ]
        for worker in workers:
            worker.start()
        time.sleep(1 + chance.random())
        server.kill()
        for worker in workers:
            worker.join()
        server = ServerProcess(data, arguments=stripe_arguments)
        server.start()
    with server, Meter(f"http://{server.address}", key=server.admin_key) as meter:
        wait_until(lambda: all(one.state is TopUpState.DONE for one in meter.list_top_ups("acme")), server)
        check(meter, stripe, answered)
    assert answered.grants
    assert answered.records
