# SPDX-License-Identifier: Apache-2.0
"""`make bench-access`: what it costs the server to know its callers, to encrypt, and to share itself between them.

Processor time of the server alone, without its store, per check with all limits; each round asks all in turn, and the
median of the rounds counts. Read the ratios. The client is Python, so the server is never the bottleneck.
"""

import argparse
import contextlib
import ssl
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from harness.call_storm import headers_block, storm
from harness.certificates import Authority
from harness.server_process import ServerProcess
from taximeter import Meter, Role
from taximeter.v1 import metering_service_pb2

CHECK_QUOTA = "/taximeter.v1.MeteringService/CheckQuota"
URI = "spiffe://taximeter.test/gateway"
CONNECTIONS = 4
CALLERS = 128
"""More than what a busy key may have worked on beside others, so that calls wait for their turn."""
CALLS = 4_000
CONNECTS = 150
PLAIN = "plaintext, a key"

Action = Callable[[], int]
"""Does something and returns how often."""


def processor_nanos(pid: int) -> int:
    """Return the processor time that a process has used, by its clock in the kernel."""
    return time.clock_gettime_ns(~pid << 3 | 2)


def checks(address: str, key: str, tls: ssl.SSLContext | None = None) -> Action:
    """Return what makes the calls of a round."""
    block = headers_block(CHECK_QUOTA, key)
    message = metering_service_pb2.CheckQuotaRequest(tenant="acme").SerializeToString()

    def action() -> int:
        failed = 0

        def note(answer: bytes | None, _sent: float, _came: float) -> None:
            nonlocal failed
            failed += answer is None

        answered = storm(
            address,
            block,
            message,
            connections=CONNECTIONS,
            callers=CALLERS,
            is_over=lambda answered: answered >= CALLS,
            on_answer=note,
            tls=tls,
        )
        # On a machine that others use, a check may take longer than a check may take.
        if failed > answered // 20:
            raise SystemExit(f"{failed} of {answered} checks failed")
        return answered

    return action


def connects(address: str, tls: ssl.SSLContext | None = None) -> Action:
    """Return what connects, and makes one call on each connection."""
    one = metering_service_pb2.CheckQuotaRequest(tenant="acme").SerializeToString()
    block = headers_block(CHECK_QUOTA, "")

    def action() -> int:
        for _ in range(CONNECTS):
            storm(
                address,
                block,
                one,
                connections=1,
                callers=1,
                is_over=lambda _: True,
                on_answer=lambda *_: None,
                tls=tls,
            )
        return CONNECTS

    return action


@contextlib.contextmanager
def measured(directory: Path) -> Iterator[dict[str, tuple[int, Action]]]:
    """Start the servers and yield, by name, the process whose time counts and what it is asked to do."""
    authority = Authority()
    cert, key = authority.server().write(directory, "server")
    client_files = authority.client([URI]).write(directory, "client")
    (directory / "ca.pem").write_bytes(authority.pem)
    identities = directory / "identities.toml"
    identities.write_text(f'[[certificate]]\nuri = "{URI}"\nrole = "meter"\n')
    arguments = ["--tls-cert", str(cert), "--tls-key", str(key), "--identities", str(identities)]
    arguments += ["--tls-client-ca", str(directory / "ca.pem"), "--tls-client-optional"]
    contexts = [ssl.create_default_context(cadata=authority.pem.decode()) for _ in range(2)]
    for context in contexts:
        context.set_alpn_protocols(["h2"])
    contexts[1].load_cert_chain(*client_files)
    with (
        ServerProcess(directory / "plain") as plain,
        ServerProcess(directory / "tls", arguments=arguments) as encrypted,
        Meter(f"http://{plain.address}", key=plain.admin_key) as meter,
    ):
        keys = [meter.create_key(Role.METER).secret for _ in range(2)]
        one, other = (checks(plain.address, secret) for secret in keys)
        yield {
            PLAIN: (plain.process.pid, one),
            # Both call within a second, so neither has the server to itself.
            "plaintext, beside another key": (plain.process.pid, lambda: one() + other()),
            "TLS 1.3, a key": (
                encrypted.process.pid,
                checks(encrypted.address, encrypted.admin_key, contexts[0]),
            ),
            "TLS 1.3, a client certificate": (
                encrypted.process.pid,
                checks(encrypted.address, "", contexts[1]),
            ),
            "a connection, plaintext": (plain.process.pid, connects(plain.address)),
            "a connection, TLS 1.3": (
                encrypted.process.pid,
                connects(encrypted.address, contexts[0]),
            ),
            "a connection, TLS 1.3 and a client certificate": (
                encrypted.process.pid,
                connects(encrypted.address, contexts[1]),
            ),
        }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder, measured(Path(folder)) as actions:
        costs: dict[str, list[float]] = {name: [] for name in actions}
        for _ in range(rounds):
            for name, (pid, action) in actions.items():
                started = processor_nanos(pid)
                count = action()
                costs[name].append((processor_nanos(pid) - started) / count)
    base = statistics.median(costs[PLAIN])
    print(f"{'processor time of the server for':50}{'us':>10}{'x':>8}")
    for name, found in costs.items():
        cost = statistics.median(found)
        print(f"{name:50}{cost / 1_000:>10.1f}{cost / base:>8.2f}")


if __name__ == "__main__":
    main()
