# SPDX-License-Identifier: Apache-2.0
"""`make bench`: throughput, CPU per call and latency beside two floors and the other limiters on the PATH, in one run.

Rounds are interleaved, so that what disturbs the machine disturbs everybody; the table shows medians of rounds. Read
the ratios: the figures themselves are those of one noisy machine that also runs the load generator.
"""

import argparse
import contextlib
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import bare_script  # noqa: E402 (needs the path above)
import contestants  # noqa: E402 (likewise)
import cores  # noqa: E402 (likewise)
import h2load  # noqa: E402 (likewise)
import history  # noqa: E402 (likewise)
import peers  # noqa: E402 (likewise)
import plots  # noqa: E402 (likewise)
from contestants import Contestant, Run, measure  # noqa: E402 (likewise)
from mixed_load import measure_mixed  # noqa: E402 (likewise)
from reconciliation import measure_checks, measure_throughput  # noqa: E402 (likewise)
from results import AWAKE, BARE_SCRIPT, BESIDE, ONE, OPEN_LOOP, TAXIMETER, THROUGHPUT, Results, median, table  # noqa: E402 (likewise)

from harness.server_process import ServerProcess  # noqa: E402 (likewise)

RECORDS_BESIDE_PER_SECOND = 2000
CHECK_RATE_PER_SECOND = 500
CAPACITY_PERCENT = 70
HISTORY = ROOT / "benchmarks" / "history.jsonl"
MIXED = "check with hold, then record"
SECONDS_MAX = 50
"""A run must end within the minute that its requests are counted in, see `reconciliation`."""
CLOSED = ("--connections", "16", "--streams", "16")
SINGLE = ("--connections", "1", "--streams", "1")


def scenarios(limiters: Sequence[str], seconds: int) -> list[tuple[str, str, tuple[str, ...]]]:
    """Return (scenario, contestant, arguments of the load generator). A limiter counts one call per question."""
    time = ("--seconds", str(seconds))
    asked = ["empty front", "empty grpcio", *limiters]
    return [
        *((f"{THROUGHPUT}: {name}", name, ()) for name in asked),
        *((f"closed loop: {name}", name, ("check", *CLOSED, *time)) for name in asked),
        ("closed loop: taximeter, 10,000 tenants", TAXIMETER, ("check", *CLOSED, *time, "--tenants", "10000")),
        ("closed loop: taximeter Record", TAXIMETER, ("record", *CLOSED, *time)),
        ("closed loop: taximeter Record, 1,000 tenants", TAXIMETER,
         ("record", *CLOSED, *time, "--tenants", "1000")),
        ("closed loop: taximeter RecordBatch of 100", TAXIMETER,
         ("record", "--connections", "4", "--streams", "4", *time, "--batch", "100", "--tenants", "64")),
        *((f"{ONE}: {name}", name, ("check", *SINGLE, *time)) for name in asked),
        (f"{ONE}: taximeter Record", TAXIMETER, ("record", *SINGLE, *time)),
        *((f"{AWAKE}: {name}", name, ("check", *SINGLE, *time)) for name in asked if cores.can_stay_awake()),
    ]  # fmt: skip


