# SPDX-License-Identifier: Apache-2.0
"""What archiving costs: entries of the real store's streams to files, merged files and rollups, in CPU per event.

Every run finds what has come within the archiver's interval at a steady rate. CPU is that of this process, which only
archives while it counts, and of the store.
"""

import argparse
import itertools
import os
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from reports.ledger_entries import Entry, Line, make_encoder  # noqa: E402 (needs the path above)
from reports.stream_engine import StreamEngine  # noqa: E402 (likewise)

from taximeter_server.archiver import INTERVAL_MS, Archiver  # noqa: E402 (likewise)
from taximeter_server.embedded_store import EmbeddedStore  # noqa: E402 (likewise)
from taximeter_server.ledger_directory import LedgerDirectory  # noqa: E402 (likewise)
from taximeter_server.ledger_merge import FileMerger  # noqa: E402 (likewise)

TENANTS, MODELS, WORKFLOWS = 1_000, 50, 500
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Archive as many seconds of a rate as asked, and print what each run took."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rate", type=int, default=10_000, help="events per second")
    parser.add_argument("--seconds", type=int, default=60, help="seconds of such traffic")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="taximeter-bench-") as name:
        measure(Path(name), arguments.rate, arguments.seconds)


def measure(folder: Path, rate: int, seconds: int) -> None:
    """Print CPU per event, and which part of one core archiving takes at the rate."""
    (folder / "store").mkdir(mode=0o700)
    (folder / "ledger").mkdir()
    store = EmbeddedStore(directory=folder / "store", socket_path=folder / "store" / "store.sock")
    store.start()
    engine = StreamEngine(store.url, folder / "journal")
    encode = make_encoder(folder)
    archiver = Archiver(
        engine,
        LedgerDirectory(folder / "ledger"),
        merger=FileMerger(temporary_directory=folder / "overflow"),
        clock=engine.store_time_ms,
    )
    try:
        waiting = entries(engine.store_time_ms() * 1_000)
        archived, used_s = 0, 0.0
        started = time.monotonic()
        for _ in range(seconds * 1_000 // INTERVAL_MS):
            some = [
                (one.tenant, encode(one)) for one in itertools.islice(waiting, rate * INTERVAL_MS // 1_000)
            ]
            for first in range(0, len(some), 10_000):
                engine.append_all(some[first : first + 10_000])
            before_s = time.process_time() + cpu_s(store.pid)
            while (result := archiver.run_once()).has_more:
                archived += result.entry_count
            archived += result.entry_count
            used_s += time.process_time() + cpu_s(store.pid) - before_s
    finally:
        engine.close()
        store.stop()
    print(
        f"archiving {archived:,} events as they come at {rate:,}/s: {used_s / archived * 1e6:.1f} us of CPU per event,"
        f" the store's included: {used_s / archived * rate:.0%} of one core at that rate"
        f" (load average {os.getloadavg()[0]:.1f}, {time.monotonic() - started:.0f} s)"
    )


def entries(start_us: int) -> Iterator[Entry]:
    """Yield events of three lines from start_us on: tenants, models and workflows in steps that share no divisor."""
    for number in itertools.count():
        amount = number * 7_919 % 20_000 + 1
        yield Entry(
            tenant=f"tenant-{number * 389 % TENANTS:05}",
            model=f"model-{number * 17 % MODELS}",
            provider=f"provider-{number % 3}",
            occur_time_us=start_us + number * 100,
            attributes={"workflow_uuid": f"workflow-{number * 211 % WORKFLOWS}"},
            lines=tuple(Line(name, amount, amount * 3_000_000) for name in ("input", "cache_read", "output")),
            record_id=str(uuid.uuid4()),
        )


def cpu_s(pid: int) -> float:
    """Return what a process has used, to the kernel's tick."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND


if __name__ == "__main__":
    main()
