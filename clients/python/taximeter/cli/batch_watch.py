# SPDX-License-Identifier: Apache-2.0
"""Following a running batch against its estimate."""

import dataclasses
import json
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import click

from taximeter.cli.app import App
from taximeter.cli.output import JSON, time_text
from taximeter.estimates import Estimate
from taximeter.money import decimal_string
from taximeter.report_query import ReportQuery
from taximeter.results import Measures

_LATEST = timedelta(minutes=5)
"""How far ahead of the server's clock records may be."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What is watched: records of `query` from its start on, until there are `item_count` calls."""

    query: ReportQuery
    item_count: int
    estimate: Estimate


def watch_batch(app: App, batch: Batch, *, interval_s: int, output: str) -> None:
    """Prints one line per look until the batch is through; ends with exit code 1 when it costs more than estimated."""
    while True:
        now = app.now()
        end = max(now, batch.query.start_time) + _LATEST
        measures = app.meter.query_report(dataclasses.replace(batch.query, end_time=end)).total
        progress = _progress(batch, measures, now)
        click.echo(json.dumps(progress) if output == JSON else _line(progress))
        if progress["calls"] >= batch.item_count:
            break
        time.sleep(interval_s)
    if progress["state"] == "above":
        raise click.exceptions.Exit(1)


def _progress(batch: Batch, measures: Measures, now: datetime) -> dict[str, Any]:
    calls, cost = measures.calls, measures.cost.picos
    estimate = batch.estimate
    # What the whole batch costs when it goes on like this, rounded up.
    projected = -(-cost * batch.item_count // calls) if calls else 0
    state = "above" if projected > estimate.high_cost.picos else "within"
    if calls and projected < estimate.low_cost.picos:
        state = "below"
    return {
        "time": time_text(now),
        "calls": calls,
        "of": batch.item_count,
        "cost": decimal_string(cost, 2),
        "projected_cost": decimal_string(projected, 2),
        "low_cost": decimal_string(estimate.low_cost.picos, 2),
        "high_cost": decimal_string(estimate.high_cost.picos, 2),
        "currency": estimate.cost.currency_code,
        "state": state,
        "unpriced_lines": measures.unpriced_lines,
    }


def _line(progress: dict[str, Any]) -> str:
    bounds = f"{progress['low_cost']} to {progress['high_cost']} {progress['currency']}"
    return (
        f"{progress['time']}  {progress['calls']:,} of {progress['of']:,} calls  {progress['cost']} so far,"
        f" {progress['projected_cost']} when done: {progress['state']} the estimate of {bounds}"
    )