def run(rounds: int, seconds: int, directory: Path) -> Results:
    """Run all scenarios, interleaved."""
    results: Results = {}
    with contextlib.ExitStack() as stack:
        running = [
            stack.enter_context(contestants.floor()),
            stack.enter_context(contestants.grpcio()),
            stack.enter_context(contestants.taximeter(directory / "throughput")),
            *(
                stack.enter_context(peer.start(directory / f"peer-{number}"))
                for number, peer in enumerate(peers.PEERS)
                if peer.is_present()
            ),
        ]
        by_name = {contestant.name: contestant for contestant in running}
        limiters = [name for name in by_name if not name.startswith("empty")]
        for number in range(rounds):
            for scenario, name, arguments in scenarios(limiters, seconds):
                say(f"round {number + 1} of {rounds}: {scenario}")
                with cores.awake() if scenario.startswith(AWAKE) else contextlib.nullcontext():
                    one = (
                        measure_one(by_name[name], arguments)
                        if arguments
                        else ask_all(by_name[name], seconds)
                    )
                results.setdefault(scenario, []).append(one)
        for number in range(rounds):
            for name in limiters:
                scenario = f"{OPEN_LOOP} at {CAPACITY_PERCENT} % of its capacity: {name}"
                say(f"round {number + 1} of {rounds}: {scenario}")
                capacity = median(results[f"closed loop: {name}"], "calls_per_second")
                rate = str(capacity * CAPACITY_PERCENT // 100)
                arguments = ("check", *CLOSED, "--rate", rate, "--seconds", str(seconds))
                results.setdefault(scenario, []).append(measure_one(by_name[name], arguments))
    # On servers of their own: the one above is still archiving what the throughput runs left behind.
    for number in range(rounds):
        with contestants.taximeter(directory / f"beside-{number}") as contestant:
            for scenario, one in check_beside_records(contestant, seconds):
                results.setdefault(scenario, []).append(one)
        if bare_script.is_present():
            say(f"round {number + 1} of {rounds}: {THROUGHPUT}: {BARE_SCRIPT}")
            with ServerProcess(directory / f"bare-{number}") as server:
                one = bare_script.measure_bare_script(server, seconds)
            results.setdefault(f"{THROUGHPUT}: {BARE_SCRIPT}", []).append(one)
        with contestants.taximeter(directory / f"mixed-{number}") as contestant:
            say(f"round {number + 1} of {rounds}: {MIXED}")
            for asked, one in measure_mixed(contestant, seconds):
                results.setdefault(f"{MIXED}: taximeter, {asked}", []).append(one)
    return results


def ask_all(contestant: Contestant, seconds: int) -> Run:
    """Measure throughput with h2load; the product's is counted against its own counters."""
    if contestant.name == TAXIMETER:
        return measure_throughput(contestant, seconds)
    return h2load.measure_throughput(contestant, "bench", seconds)


def measure_one(contestant: Contestant, arguments: Sequence[str]) -> Run:
    """Measure one load; checks of the product on one tenant are counted against its own counters."""
    if contestant.name == TAXIMETER and arguments[0] == "check" and "--tenants" not in arguments:
        return measure_checks(contestant, arguments)
    return measure(contestant, arguments)


def check_beside_records(contestant: Contestant, seconds: int) -> Iterable[tuple[str, Run]]:
    """CheckQuota in an open loop, alone and with a steady stream of records beside it."""
    check = ("check", *SINGLE, "--rate", str(CHECK_RATE_PER_SECOND), "--seconds", str(seconds))
    say(f"{OPEN_LOOP}: taximeter alone and beside records")
    yield f"{OPEN_LOOP}: taximeter alone", measure_checks(contestant, check)
    records = ("record", "--connections", "2", "--streams", "16", "--tenants", "100",
               "--rate", str(RECORDS_BESIDE_PER_SECOND), "--seconds", str(seconds + 1))  # fmt: skip
    command = contestants.load_command(contestant, records)
    with subprocess.Popen(command, stdout=subprocess.PIPE) as beside:
        one = measure_checks(contestant, check)
        output, _ = beside.communicate(timeout=120)
    if json.loads(output)["failed"]:
        raise RuntimeError("records beside the checks failed")
    yield f"{OPEN_LOOP}: taximeter {BESIDE} {RECORDS_BESIDE_PER_SECOND:,} records/s", one


def say(text: str) -> None:
    """Print progress where it does not mix with the result."""
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds (default 3)")
    parser.add_argument(
        "--seconds", type=int, default=4, help=f"length of each load (default 4, at most {SECONDS_MAX})"
    )
    parser.add_argument("--json", type=Path, help="also write every run to this file")
    parser.add_argument("--plots", type=Path, help="also draw SVG pictures into this directory")
    parser.add_argument("--keep", action="store_true", help="add the ratios to benchmarks/history.jsonl")
    options = parser.parse_args()
    if not h2load.is_present():
        raise SystemExit(h2load.NOT_HERE)
    with tempfile.TemporaryDirectory(prefix="taximeter-bench-") as directory:
        results = run(options.rounds, min(options.seconds, SECONDS_MAX), Path(directory))
    failures = sum(run.failed for runs in results.values() for run in runs)
    print(f"{platform.platform()}, {os.cpu_count()} cores, {options.rounds} rounds of {options.seconds} s")
    print(
        "\n".join(
            [
                f"With {h2load.version()}. Beside: {', '.join(peers.versions()) or 'no peers'}",
                *peers.missing(),
                *([] if bare_script.is_present() else [bare_script.NOT_HERE]),
                *([] if cores.can_stay_awake() else [cores.NOT_HERE]),
                *table(results),
            ]
        )
    )
    if options.json:
        document = {scenario: [asdict(run) for run in runs] for scenario, runs in results.items()}
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    if options.plots:
        plots.draw(results, options.plots)
    earlier = history.read(HISTORY)
    print("\n".join(history.compare(earlier, history.entry(results))))
    if options.keep:
        history.append(HISTORY, history.entry(results))
    if failures:
        raise SystemExit(f"{failures} calls failed")


if __name__ == "__main__":
    main()
