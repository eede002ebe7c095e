# SPDX-License-Identifier: Apache-2.0
"""`make bench-reports`: how long a report takes over a generated ledger, with its rollups and without, in one run.

Beside it, the same questions asked of the same lines in SQLite and PostgreSQL, of ledgers up to --beside-events.
"""

import argparse
import resource
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from report_stores import postgres_ms, sqlite_ms, statements
from synthetic_ledger import DAY_MS, FIRST_DAY_MS, write_ledger

from taximeter_server.ledger_directory import LedgerDirectory
from taximeter_server.ledger_manifest import Manifest
from taximeter_server.report import Reporter
from taximeter_server.report_query import ReportQuery

DAY_COUNT = 90
ROUNDS = 5


class WithoutRollups(LedgerDirectory):
    """The same ledger as if it had never been rolled up."""

    def read_manifest(self) -> Manifest:
        """Forget the rollups."""
        manifest = super().read_manifest()
        return manifest.without_rollups({rollup.path for rollup in manifest.rollups})


def questions() -> dict[str, ReportQuery]:
    """Return what is asked, by name."""
    start_us = (FIRST_DAY_MS + 31 * DAY_MS) * 1_000
    month = ReportQuery(start_us, start_us + 31 * DAY_MS * 1_000)
    everything = ReportQuery(FIRST_DAY_MS * 1_000, (FIRST_DAY_MS + DAY_COUNT * DAY_MS) * 1_000)
    return {
        "month, all tenants": replace(month, group_by=("root_tenant",)),
        "month, by model": replace(month, group_by=("model",)),
        "month, by day, Berlin": replace(month, group_by=("day",), time_zone="Europe/Berlin"),
        "month, one tenant by day and model": replace(
            month, tenant="tenant-00007", group_by=("day", "tenant", "model")
        ),
        "everything, by an attribute": replace(everything, group_by=("attributes.workflow_uuid",)),
    }


def main() -> None:
    """Write ledgers of growing size and ask."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--events", type=int, nargs="+", default=[100_000, 1_000_000, 10_000_000], help="sizes of ledgers"
    )
    parser.add_argument(
        "--beside-events",
        type=int,
        default=1_000_000,
        help="largest ledger that SQLite and PostgreSQL get, too",
    )
    parser.add_argument("--tenants", type=int, default=1_000)
    parser.add_argument("--models", type=int, default=50)
    arguments = parser.parse_args()
    print(
        f"{'events':>12} {'question':38} {'with rollups':>14} {'without':>12} {'SQLite':>12} {'PostgreSQL':>12}"
    )
    for event_count in arguments.events:
        with tempfile.TemporaryDirectory() as name:
            measure(Path(name), event_count, arguments)


def measure(folder: Path, event_count: int, arguments: argparse.Namespace) -> None:
    """Print a line for each question."""
    started = time.perf_counter()
    source, directory = write_ledger(
        folder,
        event_count=event_count,
        day_count=DAY_COUNT,
        tenant_count=arguments.tenants,
        model_count=arguments.models,
    )
    written_s = time.perf_counter() - started
    manifest = directory.read_manifest()
    rows = sum(file.row_count for file in manifest.files)
    summed = sum(rollup.row_count for rollup in manifest.rollups)
    sizes_mib = [sum(one.size_bytes for one in some) >> 20 for some in (manifest.files, manifest.rollups)]
    print(
        f"{event_count:>12,} archived in {written_s:.0f} s: {rows:,} rows, {len(manifest.files)} files,"
        f" {sizes_mib[0]} MiB; rollups: {summed:,} rows, {len(manifest.rollups)} files, {sizes_mib[1]} MiB"
    )
    ledgers = (directory, WithoutRollups(directory.path))
    times = {
        question: [median_ms(reporter(source, ledger, folder), query) for ledger in ledgers]
        for question, query in questions().items()
    }
    if event_count <= arguments.beside_events:
        month = questions()["month, all tenants"]
        asked = statements(month.start_time_us, month.end_time_us)
        files = [str(directory.path / file.path) for file in manifest.files]
        for found in (sqlite_ms(files, folder, asked), postgres_ms(files, folder, asked)):
            for question, found_ms in times.items():
                found_ms.append(found.get(question, 0))
    for question, found_ms in times.items():
        shown = "".join(f"{one:>10.1f} ms" if one else f"{'-':>13}" for one in found_ms)
        print(f"{event_count:>12,} {question:38} {shown}")
    print(
        f"{'':12} peak memory of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MiB"
    )


def reporter(source: object, directory: LedgerDirectory, folder: Path) -> Reporter:
    """Return a reporter as the server makes it."""
    return Reporter(source, directory, token_secret=bytes(16), temporary_directory=folder / "overflow")  # type: ignore[arg-type]


def median_ms(one: Reporter, query: ReportQuery) -> float:
    """Return the median duration of a report."""
    one.report(query, page_size=10_000)
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        one.report(query, page_size=10_000)
        times.append((time.perf_counter() - started) * 1_000)
    return statistics.median(times)


if __name__ == "__main__":
    main()
