# SPDX-License-Identifier: Apache-2.0
"""`taximeter billing estimate`: what calls would cost, what they would do to limits, and how a batch goes."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import click

from taximeter.cli.app import App, pass_app
from taximeter.cli.batch_watch import Batch, watch_batch
from taximeter.cli.billing import billing
from taximeter.cli.limit_bars import shown_quantity
from taximeter.cli.output import (
    JSON,
    TABLE,
    Column,
    Row,
    output_option,
    time_text,
    write,
    write_json,
    write_table,
)
from taximeter.cli.parameters import COUNT, INT64_MAX, InstantType, PairType, SecondsType
from taximeter.credits import credits_text
from taximeter.estimates import Estimate, EstimateLimit, Sample
from taximeter.money import decimal_string
from taximeter.period import parse_period
from taximeter.report_query import ReportQuery, filters_in
from taximeter.usage import Usage

_COLUMNS = (
    Column("usage_class", "class"),
    Column("quantity", "quantity", numeric=True),
    Column("billed_quantity", "billed", numeric=True),
    Column("priced_as", "priced as"),
    Column("unit_price", "price", numeric=True),
    Column("per", "per", numeric=True),
    Column("cost", "cost of one call", numeric=True),
)
_LIMIT_COLUMNS = (
    Column("tenant", "tenant"),
    Column("limit", "limit"),
    Column("remaining", "remaining", numeric=True),
    Column("needed", "needed", numeric=True),
    Column("remaining_after", "after", numeric=True),
    Column("passed_count", "calls that pass", numeric=True),
    Column("stop_time", "stops at"),
)
USAGE_FIELDS = {
    "uncached_input_tokens": "--input-tokens",
    "cache_read_tokens": "--cache-read-tokens",
    "cache_write_tokens": "--cache-write-tokens",
    "cache_write_1h_tokens": "--cache-write-1h-tokens",
    "visible_output_tokens": "--output-tokens",
    "reasoning_tokens": "--reasoning-tokens",
    "tool_calls": "--tool-calls",
    "storage_byte_hours": "--storage-byte-hours",
}
"""Option by field of Usage."""
_HIGH = {"input": "uncached_input_tokens", "output": "visible_output_tokens", "reasoning": "reasoning_tokens"}


def usage_options(command: Any) -> Any:
    """Adds an option for each field of Usage that is a plain count."""
    for field, option in reversed(USAGE_FIELDS.items()):
        command = click.option(option, field, type=COUNT, default=0, help="Quantity of one call.")(command)
    return command


def _projection_options(command: Any) -> Any:
    options = (
        click.option("--high", type=PairType(), multiple=True,
                     help="Class of an expensive call, such as output=5000, for the upper bound. Repeatable."),
        click.option("--sample", type=PairType(), multiple=True,
                     help="Project recorded usage with this value, such as attributes.run_id=r-1. Repeatable."),
        click.option("--sample-period", default="today", show_default=True, help="When the sample was recorded."),
        click.option("--sample-items", type=click.IntRange(1, INT64_MAX), help="Items that the sample processed."),
        click.option("--sample-by", default="", help="Dimension that tells items apart, such as attributes.row_id."),
        click.option("--tenant", default="", help="Whose prices apply and limits to look at, and whose sample it is."),
        click.option("--calls-per-minute", type=COUNT, default=0, help="Pace of the calls. Default: all at once."),
        click.option("--watch", type=PairType(), multiple=True,
                     help="Watch the running batch of this value, such as attributes.batch=b-1. Repeatable."),
        click.option("--since", "since_time", type=InstantType(), help="When the batch began. Default: now."),
        click.option("--interval", "interval_s", type=click.IntRange(1, 3600), default=5, show_default=True,
                     help="Seconds between two looks at the batch."),
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


@billing.command()
@click.option("--model", default="", help="Model; not needed where nothing is a token.")
@usage_options
@click.option(
    "--sandbox-seconds", "sandbox_ms", type=SecondsType(), default=0, help="Sandbox time of one call."
)
@click.option("--other", type=PairType(), multiple=True, help="Further class, such as input_audio=1200.")
@click.option(
    "--calls",
    type=click.IntRange(1, INT64_MAX),
    default=1,
    show_default=True,
    help="Number of such calls, or of items of a sample.",
)
@click.option(
    "--at", "occur_time", type=InstantType(), help="Instant that selects card and prices. Default: now."
)
@click.option("--rate-card", "rate_card_id", default="", help="Card id, instead of the one in force.")
@click.option("--provider", default="", help="Provider of the model.")
@click.option("--tier", default="", help="Service tier, such as batch.")
@click.option("--region", default="", help="Region.")
@click.option("--speed", default="", help="Speed, such as fast.")
@_projection_options
@output_option(TABLE, JSON)
@pass_app
def estimate(app: App, /, calls: int, output: str, **values: Any) -> None:
    """Prices calls that have not happened, without recording anything.

    Either from the quantities of one call, every token in exactly one class, or from --sample, a run that was recorded.
    With --tenant it says what would remain of the limits and which would stop the calls; with --calls-per-minute, when.
    With --watch it then follows the running batch until as many calls are recorded.
    """
    watch = values.pop("watch")
    since_time, interval_s = values.pop("since_time"), values.pop("interval_s")
    if watch and since_time is None:
        since_time = app.now()
    result = _estimate(app, calls, values)
    document = _document(result, calls, values)
    if output == TABLE or not watch:
        _write(document, result, calls, output)
    if watch:
        query = ReportQuery(
            since_time, since_time, values["tenant"], filters=filters_in(_merged(watch)), group_by=()
        )
        watch_batch(app, Batch(query, calls, result), interval_s=interval_s, output=output)


def _estimate(app: App, calls: int, values: dict[str, Any]) -> Estimate:
    quantities = {field: values.pop(field) for field in (*USAGE_FIELDS, "sandbox_ms")}
    other, high = quantities_of(values.pop("other"), "--other"), quantities_of(values.pop("high"), "--high")
    sample, names = values.pop("sample"), ("model", "occur_time", "provider", "tier", "region", "speed")
    period, items = values.pop("sample_period"), values.pop("sample_items")
    sample_by = values.pop("sample_by")
    limits = {"limits_tenant": values["tenant"], "calls_per_minute": values["calls_per_minute"]}
    limits["rate_card_id"] = values["rate_card_id"]
    if not sample:
        if items or sample_by:
            raise click.UsageError("--sample-items and --sample-by need --sample.")
        usage = Usage(**quantities, other=other)
        named = {name: values[name] for name in names}
        high_usage = _high_usage(usage, high) if high else None
        return app.meter.estimate(usage, call_count=calls, high_usage=high_usage, **named, **limits)
    given = [name for name in names if values[name]] + [name for name, count in quantities.items() if count]
    if given or other or high:
        raise click.UsageError("--sample excludes what describes one call: the records say it.")
    try:
        days = parse_period(period, app.utc, app.clock())
    except ValueError as error:
        raise click.BadParameter(f"{error}.", param_hint="--sample-period") from error
    query = ReportQuery(days.start_time, days.end_time, values["tenant"], filters=filters_in(_merged(sample)))
    return app.meter.estimate(sample=Sample(query, items or 0, sample_by), call_count=calls, **limits)


def _high_usage(usage: Usage, high: Mapping[str, int]) -> Usage:
    named = {_HIGH[name]: quantity for name, quantity in high.items() if name in _HIGH}
    rest = {name: quantity for name, quantity in high.items() if name not in _HIGH}
    return dataclasses.replace(usage, **named, other={**usage.other, **rest})


def _document(result: Estimate, calls: int, values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "model": values["model"],
        "calls": calls,
        "currency": result.cost.currency_code,
        "cost_per_call": decimal_string(result.cost_per_call.picos, 2),
        "cost": decimal_string(result.cost.picos, 2),
        "low_cost": decimal_string(result.low_cost.picos, 2),
        "high_cost": decimal_string(result.high_cost.picos, 2),
        "credits": credits_text(result.credit_microcredits),
        "pricing_state": result.pricing_state.value,
        "rate_card_id": result.rate_card_id,
        "rate_card_row": result.rate_card_row,
        "sample_items": result.sample_item_count,
        "unpriced_lines": result.unpriced_lines,
        "lines": [
            {
                "usage_class": line.usage_class,
                "quantity": line.quantity,
                "billed_quantity": line.billed_quantity,
                "priced_as": line.priced_as or None,
                "unit_price": line.unit_price or None,
                "per": line.per or None,
                "cost": None if line.unpriced else decimal_string(line.cost_picos, 2),
            }
            for line in result.lines
        ],
        "limits": [_limit(limit) for limit in result.limits],
    }


def _limit(limit: EstimateLimit) -> dict[str, Any]:
    def quantity(value: int) -> int | str:
        return shown_quantity(limit.status.kind, value)

    return {
        "tenant": limit.status.tenant,
        "limit": limit.status.kind.value.lower(),
        "remaining": quantity(limit.status.remaining),
        "needed": quantity(limit.needed),
        "remaining_after": quantity(limit.remaining_after),
        "stops": limit.stops,
        "passed_count": limit.passed_count,
        "stop_time": time_text(limit.stop_time),
    }


def _write(document: dict[str, Any], result: Estimate, calls: int, output: str) -> None:
    if output == JSON:
        write_json(document)
        return
    title = f"{calls:,} x {result.cost_per_call} = {result.cost}"
    if result.low_cost != result.high_cost:
        title += f", between {result.low_cost} and {result.high_cost}"
    if result.pricing_state in {"PARTLY_PRICED", "UNPRICED"}:
        title += "  (some usage has no price and is not in this)"
    lines: list[Row] = document["lines"]
    if lines or not result.sample_item_count:
        write(output, document, _COLUMNS, lines, title=title, empty="Nothing to price.")
    else:
        click.echo(f"{title}, after a sample of {result.sample_item_count:,}")
    if result.limits:
        first = result.limits[0]
        stop = f"{first.status.tenant}: {first.status.kind.value.lower()}"
        heading = f"stopped by {stop}" if first.stops else "no limit stops it"
        write_table(_LIMIT_COLUMNS, document["limits"], title=heading)


def _merged(pairs: tuple[tuple[str, str], ...]) -> dict[str, list[str]]:
    result: dict[str, list[str]] = {}
    for name, value in pairs:
        result.setdefault(name, []).append(value)
    return result


def quantities_of(pairs: tuple[tuple[str, str], ...], option: str) -> dict[str, int]:
    """Returns quantities by class. Raises BadParameter for one that is given twice, or is no count."""
    result: dict[str, int] = {}
    for name, text in pairs:
        if name in result:
            raise click.BadParameter(f"{name} is given twice.", param_hint=option)
        try:
            result[name] = COUNT(text)
        except click.BadParameter as error:
            raise click.BadParameter(f"{name}: {error.message}", param_hint=option) from error
    return result
