# SPDX-License-Identifier: Apache-2.0
"""`taximeter billing usage`: usage metrics as JSON, in the shape that scripts for hosted billing services expect."""

import json
from dataclasses import dataclass
from datetime import date
from typing import Any
from zoneinfo import ZoneInfo

import click

from taximeter.cli.app import App, pass_app
from taximeter.cli.json_errors import JsonErrorGroup
from taximeter.cli.json_text import json_array, json_object
from taximeter.cli.measures import TOKEN_CLASSES
from taximeter.cli.output import JSON, output_option
from taximeter.cli.parameters import DayType
from taximeter.credits import credits_text
from taximeter.money import decimal_string
from taximeter.period import Period
from taximeter.report_query import Filter, ReportQuery
from taximeter.results import Measures, Report

CREDITS, TOKENS, USD = "credits", "tokens", "usd"
_DIMENSIONS = {
    "workflow_uuid": "attributes.workflow_uuid",
    "connector_uuid": "attributes.connector_uuid",
    "model_uuid": "model",
    "integration_slug": "attributes.integration_slug",
    "agent_uuid": "attributes.agent_uuid",
    "slug": "usage_class",
}
"""Dimension of a report by name in this command."""
_GROUPS = [name for name in _DIMENSIONS if name != "slug"]
_UTC = ZoneInfo("UTC")


@click.group(cls=JsonErrorGroup)
def usage() -> None:
    """Usage metrics as JSON, for scripts."""


def _filter_options(command: Any) -> Any:
    for name in reversed(_DIMENSIONS):
        option = f"--{name.replace('_', '-')}"
        text = (
            "Only this usage class."
            if name == "slug"
            else f"Only usage with this {name}; empty: without one."
        )
        command = click.option(option, name, multiple=True, help=f"{text} Repeatable.")(command)
    return command


@usage.command("get-metrics")
@click.option("--from", "first", type=DayType(), required=True, help="First UTC day.")
@click.option("--to", "last", type=DayType(), required=True, help="Last UTC day, included.")
@click.option("--group-by", type=click.Choice(_GROUPS), help="Tell usage apart by this.")
@_filter_options
@click.option(
    "--unit",
    type=click.Choice([CREDITS, TOKENS, USD]),
    default=USD,
    show_default=True,
    help="What is counted.",
)
@click.option("--tenant", default="", help="Only this tenant and everything below it.")
@output_option(JSON)
@pass_app
def get_metrics(
    app: App,
    /,
    first: date,
    last: date,
    group_by: str | None,
    unit: str,
    tenant: str,
    **filters: tuple[str, ...],
) -> None:
    """Prints usage by day and class between two days, both included.

    The slug of an item is its usage class, its count is in --unit, and its groupBy the value of --group-by, null for
    usage without one. The counts add up to totalUsage, always.
    """
    # JSON is the only one; the option is there as it is everywhere.
    filters.pop("output")
    if last < first:
        raise click.UsageError("--to is before --from.")
    period = Period(first, last, _UTC)
    query = ReportQuery(
        start_time=period.start_time,
        end_time=period.end_time,
        tenant=tenant,
        group_by=("day", "usage_class", *([_DIMENSIONS[group_by]] if group_by else [])),
        filters=tuple(Filter(_DIMENSIONS[name], values) for name, values in filters.items() if values),
    )
    click.echo(_document(app.meter.query_report(query), group_by and _DIMENSIONS[group_by], unit))


@dataclass(frozen=True, slots=True)
class _Item:
    slug: str | None
    count: int
    group: str | None

    def text(self, unit: str) -> str:
        parts = {
            "slug": json.dumps(self.slug),
            "count": _number(self.count, unit),
            "groupBy": json.dumps(self.group),
        }
        return json_object(parts)


def _document(report: Report, dimension: str | None, unit: str) -> str:
    """Writes the JSON by hand: its numbers are exact decimals, which no float of a library could hold."""
    days: dict[str, list[_Item]] = {}
    for row in report.rows:
        slug = row.group["usage_class"]
        count = _count(slug, row.measures, unit)
        if count or (unit == USD and row.measures.unpriced_lines):
            item = _Item(slug, count, row.group[dimension] if dimension else None)
            days.setdefault(row.group["day"] or "", []).append(item)
    metrics = [
        json_object(
            {"date": json.dumps(f"{day}T00:00:00Z"), "items": json_array(item.text(unit) for item in items)}
        )
        for day, items in days.items()
    ]
    total = sum(item.count for items in days.values() for item in items)
    parts = {"totalUsage": _number(total, unit), "unit": json.dumps(unit)}
    if unit == USD:
        parts["currency"] = json.dumps(report.total.cost.currency_code)
        parts["unpricedLines"] = str(report.total.unpriced_lines - report.total.adjusted_unpriced_lines)
    return json_object({**parts, "metrics": json_array(metrics)})


def _count(slug: str | None, measures: Measures, unit: str) -> int:
    if unit == USD:
        return measures.cost.picos
    if unit == CREDITS:
        return measures.credit_microcredits
    return measures.quantities.get(slug, 0) if slug in TOKEN_CLASSES else 0


def _number(count: int, unit: str) -> str:
    if unit == CREDITS:
        return credits_text(count)
    return decimal_string(count) if unit == USD else str(count)
