# SPDX-License-Identifier: Apache-2.0
"""A server that has a payment provider: Stripe's own mock, and a Stripe that remembers behind it."""

import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from payments.stripe_server import StripeServer

from harness.server_process import ServerProcess
from taximeter import Meter
from taximeter_server.payment_stripe import StripePayments

STRIPE_KEY = "sk_test_" + "51TaximeterTests"
WEBHOOK_SECRET = "whsec_" + "TaximeterTests"
MOCK = Path(__file__).with_name("stripe-mock")
START_TIMEOUT_S = 60


@pytest.fixture(scope="session")
def stripe_mock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of stripe-mock, which is built from the Go module that go.mod beside it pins."""
    if shutil.which("go") is None:
        pytest.skip("go is not on the PATH")
    directory = tmp_path_factory.mktemp("stripe-mock")
    subprocess.run(["go", "build", "-C", str(MOCK), "-o", f"{directory}/", "tool"], check=True)
    log = directory / "log"
    # Both ports, so that several of it run beside each other.
    command = [f"{directory}/stripe-mock", "-http-addr", "127.0.0.1:0", "-https-addr", "127.0.0.1:0"]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        yield _port_in(log)
    finally:
        process.kill()
        process.wait()


def _port_in(log: Path) -> int:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        if found := re.search(r"for HTTP at address: 127\.0\.0\.1:(\d+)\n", log.read_text()):
            return int(found[1])
        assert time.monotonic() < deadline, f"stripe-mock does not come up: {log.read_text()}"
        time.sleep(0.05)


@pytest.fixture
def stripe(stripe_mock: int) -> Iterator[StripeServer]:
    """A Stripe that remembers."""
    server = StripeServer(stripe_mock)
    yield server
    server.close()


@pytest.fixture
def provider(stripe: StripeServer) -> StripePayments:
    """The provider, talking to it."""
    return StripePayments(
        key=STRIPE_KEY,
        webhook_secret=WEBHOOK_SECRET,
        url=stripe.url,
        instance="ledger-1",
        meter_event="taximeter_usage",
    )


@dataclass(frozen=True)
class PayingServer:
    """A server with that provider. options: to start it again."""

    process: ServerProcess
    meter: Meter

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Return once something is so."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while not condition():
            assert time.monotonic() < deadline, self.process.log[-3_000:]
            time.sleep(0.05)


@pytest.fixture
def stripe_arguments(stripe: StripeServer, tmp_path: Path) -> list[str]:
    """The flags that make Stripe the provider."""
    key, secret = tmp_path / "stripe.key", tmp_path / "stripe.secret"
    key.write_text(f"{STRIPE_KEY}\n")
    secret.write_text(f"{WEBHOOK_SECRET}\n")
    flags = ["--stripe-key-file", str(key), "--stripe-webhook-secret-file", str(secret)]
    return [*flags, "--stripe-url", stripe.url]


@pytest.fixture
def paying(fresh_server: Callable[..., ServerProcess], stripe_arguments: list[str]) -> Iterator[PayingServer]:
    """A new server whose provider that is."""
    process = fresh_server(arguments=stripe_arguments)
    with Meter(f"http://{process.address}", key=process.admin_key) as meter:
        yield PayingServer(process, meter)
