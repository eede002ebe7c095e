# SPDX-License-Identifier: Apache-2.0
"""CPU per call as a multiple of the empty front's in the same run, kept from release to release.

Absolute figures are those of a machine; this ratio moves only with the code, and with noise of about a tenth.
"""

import json
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

from contestants import Run
from results import median

TOLERANCE_PERCENT = 15
"""A ratio that grows by more than this is named as a regression."""
_KINDS = ("throughput", "closed loop", "one in flight")


def entry(results: Mapping[str, Sequence[Run]]) -> dict[str, object]:
    """Return what one run says of this version: per scenario of the product, CPU in thousandths of the floor's."""
    ratios = {}
    for scenario, runs in results.items():
        kind, _, name = scenario.partition(": ")
        floor = results.get(f"{kind}: empty front")
        if floor and kind in _KINDS and name.startswith("taximeter"):
            floor_ns = max(median(floor, "cpu_per_call_ns"), 1)
            ratios[scenario] = median(runs, "cpu_per_call_ns") * 1000 // floor_ns
    return {"version": metadata.version("taximeter-server"), "cpu_per_mille_of_floor": ratios}


def read(file: Path) -> list[dict[str, object]]:
    """Return the kept entries, oldest first."""
    if not file.exists():
        return []
    return [json.loads(line) for line in file.read_text().splitlines()]


def append(file: Path, kept: Mapping[str, object]) -> None:
    """Add an entry."""
    with file.open("a") as lines:
        lines.write(json.dumps(kept, sort_keys=True) + "\n")


def compare(earlier: Sequence[Mapping[str, object]], now: Mapping[str, object]) -> list[str]:
    """Return a line per scenario that needs noticeably more CPU than in the last kept entry."""
    if not earlier:
        return ["No earlier run is kept to compare with; --keep keeps this one."]
    before, after = _ratios(earlier[-1]), _ratios(now)
    grown = [
        f"{scenario}: CPU {after[scenario] / 1000:.2f} x the empty front's, {before[scenario] / 1000:.2f} x in "
        f"{earlier[-1]['version']}"
        for scenario in after
        if scenario in before and after[scenario] * 100 > before[scenario] * (100 + TOLERANCE_PERCENT)
    ]
    return (
        ["REGRESSION?", *grown] if grown else [f"CPU per call is no higher than in {earlier[-1]['version']}."]
    )


def _ratios(one: Mapping[str, object]) -> dict[str, int]:
    ratios = one["cpu_per_mille_of_floor"]
    if not isinstance(ratios, dict):
        raise TypeError("not an entry of the history")
    return ratios
