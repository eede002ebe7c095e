# SPDX-License-Identifier: Apache-2.0
"""Pictures of a run of `make bench`, as SVG files that read in light and in dark."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from contestants import Run
from matplotlib.figure import Figure
from results import TAXIMETER, median

INK, ACCENT, OTHER = "#808890", "#d9730d", "#9aa7b4"
"""Grey text and bars have enough contrast on white as well as on black."""
WIDTH_IN = 7.2
BAR_IN = 0.34
FRAME_IN = 0.9

PICTURES: Sequence[tuple[str, str, str, str, int]] = (
    ("cpu-per-decision", "throughput", "cpu_per_call_ns", "CPU per decision, store included, in microseconds", 1000),
    ("decisions-per-second", "throughput", "calls_per_second", "Decisions per second beside the load generator", 1),
    ("p99-one-in-flight", "one in flight", "p99_us", "99th percentile with one call in flight, in microseconds", 1),
)  # fmt: skip
"""File, kind of load, figure, title, and what to divide the figure by."""


def draw(results: Mapping[str, Sequence[Run]], directory: Path) -> list[Path]:
    """Draw every picture that the results allow and return the files, each replaced whole."""
    directory.mkdir(parents=True, exist_ok=True)
    files = []
    for name, kind, figure, title, divisor in PICTURES:
        values = {
            scenario.removeprefix(f"{kind}: "): median(runs, figure) / divisor
            for scenario, runs in results.items()
            if scenario.startswith(f"{kind}: ") and _is_decision(scenario)
        }
        files.append(directory / f"{name}.svg")
        _bars(values, title, files[-1])
    return files


def _is_decision(scenario: str) -> bool:
    return "Record" not in scenario and "tenants" not in scenario


def _bars(values: Mapping[str, float], title: str, file: Path) -> None:
    names = sorted(values, key=lambda name: values[name], reverse=True)
    # The same input gives the same file, byte for byte.
    with mpl.rc_context({"svg.hashsalt": "taximeter", "svg.fonttype": "none", "font.family": "sans-serif"}):
        drawing = Figure(figsize=(WIDTH_IN, FRAME_IN + BAR_IN * len(names)), layout="constrained")
        axes: Any = drawing.subplots()
        colors = [ACCENT if name == TAXIMETER else OTHER for name in names]
        bars = axes.barh(names, [values[name] for name in names], color=colors, height=0.66)
        axes.bar_label(bars, fmt=lambda value: f"{value:,.0f}", padding=4, color=INK)
        axes.set_title(title, loc="left", color=INK, fontsize=11)
        axes.tick_params(colors=INK, length=0)
        axes.set_xticks([])
        axes.margins(x=0.12)
        for side in axes.spines.values():
            side.set_visible(False)
        drawing.savefig(file, transparent=True, metadata={"Date": None})
