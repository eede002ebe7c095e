# SPDX-License-Identifier: Apache-2.0
"""`taximeter billing`: what finance asks for."""

import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import click

from taximeter._reporting import ExportFormat
from taximeter.cli.app import App, TaximeterGroup, pass_app
from taximeter.cli.credits import credits_group
from taximeter.cli.measures import measure_columns, measure_values
from taximeter.cli.output import (
    CSV,
    JSON,
    TABLE,
    Column,
    output_option,
    progress_console,
    time_text,
    write,
)
from taximeter.cli.parameters import period_options
from taximeter.cli.report_options import query_options
from taximeter.money import Money
from taximeter.page.collect import collect
from taximeter.page.render import render
from taximeter.period import Period
from taximeter.report_query import ReportQuery
from taximeter.results import Measures, Report, ReportRow

_TITLES = {"root_tenant": "tenant", "rate_card_id": "rate card", "usage_class": "class"}
_BYTES_PER_KIB = 1024
_COMPARED_COST = "compared_cost"
PARQUET, JSON_LINES, FOCUS = "parquet", "jsonl", "focus"
_EXPORTS = {
    CSV: ExportFormat.CSV,
    PARQUET: ExportFormat.PARQUET,
    JSON_LINES: ExportFormat.JSON_LINES,
    FOCUS: ExportFormat.FOCUS,
}
"""Formats that the server writes."""
_ORDERED = frozenset({CSV, FOCUS})
"""Those of them whose columns and order are what they are, whatever was asked for."""
MakeQuery = Callable[[Period, str, Iterable[str]], ReportQuery]


@click.group(cls=TaximeterGroup)
def billing() -> None:
    """Summaries, reports, rollups, estimates and credits."""


billing.add_command(credits_group)


@billing.command()
@period_options()
@click.option("--tenant", default="", help="Only this tenant and everything below it.")
@click.option(
    "--group-by",
    multiple=True,
    default=("root_tenant",),
    help="Dimension, repeatable: tenant, root_tenant, tenant_level_1 to 4, model, provider, usage_class, rate_card_id, "
    "rate_card_row, tier, region, speed, pricing, entry_kind, hour, day, week, month, quarter, year, attributes.KEY. "
    "Default: root_tenant.",
)
@query_options
@click.option(
    "--html",
    "html_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write a page for people to this file: one file with charts, to open, send or print.",
)
@output_option(TABLE, JSON, CSV, PARQUET)
@pass_app
def summary(
    app: App,
    period: Period,
    tenant: str,
    group_by: tuple[str, ...],
    make_query: MakeQuery,
    html_file: Path | None,
    output: str,
) -> None:
    """Sums a period across all tenants.

    Tenants below acme, such as acme/research, count as acme unless --group-by tenant is given.
    """
    query = make_query(period, tenant, group_by)
    if html_file is not None:
        _write_page(app, query, period, html_file)
    elif output == PARQUET:
        _export(app, query, ExportFormat.PARQUET)
    else:
        _write_report(_fetch(app, query), period, query, output, {"tenant": tenant or None})


@billing.command("report")
@click.argument("tenant")
@period_options()
@click.option("--csv", "as_csv", is_flag=True, help="Short for --output csv.")
@click.option("--tag", "tags", multiple=True, metavar="KEY", help="Attribute for Tags of focus. Repeatable.")
@query_options
@output_option(TABLE, JSON, CSV, PARQUET, JSON_LINES, FOCUS)
@pass_app
def report_command(
    app: App,
    /,
    tenant: str,
    period: Period,
    *,
    as_csv: bool,
    tags: tuple[str, ...],
    make_query: MakeQuery,
    output: str,
) -> None:
    """Details TENANT and everything below it: one line for each day, tenant and model.

    The columns of the CSV are stable: date, tenant, model, tokens_in, tokens_out, tokens_cached,
    reasoning_tokens, tool_calls, sandbox_seconds, cost_usd come first and in this order, then cache_read,
    cache_write, cost_exact, rate_card_id. focus is the CSV of the FinOps FOCUS 1.2 specification.
    """
    group_by = [f"attributes.{key}" for key in tags] if tags else ["day", "tenant", "model"]
    query = make_query(period, tenant, group_by)
    if tags and output != FOCUS:
        raise click.UsageError("--tag is for --output focus.")
    if as_csv and output not in {TABLE, CSV}:
        raise click.UsageError("--csv and --output exclude each other.")
    output = CSV if as_csv else output
    if output in _ORDERED and (query.order or query.top):
        message = f"--order-by and --top are not for {output}, whose lines have an order of their own."
        raise click.UsageError(message)
    if output in _EXPORTS:
        _export(app, query, _EXPORTS[output])
    else:
        _write_report(_fetch(app, query), period, query, output, {"tenant": tenant})


