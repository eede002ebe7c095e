# SPDX-License-Identifier: Apache-2.0
"""`make bench-reports`: how long a report takes over a generated ledger, with its rollups and without, in one run.

Rounds are interleaved; wall time is the median and the least of them, CPU the median of all threads together. The whole
call is that of a client of a server on the ledger, until it has the message. Beside it, the same questions asked of the
same lines in SQLite and PostgreSQL, of ledgers up to --beside-events.
"""

import argparse
import os
import resource
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import grpc

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from contestants import taximeter  # noqa: E402 (needs the path above)
from report_stores import postgres_ms, sqlite_ms, statements  # noqa: E402 (likewise)
from synthetic_ledger import DAY_MS, FIRST_DAY_MS, SyntheticSource, write_ledger  # noqa: E402 (likewise)

from taximeter.v1 import metering_service_pb2 as pb  # noqa: E402 (likewise)
from taximeter.v1 import metering_service_pb2_grpc  # noqa: E402 (likewise)
from taximeter_server.ledger_directory import LedgerDirectory  # noqa: E402 (likewise)
from taximeter_server.ledger_manifest import Manifest  # noqa: E402 (likewise)
from taximeter_server.report import Reporter  # noqa: E402 (likewise)
from taximeter_server.report_query import ReportQuery  # noqa: E402 (likewise)
from taximeter_server.rpc.convert import to_timestamp_us  # noqa: E402 (likewise)

DAY_COUNT = 90
ROUNDS = 9


class WithoutRollups(LedgerDirectory):
    """The same ledger as if it had never been rolled up."""

    def read_manifest(self) -> Manifest:
        """Forget the rollups."""
        manifest = super().read_manifest()
        return manifest.without_sums({rollup.path for rollup in manifest.rollups}, time_ms=0)


@dataclass(slots=True)
class Times:
    """Of one question. The first round, which finds nothing opened yet, is apart."""

    first_ms: float = 0
    wall_ms: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)

    def measure(self, reporter: Reporter, query: ReportQuery) -> None:
        """Ask once more."""
        started, before = time.perf_counter(), time.process_time()
        reporter.report(query, page_size=10_000)
        wall_ms = (time.perf_counter() - started) * 1_000
        if not self.first_ms:
            self.first_ms = wall_ms
            return
        self.wall_ms.append(wall_ms)
        self.cpu_ms.append((time.process_time() - before) * 1_000)


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
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument(
        "--keep", type=Path, help="folder in which ledgers stay, and are found again by their size"
    )
    arguments = parser.parse_args()
    for event_count in arguments.events:
        if arguments.keep:
            measure(arguments.keep / str(event_count), event_count, arguments)
            continue
        with tempfile.TemporaryDirectory(prefix="taximeter-bench-") as name:
            measure(Path(name), event_count, arguments)


def measure(folder: Path, event_count: int, arguments: argparse.Namespace) -> None:
    """Print a line for each question."""
    source, directory = the_ledger(folder, event_count, arguments)
    manifest = directory.read_manifest()
    rows = sum(file.row_count for file in manifest.files)
    summed = sum(rollup.row_count for rollup in manifest.rollups)
    sizes_mib = [sum(one.size_bytes for one in some) >> 20 for some in (manifest.files, manifest.rollups)]
    print(
        f"{event_count:,} events: {rows:,} rows, {len(manifest.files)} files, {sizes_mib[0]} MiB;"
        f" rollups: {summed:,} rows of {len(manifest.rollups)}, {sizes_mib[1]} MiB"
    )
    reporters = [reporter(source, one, folder) for one in (directory, WithoutRollups(directory.path))]
    asked = questions()
    times = {question: [Times() for _ in reporters] for question in asked}
    for _ in range(1 + arguments.rounds):
        for question, query in asked.items():
            for one, found in zip(reporters, times[question], strict=True):
                found.measure(one, query)
    calls = call_ms(directory, asked, arguments.rounds)
    others = beside(folder, directory, manifest) if event_count <= arguments.beside_events else []
    print(
        f"{'question':38} {'median':>11} {'least':>11} {'CPU':>11} {'first':>11} {'no rollups':>11}"
        f" {'whole call':>11} {'least':>11}" + "".join(f"{name:>13}" for name, _ in others)
    )
    for question, (with_rollups, without) in times.items():
        shown = [
            *(statistics.median(with_rollups.wall_ms), min(with_rollups.wall_ms)),
            *(
                statistics.median(with_rollups.cpu_ms),
                with_rollups.first_ms,
                statistics.median(without.wall_ms),
            ),
            *(statistics.median(calls[question]), min(calls[question])),
            *(found.get(question) for _, found in others),
        ]
        print(f"{question:38}" + "".join(f"{'-':>12}" if one is None else f"{one:>9.1f} ms" for one in shown))
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(f"peak memory of this process {peak_mib} MiB, load average {os.getloadavg()[0]:.1f}", flush=True)


def call_ms(directory: LedgerDirectory, asked: dict[str, ReportQuery], rounds: int) -> dict[str, list[float]]:
    """Return how long each question took as a whole call, in interleaved rounds."""
    requests = {
        question: pb.ReportRequest(
            query=pb.ReportQuery(
                tenant=query.tenant,
                start_time=to_timestamp_us(query.start_time_us),
                end_time=to_timestamp_us(query.end_time_us),
                group_by=query.group_by,
                time_zone=query.time_zone,
            ),
            page_size=10_000,
        )
        for question, query in asked.items()
    }
    found: dict[str, list[float]] = {question: [] for question in asked}
    with (
        tempfile.TemporaryDirectory(prefix="taximeter-bench-") as name,
        taximeter(Path(name) / "data", "--ledger", str(directory.path)) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        assert server.key_file  # noqa: S101 (the product has one)
        metadata = (("authorization", f"Bearer {server.key_file.read_text().strip()}"),)
        stub = metering_service_pb2_grpc.MeteringServiceStub(channel)
        for number in range(1 + rounds):
            for question, request in requests.items():
                started = time.perf_counter()
                stub.Report(request, metadata=metadata)
                if number:
                    found[question].append((time.perf_counter() - started) * 1_000)
    return found


def the_ledger(
    folder: Path, event_count: int, arguments: argparse.Namespace
) -> tuple[SyntheticSource, LedgerDirectory]:
    """Return the ledger in folder, written unless it is there."""
    if (folder / "written").exists():
        source = SyntheticSource(tenant_count=1, model_count=1)
        source.make_day(DAY_COUNT + 1, 0)
        return source, LedgerDirectory(folder / "ledger")
    started = time.process_time()
    source, directory = write_ledger(
        folder,
        event_count=event_count,
        day_count=DAY_COUNT,
        tenant_count=arguments.tenants,
        model_count=arguments.models,
    )
    print(f"generated and archived in {time.process_time() - started:.0f} s of CPU", flush=True)
    (folder / "written").touch()
    return source, directory


def beside(
    folder: Path, directory: LedgerDirectory, manifest: Manifest
) -> list[tuple[str, dict[str, float]]]:
    """Return what the questions take elsewhere, by name of the store."""
    month = questions()["month, all tenants"]
    asked = statements(month.start_time_us, month.end_time_us)
    files = [str(directory.path / file.path) for file in manifest.files]
    return [("SQLite", sqlite_ms(files, folder, asked)), ("PostgreSQL", postgres_ms(files, folder, asked))]


def reporter(source: object, directory: LedgerDirectory, folder: Path) -> Reporter:
    """Return a reporter as the server makes it."""
    return Reporter(source, directory, token_secret=bytes(16), temporary_directory=folder / "overflow")  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
