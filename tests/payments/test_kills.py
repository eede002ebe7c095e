# SPDX-License-Identifier: Apache-2.0
"""Servers that die while they push: whatever is lost then, Stripe has everything once."""

import contextlib
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from payments.stripe_server import StripeServer
from payments.test_payments import ACME, reported_micros

from harness.server_process import ServerFailedError, ServerProcess
from harness.store_process import StoreProcess
from taximeter import Meter, Usage

COST_MICROS = 5_000
METER_EVENTS = "/v1/billing/meter_events"
WAIT_TIMEOUT_S = 60


def use(server: ServerProcess) -> None:
    """Make usage that is to be reported."""
    with Meter(f"http://{server.address}", key=server.admin_key) as meter:
        meter.put_payment_account(ACME)
        meter.record("acme/team", Usage(uncached_input_tokens=1_000), model="gpt-5")


def wait_until(condition: Callable[[], bool], server: ServerProcess) -> None:
    """Return once something is so."""
    deadline = time.monotonic() + WAIT_TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline, server.log[-3_000:]
        time.sleep(0.05)


def start_and_be_killed(
    server: ServerProcess, stripe: StripeServer, *, is_after: bool, path: str = METER_EVENTS
) -> None:
    """Start a server that is killed while Stripe has its request, before or after Stripe has done the work."""
    killed = threading.Event()

    def kill() -> None:
        server.process.kill()
        killed.set()

    (stripe.faults.after if is_after else stripe.faults.before)[path] = kill
    # It may die before it has said that it serves.
    with contextlib.suppress(ServerFailedError):
        server.start()
    assert killed.wait(WAIT_TIMEOUT_S), server.log[-3_000:]
    server.kill()


@pytest.mark.timeout(300)
def test_usage_is_reported_once_across_kills(
    fresh_server: Callable[..., ServerProcess],
    stripe: StripeServer,
    stripe_arguments: list[str],
    tmp_path: Path,
) -> None:
    """A server is killed while Stripe has its request, before or after the work: the next one makes nothing twice."""
    data = tmp_path / "data"
    for number, is_after in enumerate((False, True), start=1):
        # Without a provider nothing is pushed yet.
        plain = fresh_server(data)
        use(plain)
        plain.stop()
        paying = ServerProcess(data, arguments=stripe_arguments)
        start_and_be_killed(paying, stripe, is_after=is_after)
        with paying:
            wait_until(lambda: reported_micros(stripe) == number * COST_MICROS, paying)  # noqa: B023 (used at once)

    assert len(stripe.of_kind("customer")) == 1
    assert len(stripe.meter_events) == 2


@pytest.mark.timeout(300)
def test_two_servers_on_one_store_push_once(
    fresh_server: Callable[..., ServerProcess],
    stripe: StripeServer,
    stripe_arguments: list[str],
    tmp_path: Path,
) -> None:
    """Servers that share a store report usage once between them; when one dies within a push, another goes on."""
    # Its socket needs a short path.
    with tempfile.TemporaryDirectory(prefix="tx") as short, StoreProcess(Path(short) / "store") as store:
        shared = ["--store", store.url, "--ledger", str(tmp_path / "ledger")]
        plain = fresh_server(arguments=shared)
        use(plain)
        dying = ServerProcess(tmp_path / "dying", arguments=[*shared, *stripe_arguments])
        start_and_be_killed(dying, stripe, is_after=True)
        heir = fresh_server(arguments=[*shared, *stripe_arguments])
        wait_until(lambda: "done" in states(store), heir)
        heir.stop()
        plain.stop()

    assert reported_micros(stripe) == COST_MICROS


def states(store: StoreProcess) -> str:
    """Return what the store says of all payments."""
    return str(store.client().hvals("{tx:cfg}:payment_jobs"))
