# SPDX-License-Identifier: Apache-2.0
"""`taximeter billing estimate`: what usage would cost."""

from datetime import datetime
from typing import Any

import click

from taximeter.cli.app import App, pass_app
from taximeter.cli.billing import billing
from taximeter.cli.output import JSON, TABLE, Column, output_option, write
from taximeter.cli.parameters import COUNT, INT64_MAX, InstantType, PairType, SecondsType
from taximeter.money import decimal_string
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
# Option by field of Usage.
_TOKENS = {
    "uncached_input_tokens": "--input-tokens",
    "cache_read_tokens": "--cache-read-tokens",
    "cache_write_tokens": "--cache-write-tokens",
    "cache_write_1h_tokens": "--cache-write-1h-tokens",
    "visible_output_tokens": "--output-tokens",
    "reasoning_tokens": "--reasoning-tokens",
    "tool_calls": "--tool-calls",
    "storage_byte_hours": "--storage-byte-hours",
}


def _usage_options(command: Any) -> Any:
    for field, option in reversed(_TOKENS.items()):
        command = click.option(option, field, type=COUNT, default=0, help="Quantity of one call.")(command)
    return command


@billing.command()
@click.option("--model", default="", help="Model; not needed where nothing is a token.")
@_usage_options
@click.option(
    "--sandbox-seconds", "sandbox_ms", type=SecondsType(), default=0, help="Sandbox time of one call."
)
@click.option("--other", type=PairType(), multiple=True, help="Further class, such as input_audio=1200.")
@click.option(
    "--calls", type=click.IntRange(1, INT64_MAX), default=1, show_default=True, help="Number of such calls."
)
@click.option(
    "--at", "occur_time", type=InstantType(), help="Instant that selects card and prices. Default: now."
)
@click.option("--rate-card", "rate_card_id", default="", help="Card id, instead of the one in force.")
@click.option("--provider", default="", help="Provider of the model.")
@click.option("--tier", default="", help="Service tier, such as batch.")
@click.option("--region", default="", help="Region.")
@click.option("--speed", default="", help="Speed, such as fast.")
@output_option(TABLE, JSON)
@pass_app
def estimate(
    app: App,
    /,
    calls: int,
    other: tuple[tuple[str, str], ...],
    occur_time: datetime | None,
    output: str,
    **values: Any,
) -> None:
    """Prices usage that has not happened, without recording anything.

    Quantities are those of one call; every token belongs in exactly one class.
    """
    quantities = {field: values.pop(field) for field in (*_TOKENS, "sandbox_ms")}
    usage = Usage(**quantities, other=_quantities(other))
    result = app.meter.estimate(usage, call_count=calls, occur_time=occur_time, **values)
    lines = [
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
    ]
    document = {
        "model": values["model"],
        "calls": calls,
        "currency": result.cost.currency_code,
        "cost_per_call": decimal_string(result.cost_per_call.picos, 2),
        "cost": decimal_string(result.cost.picos, 2),
        "pricing_state": result.pricing_state.value,
        "rate_card_id": result.rate_card_id,
        "rate_card_row": result.rate_card_row,
        "lines": lines,
    }
    title = f"{calls:,} x {result.cost_per_call} = {result.cost}"
    if result.pricing_state in {"PARTLY_PRICED", "UNPRICED"}:
        title += "  (some usage has no price and is not in this)"
    write(output, document, _COLUMNS, lines, title=title, empty="Nothing to price.")


def _quantities(pairs: tuple[tuple[str, str], ...]) -> dict[str, int]:
    result: dict[str, int] = {}
    for name, text in pairs:
        if name in result:
            raise click.BadParameter(f"{name} is given twice.", param_hint="--other")
        result[name] = COUNT(text)
    return result
