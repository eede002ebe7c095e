# SPDX-License-Identifier: Apache-2.0
"""The table of a run of `make bench`: medians over rounds, and the product's ratios to everything beside it."""

import statistics
from collections.abc import Mapping, Sequence

from contestants import Run

Results = dict[str, list[Run]]
"""Runs by scenario, "KIND: CONTESTANT ..."."""
TAXIMETER = "taximeter"
THROUGHPUT = "throughput"
ONE = "one in flight"
AWAKE = f"{ONE}, cores awake"
OPEN_LOOP = "open loop"
BARE_SCRIPT = "bare script in the store"
BESIDE = "beside"
_SHOWN = ("calls_per_second", "cpu_per_call_ns", "p50_us", "p99_us")


def median(runs: Sequence[Run], name: str) -> int:
    """Return the median over rounds of one figure."""
    return int(statistics.median(getattr(run, name) for run in runs))


def table(results: Results) -> list[str]:
    """Return the lines of the table: each scenario, the product beside each peer, the check beside records."""
    lines = [
        f"{'':60}{'calls/s':>9}{'x floor':>9}{'CPU us':>8}{'x floor':>9}{'p50 us':>8}{'x floor':>9}{'p99 us':>8}"
    ]
    lines += [_scenario_line(results, scenario) for scenario in results]
    columns = f"{'calls/s':>9}{'CPU':>9}{'p50, one':>10}{'p99, one':>10}"
    columns += f"{'p50, awake':>12}{'p99, awake':>12}{'p99, 70 %':>11}"
    lines += ["", f"{'taximeter, three limits, beside each':<60}{columns}"]
    peer_names = [
        kind.removeprefix(f"{THROUGHPUT}: ") for kind in results if kind.startswith(f"{THROUGHPUT}: ")
    ]
    lines += [_peer_line(results, name) for name in peer_names if not name.startswith(TAXIMETER)]
    return [*lines, "", *_beside_records(results)]


def _scenario_line(results: Results, scenario: str) -> str:
    runs = results[scenario]
    floor = results.get(scenario.partition(":")[0] + ": empty front")
    rate, cpu_ns, p50, p99 = (median(runs, name) for name in _SHOWN)
    cells = [f"{rate:>9,}", f"{cpu_ns / 1000:>8.1f}", _latency(p50)]
    ratios = ["", "", ""]
    if floor is not None:
        shown = zip((rate, cpu_ns, p50), _SHOWN, strict=False)
        ratios = [f"{value / max(median(floor, name), 1):.2f}" if value else "" for value, name in shown]
    pairs = "".join(f"{cell}{ratio:>9}" for cell, ratio in zip(cells, ratios, strict=True))
    return f"{scenario:<60}{pairs}{_latency(p99)}"


def _latency(value_us: int) -> str:
    return f"{value_us:>8,}" if value_us else f"{'-':>8}"


def _peer_line(results: Results, peer: str) -> str:
    open_kind = next((scenario.partition(":")[0] for scenario in results if "capacity" in scenario), "")
    cells = [
        _ratio(results, THROUGHPUT, peer, "calls_per_second", 9),
        _ratio(results, THROUGHPUT, peer, "cpu_per_call_ns", 9),
        _ratio(results, ONE, peer, "p50_us", 10),
        _ratio(results, ONE, peer, "p99_us", 10),
        _ratio(results, AWAKE, peer, "p50_us", 12),
        _ratio(results, AWAKE, peer, "p99_us", 12),
        _ratio(results, open_kind, peer, "p99_us", 11),
    ]
    return f"{peer:<60}{''.join(cells)}"


def _ratio(results: Mapping[str, Sequence[Run]], kind: str, peer: str, name: str, width: int) -> str:
    ours, theirs = results.get(f"{kind}: {TAXIMETER}"), results.get(f"{kind}: {peer}")
    if not ours or not theirs:
        return " " * width
    return f"{median(ours, name) / max(median(theirs, name), 1):.2f} x".rjust(width)


def _beside_records(results: Results) -> list[str]:
    alone = results.get(f"{OPEN_LOOP}: {TAXIMETER} alone")
    beside = [runs for scenario, runs in results.items() if f"{TAXIMETER} {BESIDE}" in scenario]
    if not alone or not beside:
        return []
    ratio = median(beside[0], "p50_us") / max(median(alone, "p50_us"), 1)
    return [f"CheckQuota p50 beside a stream of records: {ratio:.2f} x its p50 alone"]
