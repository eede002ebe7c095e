# SPDX-License-Identifier: Apache-2.0
"""What reports and the archiver do to the latency of CheckQuota: the same open loop of checks alone and beside them.

Rounds are interleaved. Records are what gives the archiver work; a second line has them without reports, so that what
the records themselves cost is not put down to the reports.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from contestants import Contestant, Run, admin, load_command, taximeter  # noqa: E402 (needs the path above)
from reconciliation import measure_checks  # noqa: E402 (likewise)
from synthetic_ledger import FIRST_DAY_MS, write_ledger  # noqa: E402 (likewise)

DAY_COUNT = 90
CHECKS_PER_SECOND = 500
ALONE, BESIDE_RECORDS, BESIDE_REPORTS = "alone", "beside records and the archiver", "and beside reports"
GROUP_BYS = (["root_tenant"], ["attributes.workflow_uuid"])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--events", type=int, default=1_000_000, help="events of the ledger that is reported")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=int, default=3, help="length of each part of a round")
    parser.add_argument("--records", type=int, default=2_000, help="records per second")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="taximeter-bench-") as name:
        folder = Path(name)
        write_ledger(
            folder, event_count=arguments.events, day_count=DAY_COUNT, tenant_count=1_000, model_count=50
        )
        with taximeter(folder / "data", "--ledger", str(folder / "ledger")) as contestant:
            found, report_count = measure(contestant, arguments.rounds, arguments.seconds, arguments.records)
    print(
        f"CheckQuota, {CHECKS_PER_SECOND}/s with one in flight, {arguments.rounds} interleaved rounds of"
        f" {arguments.seconds} s; {arguments.records:,} records/s; {report_count} reports, one after the other, over"
        f" {arguments.events:,} events (load average {os.getloadavg()[0]:.1f})"
    )
    print(f"{'':34} {'p50':>9} {'p99, min':>10} {'median':>10}")
    alone_us = statistics.median(run.p99_us for run in found[ALONE])
    for name, runs in found.items():
        p99s_us = [run.p99_us for run in runs]
        p50_us, p99_us = statistics.median(run.p50_us for run in runs), statistics.median(p99s_us)
        print(
            f"{name:34} {p50_us:>6.0f} us {min(p99s_us):>7} us {p99_us:>7.0f} us  {p99_us / alone_us:.2f} x"
        )


def measure(
    contestant: Contestant, rounds: int, seconds: int, record_rate: int
) -> tuple[dict[str, list[Run]], int]:
    """Return the runs of each part, and the number of reports beside them."""
    check = (
        "check",
        "--connections",
        "1",
        "--streams",
        "1",
        "--rate",
        str(CHECKS_PER_SECOND),
        "--seconds",
        str(seconds),
    )
    found: dict[str, list[Run]] = {ALONE: [], BESIDE_RECORDS: [], BESIDE_REPORTS: []}
    report_count = 0
    for _ in range(rounds):
        found[ALONE].append(measure_checks(contestant, check))
        with records(contestant, seconds, record_rate):
            found[BESIDE_RECORDS].append(measure_checks(contestant, check))
        with records(contestant, seconds, record_rate), reports(contestant) as asked:
            found[BESIDE_REPORTS].append(measure_checks(contestant, check))
        report_count += len(asked)
    return found, report_count


@contextlib.contextmanager
def records(contestant: Contestant, seconds: int, rate: int) -> Iterator[None]:
    """Record at a steady rate, from before the block to after it."""
    arguments = (
        *("record", "--connections", "2", "--streams", "16", "--tenants", "100"),
        *("--rate", str(rate), "--seconds", str(seconds + 2)),
    )
    with subprocess.Popen(load_command(contestant, arguments), stdout=subprocess.PIPE) as beside:
        yield
        output, _ = beside.communicate(timeout=120)
    if json.loads(output)["failed"]:
        raise RuntimeError("records beside the checks failed")


@contextlib.contextmanager
def reports(contestant: Contestant) -> Iterator[list[None]]:
    """Ask for one report after the other while the block runs; yields a list that grows with each."""
    stop, asked = threading.Event(), list[None]()
    start = datetime.fromtimestamp(FIRST_DAY_MS // 1_000, UTC)

    def ask() -> None:
        with admin(contestant) as meter:
            while not stop.is_set():
                group_by = GROUP_BYS[len(asked) % len(GROUP_BYS)]
                meter.report(start, start + timedelta(days=DAY_COUNT), group_by=group_by)
                asked.append(None)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield asked
    finally:
        stop.set()
        asking.join()


if __name__ == "__main__":
    main()
