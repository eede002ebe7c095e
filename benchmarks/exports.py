# SPDX-License-Identifier: Apache-2.0
"""`make bench-exports`: peak memory and time of exports of growing ledgers, each in a process of its own."""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from synthetic_ledger import CLASSES, DAY_MS, FIRST_DAY_MS, SyntheticSource, write_ledger

from taximeter_server.ledger_directory import LedgerDirectory
from taximeter_server.report import Reporter
from taximeter_server.report_csv import csv_chunks
from taximeter_server.report_focus import FocusContext, focus_chunks
from taximeter_server.report_json import json_chunks
from taximeter_server.report_parquet import parquet_chunks
from taximeter_server.report_query import ReportOrder, ReportQuery

DAY_COUNT = 30
GROUP_BY = ("hour", "tenant", "model", "usage_class")
ORDERED = "ordered"
"""JSON lines by cost: what has to be sorted before its first line can be written."""
FORMATS = ("csv", "jsonl", "parquet", "focus", ORDERED)


def main() -> None:
    """Write ledgers and export them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--lines",
        type=int,
        nargs="+",
        default=[1_000_000, 3_000_000, 10_000_000],
        help="lines of the ledgers",
    )
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=FORMATS)
    parser.add_argument("--export", nargs=2, metavar=("FOLDER", "FORMAT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.export:
        export(Path(arguments.export[0]), arguments.export[1])
        return
    print(f"{'lines':>12} {'format':8} {'output':>10} {'time':>8} {'peak memory':>12}")
    for line_count in arguments.lines:
        with tempfile.TemporaryDirectory() as name:
            events = line_count // len(CLASSES)
            write_ledger(
                Path(name), event_count=events, day_count=DAY_COUNT, tenant_count=1_000, model_count=50
            )
            for file_format in arguments.formats:
                command = [sys.executable, __file__, "--export", name, file_format]
                result = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
                print(f"{line_count:>12,} {file_format:8} {result.strip()}", flush=True)


def export(folder: Path, file_format: str) -> None:
    """Export a month and print what it took."""
    source = SyntheticSource(tenant_count=1, model_count=1)
    source.make_day(DAY_COUNT + 1, 0)
    reporter = Reporter(
        source,
        LedgerDirectory(folder / "ledger"),
        token_secret=bytes(16),
        temporary_directory=folder / "overflow",
    )
    query = ReportQuery(
        FIRST_DAY_MS * 1_000,
        (FIRST_DAY_MS + DAY_COUNT * DAY_MS) * 1_000,
        group_by=GROUP_BY,
        order=(ReportOrder("cost", descending=True),) if file_format == ORDERED else (),
    )
    started = time.perf_counter()
    size_bytes = sum(map(len, _chunks(reporter, query, file_format)))
    duration_s = time.perf_counter() - started
    print(f"{size_bytes >> 20:>6} MiB {duration_s:>6.1f} s {_peak_kib() >> 10:>8} MiB")


def _peak_kib() -> int:
    """Return the most memory that this process has held; ru_maxrss is also that of the one that started it."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM:")))


def _chunks(reporter: Reporter, query: ReportQuery, file_format: str) -> Iterator[bytes]:
    if file_format == "csv":
        return csv_chunks(reporter.csv_rows(query))
    if file_format == "focus":
        return focus_chunks(reporter.focus_rows(query), FocusContext("ledger", "USD", "UTC"))
    if file_format in {"jsonl", ORDERED}:
        return json_chunks(reporter.rows(query), group_by=GROUP_BY, currency_code="USD")
    return parquet_chunks(reporter.rows(query), group_by=GROUP_BY, currency_code="USD")


if __name__ == "__main__":
    main()
