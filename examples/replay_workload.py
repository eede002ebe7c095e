#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Replays a workload with the shape of a public trace: check_quota, then record, for each call.

At the end the answers to Record and the server's Report are compared; they must agree to the last pico-unit, and
the exit code says whether they do.

    python examples/replay_workload.py --profile conversation --calls 2000 --rate 200 --tenants 5
    python examples/replay_workload.py --profile code --calls 500 --tokens-per-day 100000   # some calls are denied
"""

import argparse
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Column, Table
from workload import PlannedCall, load_profiles, plan_calls, zipf_weights

from taximeter import (
    Durability,
    Limits,
    Measures,
    Meter,
    Money,
    Recorded,
    ServerError,
    TaximeterError,
    Usage,
    new_record_id,
)
from taximeter.clock import system_clock_ms

RUN_ATTRIBUTE = "replay_run"


@dataclass
class Tally:
    """What the answers add up to; guarded by `lock`."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    recorded: int = 0
    denied: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    not_committed: int = 0
    unpriced_lines: int = 0
    quantities: Counter[str] = field(default_factory=Counter)
    cost: Money = Money("", 0)  # noqa: RUF009 - immutable

    def add(self, answer: Recorded) -> None:
        """Adds one answer."""
        with self.lock:
            self.recorded += 1
            self.not_committed += answer.durability is not Durability.COMMITTED
            self.cost += answer.cost
            for line in answer.lines:
                self.quantities[line.usage_class] += line.quantity
                self.unpriced_lines += line.unpriced


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", help="address of the server; default: as the command line finds it")
    parser.add_argument("--profile", choices=sorted(load_profiles()), default="conversation")
    parser.add_argument("--calls", type=int, default=1_000, help="number of calls (default: 1000)")
    parser.add_argument(
        "--rate", type=float, default=100, help="calls per second, 0 for no limit (default: 100)"
    )
    parser.add_argument("--threads", type=int, default=8, help="calls in flight at once (default: 8)")
    parser.add_argument("--tenants", type=int, default=4, help="number of tenants (default: 4)")
    parser.add_argument(
        "--zipf", type=float, default=1.0, help="Zipf exponent of the tenants; 0: equal (default: 1)"
    )
    parser.add_argument(
        "--model", action="append", help="model, repeatable (default: claude-sonnet-4-6 and gpt-5)"
    )
    parser.add_argument("--bursty", action="store_true", help="space calls as unevenly as the trace")
    parser.add_argument(
        "--seed", type=int, default=1, help="the same seed replays the same calls (default: 1)"
    )
    parser.add_argument(
        "--tokens-per-day", type=int, help="limit to set for each tenant first; needs an admin key"
    )
    parser.add_argument("--requests-per-minute", type=int, help="limit to set for each tenant first")
    arguments = parser.parse_args()
    if arguments.calls < 1 or arguments.threads < 1 or arguments.tenants < 1 or arguments.rate < 0:
        parser.error("--calls, --threads and --tenants are at least 1, --rate is not negative")
    return arguments


def make_call(meter: Meter, call: PlannedCall, run: str, tally: Tally) -> None:
    """Does what a gateway does around one call to a model."""
    usage = Usage(
        uncached_input_tokens=call.prompt_tokens - call.cached_tokens,
        cache_read_tokens=call.cached_tokens,
        visible_output_tokens=call.output_tokens,
    )
    decision = meter.check_quota(call.tenant, model=call.model, estimate=usage)
    if not decision.allowed:
        exceeded = [limit.kind.value.lower() for limit in decision.limits if limit.exceeded]
        with tally.lock:
            tally.denied[" and ".join(sorted(set(exceeded)))] += 1
        return
    tally.add(meter.record(call.tenant, usage, model=call.model, attributes={RUN_ATTRIBUTE: run}))


def work(meter: Meter, calls: Iterator[PlannedCall], run: str, tally: Tally, advance: "Advance") -> None:
    """Makes planned calls at their times until none are left."""
    while True:
        with advance.lock:
            call = next(calls, None)
        if call is None:
            return
        time.sleep(max(0.0, advance.began_s + call.start_s - time.monotonic()))
        try:
            make_call(meter, call, run, tally)
        except ServerError as error:
            with tally.lock:
                tally.failed[error.reason or error.code.name] += 1
        advance.progress.update(advance.task, advance=1)


