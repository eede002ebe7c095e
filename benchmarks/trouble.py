# SPDX-License-Identifier: Apache-2.0
"""`make bench-trouble`: how long checks take while something goes wrong, or much else goes on.

An open loop asks at a steady rate, on a server of its own for each trouble, so each latency counts from when a call was
due: what a stall delays is seen by all that it delays.
"""

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import plots  # noqa: E402 (needs the path above)
import redis  # noqa: E402 (likewise)
from background import repeated  # noqa: E402 (likewise)
from contestants import Contestant, load_command, product  # noqa: E402 (likewise)
from reconciliation import measure_checks  # noqa: E402 (likewise)

from harness.http2_client import Http2Client, frame, grpc_headers  # noqa: E402 (likewise)
from harness.server_process import ServerProcess  # noqa: E402 (likewise)
from taximeter import Meter  # noqa: E402 (likewise)
from taximeter.clock import system_clock_ms  # noqa: E402 (likewise)
from taximeter.v1 import metering_service_pb2 as pb  # noqa: E402 (likewise)

PAUSE_S = 0.1
RECORDS_PER_SECOND = 5_000
REPORTERS = 4
SLOW_CLIENTS, CALLS_UNREAD = 16, 100
CHECK_QUOTA = "/taximeter.v1.MeteringService/CheckQuota"
CARD = 'billing:\n  rate_card:\n    "claude-sonnet-4-6":\n      input: {}.5\n      output: 15\n'
ERA = timedelta(days=30)
Trouble = Callable[[ServerProcess, Contestant], contextlib.AbstractContextManager[None]]


@dataclass(frozen=True, slots=True)
class Case:
    """A trouble by name. connections: those of the load, which are as many as there are calls at once."""

    name: str
    begin: Trouble
    connections: int = 64


def main() -> None:
    """Measure under each trouble, and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=int, default=10, help="length of each load (default 10)")
    parser.add_argument("--rate", type=int, default=1_000, help="checks per second (default 1,000)")
    parser.add_argument("--plot", type=Path, help="also draw a histogram of each into this SVG file")
    options = parser.parse_args()
    found = {}
    print(
        f"{f'{options.rate:,} checks/s, microseconds':44}{'p50':>11}{'p90':>11}{'p99':>11}{'p99.9':>11}{'failed':>11}"
    )
    for case in CASES:
        arguments = ("check", "--connections", str(case.connections), "--streams", "1", "--threads", "2",
                     "--rate", str(options.rate), "--seconds", str(options.seconds))  # fmt: skip
        with tempfile.TemporaryDirectory(prefix="tx") as directory:
            data_dir = Path(directory) / "data"
            with ServerProcess(data_dir, arguments=("--connections-max", "2000")) as server:
                contestant = product(server)
                with case.begin(server, contestant):
                    run = measure_checks(contestant, arguments)
        found[case.name] = run
        cells = (run.p50_us, run.p90_us, run.p99_us, run.p999_us, run.failed)
        print(f"{case.name:44}{''.join(f'{cell:>11,}' for cell in cells)}", flush=True)
    if options.plot:
        plots.draw_histograms(found, f"Checks by their latency, {options.rate:,} in a second", options.plot)


def meter(server: ServerProcess) -> Meter:
    """An admin's client."""
    return Meter(f"http://{server.address}", key=server.admin_key)


def nothing(_server: ServerProcess, _contestant: Contestant) -> contextlib.AbstractContextManager[None]:
    """Nothing goes wrong."""
    return contextlib.nullcontext()


def paused_store(server: ServerProcess, _contestant: Contestant) -> contextlib.AbstractContextManager[None]:
    """The store stops for a moment, again and again."""
    pid = server.store_pid

    def pause() -> None:
        os.kill(pid, signal.SIGSTOP)
        time.sleep(PAUSE_S)
        os.kill(pid, signal.SIGCONT)

    return repeated(pause, 1)


@contextlib.contextmanager
def rewritten_file(server: ServerProcess, _contestant: Contestant) -> Iterator[None]:
    """The store writes its append-only file anew."""
    with server.store_client() as store:

        def rewrite() -> None:
            with contextlib.suppress(redis.ResponseError):  # One is on its way.
                store.bgrewriteaof()

        with repeated(rewrite, 1):
            yield


@contextlib.contextmanager
def records(_server: ServerProcess, contestant: Contestant) -> Iterator[None]:
    """Records come, and are archived."""
    arguments = ("record", "--connections", "4", "--streams", "16", "--tenants", "1000", "--count", "1000000",
                 "--rate", str(RECORDS_PER_SECOND), "--seconds", "600")  # fmt: skip
    with subprocess.Popen(load_command(contestant, arguments), stdout=subprocess.DEVNULL) as load:
        yield
        load.kill()


@contextlib.contextmanager
def published_cards(server: ServerProcess, _contestant: Contestant) -> Iterator[None]:
    """Prices change."""
    with meter(server) as admin:
        prices = iter(range(1, 1_000))
        with repeated(lambda: admin.publish_rate_card(CARD.format(next(prices))), 0.5):
            yield


@contextlib.contextmanager
def reports(server: ServerProcess, contestant: Contestant) -> Iterator[None]:
    """Reports are asked for without pause."""
    arguments = ("record", "--connections", "4", "--streams", "4", "--tenants", "64", "--batch", "100",
                 "--count", "500")  # fmt: skip
    subprocess.run(load_command(contestant, arguments), check=True, stdout=subprocess.DEVNULL)
    with meter(server) as reader, contextlib.ExitStack() as stack:
        now = datetime.fromtimestamp(system_clock_ms() // 1000, UTC)

        def report() -> None:
            reader.report(now - ERA, now + ERA, group_by=["tenant", "model"])

        for _ in range(REPORTERS):
            stack.enter_context(repeated(report, 0))
        yield


@contextlib.contextmanager
def slow_clients(server: ServerProcess, _contestant: Contestant) -> Iterator[None]:
    """Other clients ask and read no answer."""
    headers = grpc_headers(CHECK_QUOTA, server.admin_key)
    body = frame(pb.CheckQuotaRequest(tenant="slow").SerializeToString())
    with contextlib.ExitStack() as stack:

        def ask() -> None:
            client = stack.enter_context(Http2Client(server.address))
            for _ in range(CALLS_UNREAD):
                client.send(client.open(headers), body, end=True)

        for _ in range(SLOW_CLIENTS):
            ask()
        with repeated(ask, 0.5):
            yield


CASES: Sequence[Case] = (
    Case("nothing else", nothing),
    Case(f"store paused for {PAUSE_S * 1000:.0f} ms each second", paused_store),
    Case("append-only file rewritten each second", rewritten_file),
    Case(f"{RECORDS_PER_SECOND:,} records/s, archived", records),
    Case("two cards published each second", published_cards),
    Case(f"{REPORTERS} reports at a time", reports),
    Case("1,000 connections", nothing, connections=1_000),
    Case(f"{SLOW_CLIENTS} and more clients that read nothing", slow_clients),
)


if __name__ == "__main__":
    main()
