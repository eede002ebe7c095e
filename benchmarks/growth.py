# SPDX-License-Identifier: Apache-2.0
"""`make bench-growth`, second part: what a call costs as tenants, limits, cards, history and cores grow.

CPU of server and store per call, as a multiple of the empty front's, or of the first line of its kind. Rounds go
through all lines in turn, so that what disturbs the machine disturbs everybody.
"""

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from contestants import Contestant, Run, floor, load, measure, product  # noqa: E402 (needs the path above)
from reconciliation import LIMITS  # noqa: E402 (likewise)

from harness.server_process import ServerProcess  # noqa: E402 (likewise)
from taximeter import Limits, Meter  # noqa: E402 (likewise)

MODEL_ROW = '    "claude-sonnet-4-6": {input: 3, output: 15, cache_read: 0.30}\n'
LEVELS: Sequence[tuple[str, int, Limits, Sequence[str]]] = (
    ("1 limit, 1 level", 1, Limits(requests_per_minute=LIMITS.requests_per_minute), ()),
    ("3 limits, 1 level", 1, LIMITS, ()),
    ("6 limits, 2 levels", 2, LIMITS, ()),
    ("6 limits, 2 levels, with a hold", 2, LIMITS, ("--holds", "yes")),
    ("12 limits, 4 levels", 4, LIMITS, ()),
)
"""Name, levels, limits of each, and what else the generator is told."""
HISTORY_BATCH = 100
Line = tuple[str, Callable[[], Run]]


@dataclass(frozen=True, slots=True)
class Measured:
    """A server, an admin's client of it, the empty front, and the time that each load takes."""

    contestant: Contestant
    admin: Meter
    empty: Contestant
    seconds: int

    def ask(self, *arguments: str) -> Run:
        """Make one load on the server."""
        return measure(self.contestant, (*arguments, "--seconds", str(self.seconds)))

    def ask_empty(self) -> Run:
        """Make the same load of checks on the empty front."""
        return measure(self.empty, ("check", "--seconds", str(self.seconds)))


def main() -> None:
    """Measure everything that was asked for, and print a line for each."""
    parser = argparse.ArgumentParser(description="what a call costs as things grow")
    parser.add_argument(
        "--tenants", type=int, nargs="*", default=[1, 1_000, 100_000, 1_000_000], help="numbers of tenants"
    )
    parser.add_argument("--rows", type=int, nargs="*", default=[10, 300, 3_000], help="rows of the rate card")
    parser.add_argument(
        "--history", type=int, nargs="*", default=[0, 1_000_000], help="events recorded before"
    )
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds (default 3)")
    parser.add_argument("--seconds", type=int, default=3, help="length of each load (default 3)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tx") as directory:
        data_dir = Path(directory) / "data"
        with ServerProcess(data_dir) as server, floor() as empty:
            contestant = product(server)
            with Meter(f"http://{server.address}", key=server.admin_key) as admin:
                measured = Measured(contestant, admin, empty, options.seconds)
                show("check, limits", by_limits(measured), options.rounds, measured)
                show("check, tenants", by_tenants(measured, options.tenants), options.rounds, measured)
                show_once("record, card of", by_rows(measured, options.rows), options.rounds)
                show_once("check and record, events before", by_history(measured, options.history), 1)
                show_cores(measured, options.rounds)


def show(kind: str, lines: Sequence[Line], rounds: int, measured: Measured) -> None:
    """Print medians of each line's CPU as a multiple of the empty front's in the same round."""
    ratios: dict[str, list[float]] = {name: [] for name, _ in lines}
    for _ in range(rounds):
        floor_ns = max(measured.ask_empty().cpu_per_call_ns, 1)
        for name, ask in lines:
            ratios[name].append(ask().cpu_per_call_ns / floor_ns)
    for name, found in ratios.items():
        print(f"{kind}: {name}: CPU {statistics.median(found):.2f} x the empty front's", flush=True)


def show_once(kind: str, lines: Iterator[Line], rounds: int) -> None:
    """Print the median of each line's CPU as a multiple of the first line's; lines that cannot take turns."""
    first_ns = 0
    for name, ask in lines:
        median_ns = statistics.median(ask().cpu_per_call_ns for _ in range(rounds))
        first_ns = first_ns or max(int(median_ns), 1)
        print(f"{kind}: {name}: CPU {median_ns / first_ns:.2f} x the first", flush=True)


def by_limits(measured: Measured) -> Sequence[Line]:
    """Tenants with ever more levels and limits, none of which denies."""
    lines = []
    for number, (name, depth, limits, more) in enumerate(LEVELS):
        prefix = "/".join([f"growth{number}", "a", "b", "c"][:depth])
        path = f"{prefix}-0".split("/")
        for level in range(len(path)):
            measured.admin.put_tenant("/".join(path[: level + 1]), limits)
        load_of = ("check", "--tenant-prefix", prefix, *more)
        lines.append((name, lambda load_of=load_of: measured.ask(*load_of)))
    return lines


def by_tenants(measured: Measured, counts: Sequence[int]) -> Sequence[Line]:
    """Ever more tenants, in turn; each has been asked about before, so none is made while the time is taken."""
    load(measured.contestant, ("check", "--tenants", str(max(counts)), "--count", str(max(counts))))
    return [
        (f"{count:,}", lambda count=count: measured.ask("check", "--tenants", str(count))) for count in counts
    ]


def by_rows(measured: Measured, counts: Sequence[int]) -> Iterator[Line]:
    """Ever longer rate cards, each in force while it is asked."""
    for count in counts:
        rows = "".join(f'    "model-{number}": {{input: 1, output: 2}}\n' for number in range(count - 1))
        measured.admin.publish_rate_card(f"billing:\n  rate_card:\n{MODEL_ROW}{rows}")
        yield f"{count:,} rows", lambda: measured.ask("record")


def by_history(measured: Measured, counts: Sequence[int]) -> Iterator[Line]:
    """Ever more events recorded before, which are remembered, and archived meanwhile."""
    before = 0
    for count in counts:
        batches = (count - before) // HISTORY_BATCH
        if batches > 0:
            load(
                measured.contestant,
                ("record", "--batch", str(HISTORY_BATCH), "--count", str(batches), "--tenants", "1000"),
            )
        before = max(count, before)
        yield f"{count:,}", lambda: measured.ask("meter")


def show_cores(measured: Measured, rounds: int) -> None:
    """Print throughput and CPU with the server and its store on one core and on all of them."""
    every = os.sched_getaffinity(0)
    found: dict[int, list[Run]] = {1: [], len(every): []}
    for _ in range(rounds):
        for count, runs in found.items():
            pin(measured.contestant.pids, set(sorted(every)[:count]))
            runs.append(measured.ask("check", "--tenant-prefix", "growth1"))
    for count, runs in found.items():
        rate = statistics.median(run.calls_per_second for run in runs)
        cpu_us = statistics.median(run.cpu_per_call_ns for run in runs) / 1000
        print(
            f"check, cores: {count}: {rate:,.0f} calls/s beside the generator, CPU {cpu_us:.1f} us per call"
        )


def pin(pids: Sequence[int], cores: set[int]) -> None:
    """Let the processes run on these cores only, all their threads."""
    for pid in pids:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(thread.name), cores)


if __name__ == "__main__":
    main()