@dataclass
class Advance:
    """What the threads share besides the tally: the plan's lock, the beginning, the progress bar."""

    progress: Progress
    task: TaskID
    lock: threading.Lock = field(default_factory=threading.Lock)
    began_s: float = field(default_factory=time.monotonic)


def replay(meter: Meter, arguments: argparse.Namespace, run: str) -> tuple[Tally, float]:
    """Makes all calls; returns what they add up to and the seconds they took."""
    tenants = [f"replay-{number:02}" for number in range(1, arguments.tenants + 1)]
    if arguments.tokens_per_day is not None or arguments.requests_per_minute is not None:
        limits = Limits(
            tokens_per_day=arguments.tokens_per_day, requests_per_minute=arguments.requests_per_minute
        )
        for tenant in tenants:
            meter.put_tenant(tenant, limits)
    calls = plan_calls(
        load_profiles()[arguments.profile],
        rng=random.Random(arguments.seed),  # noqa: S311 - a workload, no secret
        call_count=arguments.calls,
        calls_per_s=arguments.rate,
        tenants=tenants,
        tenant_weights=zipf_weights(arguments.tenants, arguments.zipf),
        models=arguments.model or ["claude-sonnet-4-6", "gpt-5"],
        bursty=arguments.bursty,
    )
    tally = Tally()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        advance = Advance(progress, progress.add_task("Replaying", total=arguments.calls))
        threads = [
            threading.Thread(target=work, args=(meter, calls, run, tally, advance), daemon=True)
            for _ in range(arguments.threads)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return tally, time.monotonic() - advance.began_s


def show(tally: Tally, total: Measures, elapsed_s: float) -> bool:
    """Prints the answers beside the report; returns whether they agree."""
    rows: list[tuple[str, int, int]] = [("records", tally.recorded, total.calls)]
    for usage_class in sorted(tally.quantities.keys() | total.quantities.keys()):
        quantities = tally.quantities[usage_class], total.quantities.get(usage_class, 0)
        rows.append((f"{usage_class} tokens", *quantities))
    rows.append(("unpriced lines", tally.unpriced_lines, total.unpriced_lines))
    rows.append(("cost in pico-units", tally.cost.picos, total.cost.picos))
    table = Table("", Column("answers to Record", justify="right"), Column("Report", justify="right"), "")
    for name, answered, reported in rows:
        table.add_row(
            name, f"{answered:,}", f"{reported:,}", "equal" if answered == reported else "DIFFERENT"
        )
    console = Console()
    console.print(table)
    attempted = tally.recorded + tally.denied.total() + tally.failed.total()
    console.print(
        f"{attempted:,} calls in {elapsed_s:.1f} s, {tally.denied.total():,} denied, {total.cost} charged"
    )
    for name, count in (*tally.denied.items(), *tally.failed.items()):
        console.print(f"  {name}: {count:,}")
    if tally.not_committed:
        console.print(
            f"{tally.not_committed:,} records were accepted while the store was away and follow later."
        )
    return all(answered == reported for _, answered, reported in rows)


def main() -> int:
    """Replays, compares, and returns the exit code."""
    arguments = parse_arguments()
    # Only this run's records carry its id, whatever else the server meters.
    run = new_record_id()
    now = datetime.fromtimestamp(system_clock_ms() // 1000, UTC)
    try:
        with Meter(arguments.url) as meter:
            meter.whoami()
            tally, elapsed_s = replay(meter, arguments, run)
            report = meter.report(
                now - timedelta(days=1),
                now + timedelta(days=2),
                filters={f"attributes.{RUN_ATTRIBUTE}": [run]},
            )
    except TaximeterError as error:
        Console(stderr=True).print(f"Error: {error}", markup=False)
        return 1
    agree = show(tally, report.total, elapsed_s)
    return 0 if agree and not tally.failed else 1


if __name__ == "__main__":
    sys.exit(main())
