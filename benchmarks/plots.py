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
HISTOGRAM_IN = 0.62
MS_US = 1_000
STYLE: Any = {"svg.hashsalt": "taximeter", "svg.fonttype": "none", "font.family": "sans-serif"}
"""The same input gives the same file, byte for byte."""

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


def draw_histograms(runs: Mapping[str, Run], title: str, file: Path) -> None:
    """Draw a histogram for each run, one below the other on one scale, and replace the file."""
    bounds = [bound for run in runs.values() for bound, _ in run.histogram_us]
    steps = range(min(bounds).bit_length() - 1, max(bounds).bit_length())
    with mpl.rc_context(STYLE):
        drawing = Figure(figsize=(WIDTH_IN, FRAME_IN + HISTOGRAM_IN * len(runs)), layout="constrained")
        drawing.suptitle(title, x=0.01, ha="left", color=INK, fontsize=11)
        rows: Any = drawing.subplots(len(runs), sharex=True, squeeze=False)
        for axes, (name, run) in zip(rows[:, 0], runs.items(), strict=True):
            counts = dict(run.histogram_us)
            shares = [counts.get(1 << step, 0) / max(run.calls, 1) for step in steps]
            # The root, so that one slow call in ten thousand is still seen.
            heights = [share**0.25 for share in shares]
            axes.bar(list(steps), heights, color=ACCENT, width=0.9)
            axes.set_title(
                f"{name}: p99 {run.p99_us / 1000:,.1f} ms", loc="left", color=INK, fontsize=8, pad=2
            )
            axes.set_yticks([])
            axes.tick_params(colors=INK, length=0, labelsize=7)
            for side in axes.spines.values():
                side.set_visible(False)
        rows[-1, 0].set_xticks(list(steps), [_bound(1 << step) for step in steps])
        rows[-1, 0].set_xlabel("at most; heights are fourth roots of shares", color=INK, fontsize=8)
        file.parent.mkdir(parents=True, exist_ok=True)
        drawing.savefig(file, transparent=True, metadata={"Date": None})


def _bound(microseconds: int) -> str:
    return f"{microseconds} us" if microseconds < MS_US else f"{microseconds // MS_US} ms"


def _is_decision(scenario: str) -> bool:
    return "Record" not in scenario and "tenants" not in scenario


def _bars(values: Mapping[str, float], title: str, file: Path) -> None:
    names = sorted(values, key=lambda name: values[name], reverse=True)
    with mpl.rc_context(STYLE):
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
