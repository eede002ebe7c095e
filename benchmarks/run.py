# SPDX-License-Identifier: Apache-2.0
"""`make bench`: throughput, CPU per call and latency of CheckQuota and Record beside two floors, in one run.

Rounds are interleaved, so that what disturbs the machine disturbs everybody; the table shows medians of rounds. Read
the ratios: the figures themselves are those of one noisy machine that also runs the load generator.
"""

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import contestants  # noqa: E402 (needs the path above)
from contestants import Contestant, Run, measure  # noqa: E402 (likewise)

RECORDS_BESIDE_PER_SECOND = 2000
CHECK_RATE_PER_SECOND = 500
CLOSED = ("--connections", "16", "--streams", "16")
SINGLE = ("--connections", "1", "--streams", "1")


def scenarios(seconds: int) -> list[tuple[str, str, tuple[str, ...]]]:
    """Return (scenario, contestant, arguments of the load generator)."""
    time = ("--seconds", str(seconds))
    return [
        ("throughput: empty front", "empty front", ("check", *CLOSED, *time)),
        ("throughput: empty grpcio", "empty grpcio", ("check", *CLOSED, *time)),
        ("throughput: CheckQuota", "taximeter", ("check", *CLOSED, *time)),
        ("throughput: CheckQuota, 10,000 tenants", "taximeter", ("check", *CLOSED, *time, "--tenants", "10000")),
        ("throughput: Record", "taximeter", ("record", *CLOSED, *time)),
        ("throughput: Record, 1,000 tenants", "taximeter", ("record", *CLOSED, *time, "--tenants", "1000")),
        ("throughput: RecordBatch of 100", "taximeter",
         ("record", "--connections", "4", "--streams", "4", *time, "--batch", "100", "--tenants", "64")),
        ("one in flight: empty front", "empty front", ("check", *SINGLE, *time)),
        ("one in flight: empty grpcio", "empty grpcio", ("check", *SINGLE, *time)),
        ("one in flight: CheckQuota", "taximeter", ("check", *SINGLE, *time)),
        ("one in flight: Record", "taximeter", ("record", *SINGLE, *time)),
    ]  # fmt: skip


def run(rounds: int, seconds: int, directory: Path) -> dict[str, list[Run]]:
    """Run all scenarios, interleaved."""
    results: dict[str, list[Run]] = {}
    with contextlib.ExitStack() as stack:
        running = [
            stack.enter_context(contestants.floor()),
            stack.enter_context(contestants.grpcio()),
            stack.enter_context(contestants.taximeter(directory / "throughput")),
        ]
        by_name = {contestant.name: contestant for contestant in running}
        for number in range(rounds):
            for scenario, name, arguments in scenarios(seconds):
                say(f"round {number + 1} of {rounds}: {scenario}")
                results.setdefault(scenario, []).append(measure(by_name[name], arguments))
    # On servers of their own: the one above is still archiving what the throughput runs left behind.
    for number in range(rounds):
        with contestants.taximeter(directory / f"beside-{number}") as contestant:
            for scenario, one in check_beside_records(contestant, seconds):
                results.setdefault(scenario, []).append(one)
    return results


def check_beside_records(contestant: Contestant, seconds: int) -> Iterable[tuple[str, Run]]:
    """CheckQuota in an open loop, alone and with a steady stream of records beside it."""
    check = ("check", *SINGLE, "--rate", str(CHECK_RATE_PER_SECOND), "--seconds", str(seconds))
    say("open loop: CheckQuota alone and beside records")
    yield "open loop: CheckQuota alone", measure(contestant, check)
    records = ("record", "--connections", "2", "--streams", "16", "--tenants", "100",
               "--rate", str(RECORDS_BESIDE_PER_SECOND), "--seconds", str(seconds + 1))  # fmt: skip
    command = contestants.load_command(contestant, records)
    with subprocess.Popen(command, stdout=subprocess.PIPE) as beside:
        one = measure(contestant, check)
        output, _ = beside.communicate(timeout=120)
    if json.loads(output)["failed"]:
        raise RuntimeError("records beside the checks failed")
    yield f"open loop: CheckQuota beside {RECORDS_BESIDE_PER_SECOND:,} records/s", one


def table(results: dict[str, list[Run]]) -> list[str]:
    """Lines of the result: medians over rounds, and ratios to the empty front of the same kind."""
    lines = [
        f"{'':44}{'calls/s':>9}{'x floor':>9}{'CPU us':>8}{'x floor':>9}{'p50 us':>8}{'x floor':>9}{'p99 us':>8}"
    ]
    for scenario, runs in results.items():
        floor = results.get(scenario.partition(":")[0] + ": empty front")
        rate, cpu_ns, p50, p99 = (_median(runs, name) for name in _SHOWN)
        cells = [f"{rate:>9,}", f"{cpu_ns / 1000:>8.1f}", f"{p50:>8,}"]
        ratios = ["", "", ""]
        if floor is not None:
            shown = zip((rate, cpu_ns, p50), _SHOWN, strict=False)
            ratios = [f"{value / max(_median(floor, name), 1):.2f}" for value, name in shown]
        pairs = "".join(f"{cell}{ratio:>9}" for cell, ratio in zip(cells, ratios, strict=True))
        lines.append(f"{scenario:<44}{pairs}{p99:>8,}")
    alone, beside = (runs for name, runs in results.items() if name.startswith("open loop"))
    ratio = _median(beside, "p50_us") / max(_median(alone, "p50_us"), 1)
    lines.append(
        f"CheckQuota p50 beside {RECORDS_BESIDE_PER_SECOND:,} records/s: {ratio:.2f} x its p50 alone"
    )
    return lines


_SHOWN = ("calls_per_second", "cpu_per_call_ns", "p50_us", "p99_us")


def _median(runs: Sequence[Run], name: str) -> int:
    return int(statistics.median(getattr(run, name) for run in runs))


def say(text: str) -> None:
    """Print progress where it does not mix with the result."""
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds (default 3)")
    parser.add_argument("--seconds", type=int, default=4, help="length of each load (default 4)")
    parser.add_argument("--json", type=Path, help="also write every run to this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="taximeter-bench-") as directory:
        results = run(options.rounds, options.seconds, Path(directory))
    failures = sum(run.failed for runs in results.values() for run in runs)
    print(f"{platform.platform()}, {os.cpu_count()} cores, {options.rounds} rounds of {options.seconds} s")
    print("\n".join(table(results)))
    if options.json:
        document = {scenario: [asdict(run) for run in runs] for scenario, runs in results.items()}
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    if failures:
        raise SystemExit(f"{failures} calls failed")


if __name__ == "__main__":
    main()