@billing.command()
@click.option("--tenant", required=True, help="Tenant; everything below it is included.")
@period_options(default=None)
@output_option(TABLE, JSON, CSV, PARQUET)
@pass_app
def rollup(app: App, tenant: str, period: Period, output: str) -> None:
    """Sums each day of a range, for invoicing.

    Both --from and --to are included: --from 2026-06-01 --to 2026-06-30 is the whole of June. Days without
    usage are there with zeros.
    """
    query = ReportQuery(
        start_time=period.start_time,
        end_time=period.end_time,
        tenant=tenant,
        group_by=("day", "model"),
        time_zone=period.time_zone.key,
    )
    if output == PARQUET:
        _export(app, query, ExportFormat.PARQUET)
        return
    report = _fetch(app, query)
    by_day: dict[str, list[ReportRow]] = {}
    for row in report.rows:
        by_day.setdefault(row.group["day"] or "", []).append(row)
    currency = report.total.cost.currency_code
    days = []
    for day in period.days:
        rows = by_day.get(day.isoformat(), [])
        models = [{"model": row.group["model"], **measure_values(row.measures)} for row in rows]
        sums = _sum([row.measures for row in rows], currency)
        days.append({"date": day.isoformat(), **measure_values(sums), "models": models})
    total = measure_values(report.total)
    document = {**_head(report, period, {"tenant": tenant}), "days": days, "total": total}
    columns = [Column("date", "date"), *measure_columns(currency)]
    write(output, document, columns, days, title=_title(period), total={"date": "total", **total})


def _fetch(app: App, query: ReportQuery) -> Report:
    with progress_console().status("Summing usage"):
        return app.meter.query_report(query)


def _export(app: App, query: ReportQuery, file_format: ExportFormat) -> None:
    """Copies the file that the server makes to stdout, unchanged."""
    if file_format == ExportFormat.PARQUET and sys.stdout.isatty():
        raise click.UsageError("parquet is not text, and this is a terminal: send it to a file with > FILE.")
    written_bytes = 0
    with progress_console().status("Exporting") as status:
        for piece in app.meter.query_export(query, file_format=file_format):
            click.echo(piece, nl=False)
            written_bytes += len(piece)
            status.update(f"Exporting: {written_bytes // _BYTES_PER_KIB:,} KiB")


def _write_page(app: App, query: ReportQuery, period: Period, path: Path) -> None:
    with progress_console().status("Summing usage"):
        page = collect(app.meter, query, period, made_time=app.now())
    try:
        path.write_text(render(page), encoding="utf-8")
    except OSError as error:
        message = f"cannot write {path}: {error.strerror}"
        raise click.ClickException(message) from error
    click.echo(f"Wrote {path}.", err=True)


def _sum(measures: Sequence[Measures], currency: str) -> Measures:
    """Adds sums of one report; exact, because they are integers."""
    quantities: dict[str, int] = {}
    for part in measures:
        for usage_class, quantity in part.quantities.items():
            quantities[usage_class] = quantities.get(usage_class, 0) + quantity
    return Measures(
        calls=sum(part.calls for part in measures),
        quantities=quantities,
        cost=Money(currency, sum(part.cost.picos for part in measures)),
        unpriced_lines=sum(part.unpriced_lines for part in measures),
        adjustment_cost=Money(currency, sum(part.adjustment_cost.picos for part in measures)),
        adjusted_unpriced_lines=sum(part.adjusted_unpriced_lines for part in measures),
        list_cost=Money(currency, sum(part.list_cost.picos for part in measures)),
        credit_microcredits=sum(part.credit_microcredits for part in measures),
        overdrawn_microcredits=sum(part.overdrawn_microcredits for part in measures),
    )


def _head(report: Report, period: Period, fields: dict[str, Any]) -> dict[str, Any]:
    return {
        **fields,
        "from": period.first.isoformat(),
        "to": period.last.isoformat(),
        "time_zone": period.time_zone.key,
        "start_time": time_text(period.start_time),
        "end_time": time_text(period.end_time),
        "as_of_time": time_text(report.as_of_time),
        "as_of": report.as_of,
        "currency": report.total.cost.currency_code,
    }


def _title(period: Period) -> str:
    days = period.first.isoformat()
    if period.last != period.first:
        days += f" to {period.last.isoformat()}"
    return f"{days} ({period.time_zone.key})"


def _write_report(
    report: Report, period: Period, query: ReportQuery, output: str, fields: dict[str, Any]
) -> None:
    group_by, currency = query.group_by, report.total.cost.currency_code
    rows = [_row(row) for row in report.rows]
    total = measure_values(report.total)
    document = {**_head(report, period, fields), "rows": rows, "total": total}
    columns = [Column(name, _TITLES.get(name, name)) for name in group_by]
    columns += measure_columns(currency)
    named_total = {**dict.fromkeys(group_by, ""), **total}
    if report.compared_total is not None and query.compare_to is not None:
        columns.append(Column(_COMPARED_COST, f"before {currency}".rstrip(), numeric=True))
        document["compared_total"] = measure_values(report.compared_total)
        document["compared_start_time"], document["compared_end_time"] = map(time_text, query.compare_to)
        named_total[_COMPARED_COST] = document["compared_total"]["cost"]
    if group_by:
        named_total[group_by[0]] = "total"
        # A table has no null: what is not a group of its own says so.
        shown = [{**row, group_by[0]: "(other)"} if row.get("is_other") else row for row in rows]
    else:
        shown = rows
    write(
        output,
        document,
        columns,
        shown,
        title=_title(period),
        total=named_total,
        empty=f"No usage in {_title(period)}.",
    )


def _row(row: ReportRow) -> dict[str, Any]:
    values = {**row.group, **measure_values(row.measures)}
    if row.is_other:
        values["is_other"] = True
    if row.compared is not None:
        values["compared"] = measure_values(row.compared)
        values[_COMPARED_COST] = values["compared"]["cost"]
    return values
