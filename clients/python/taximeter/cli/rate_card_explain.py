# SPDX-License-Identifier: Apache-2.0
"""`taximeter rate-card explain`: how a record got its price, step by step."""

from collections.abc import Iterator
from typing import Any

import click

from taximeter.cli.app import App, pass_app
from taximeter.cli.card_reference import SHORT_ID
from taximeter.cli.output import JSON, cell_text, output_option, time_text, write_json
from taximeter.corrections import CorrectionKind
from taximeter.money import decimal_string
from taximeter.provider_usage import ProviderUsage
from taximeter.rate_cards import (
    AdjustedLine,
    ExplainedLine,
    ModelResolution,
    RecordAdjustment,
    RecordExplanation,
)

_TEXT = "text"
_RESOLUTIONS = {
    ModelResolution.NAME: "the model's name",
    ModelResolution.ALIAS: "the alias {}",
    ModelResolution.SHORTENED_NAME: "the model's name without date, version or prefix: {}",
    ModelResolution.SHORTENED_ALIAS: "the alias {}, without date, version or prefix of the model",
    ModelResolution.PATTERN: "the pattern {}",
    ModelResolution.UNKNOWN_MODEL: "the card's unknown_model policy",
}


@click.command()
@click.argument("record_id")
@click.option("--tenant", default="", help="Tenant of the record; ids are unique within a tenant only.")
@output_option(_TEXT, JSON)
@pass_app
def explain(app: App, record_id: str, tenant: str, output: str) -> None:
    """Shows how a record got its price: card, row, overlays, arithmetic, adjustments.

    RECORD_ID may also be that of an adjustment.
    """
    found = app.meter.explain_record(record_id, tenant=tenant)
    if output == JSON:
        write_json({"records": [_document(record) for record in found]})
        return
    for number, record in enumerate(found):
        if number:
            click.echo()
        for line in _text(record):
            click.echo(line)


def _text(record: RecordExplanation) -> Iterator[str]:
    currency = record.cost.currency_code
    yield f"Record {cell_text(record.record_id)} of {record.tenant}"
    yield f"  happened   {time_text(record.occur_time)}, recorded {time_text(record.receive_time)}"
    facts = {name: getattr(record, name) for name in ("model", "provider", "tier", "region", "speed")}
    told = ", ".join(f"{name} {cell_text(value)}" for name, value in facts.items() if value)
    yield f"  call       {told or 'no model'}" + (f", {record.calls:,} calls" if record.calls != 1 else "")
    if record.provider_usage is not None:
        yield from _reported_text(record.provider_usage, record.usage_flags)
    if record.rate_card is None:
        yield "  card       none was in force"
    else:
        card = record.rate_card
        yield (
            f"  card       version {card.version} ({card.rate_card_id[:SHORT_ID]}),"
            f" in force from {time_text(card.effective_time)}"
        )
    if record.tenant_prices_version:
        yield f"  charged by the tenant's own prices, version {record.tenant_prices_version}"
    yield f"  row        {_row_text(record)}"
    yield f"  prompt     {record.prompt_tokens:,} tokens"
    for overlay in record.overlays:
        yield f"  when[{overlay.position}]    {overlay.condition or 'always'}: {overlay.effect}"
    yield ""
    for line in record.lines:
        yield from _line_text(line, currency)
    yield f"  charged    {decimal_string(record.cost.picos, 2)} {currency}"
    if record.tenant_prices_version:
        yield f"  list cost  {decimal_string(record.list_cost.picos, 2)} {currency}"
    if not record.reproduced:
        yield "  Priced again now, the card gives something else. This is a defect; please report it."
    for adjustment in record.adjustments:
        yield from _adjustment_text(adjustment, currency)
    if record.adjustments:
        yield ""
        yield f"  charged now {decimal_string(record.adjusted_cost.picos, 2)} {currency}"


def _reported_text(usage: ProviderUsage, flags: tuple[str, ...]) -> Iterator[str]:
    yield f"  reported   by {cell_text(usage.provider)}, {cell_text(usage.api)}: {cell_text(usage.usage_json)}"
    if flags:
        yield f"  remarks    {', '.join(cell_text(flag) for flag in flags)}"


def _row_text(record: RecordExplanation) -> str:
    if not record.rate_card_row:
        return "none: the card has no row for the model" if record.model else "none: usage without a model"
    how = _RESOLUTIONS.get(record.resolution, record.resolution.value.lower())
    return f"{cell_text(record.rate_card_row)}, by {how.format(cell_text(record.matched_name))}"


def _line_text(explained: ExplainedLine, currency: str) -> Iterator[str]:
    line = explained.line
    chain = " -> ".join(explained.price_chain)
    if line.unpriced:
        yield f"  {line.usage_class}: {line.quantity:,}, unpriced: no price for {chain}"
        return
    note = f", priced as {chain}" if line.priced_as != line.usage_class else ""
    if line.billed_quantity != line.quantity:
        note += f", used {line.quantity:,}, the minimum is charged"
    yield f"  {line.usage_class}{note}"
    amount = f"{line.billed_quantity:,} x {line.unit_price} / {line.per:,}"
    is_rounded = "/" in explained.exact_picos
    exact = f" = {explained.exact_picos} pico-units, rounded half to even" if is_rounded else ""
    yield f"      {amount}{exact} = {decimal_string(line.cost_picos, 2)} {currency}"


def _adjustment_text(adjustment: RecordAdjustment, currency: str) -> Iterator[str]:
    yield ""
    name = adjustment.kind.value.capitalize()
    yield f"{name} {adjustment.record_id}, posted {time_text(adjustment.post_time)} by {adjustment.author}"
    yield f"  note       {cell_text(adjustment.note)}"
    yield (
        f"  card       version {adjustment.rate_card_version} ({adjustment.rate_card_id[:SHORT_ID]}),"
        f" row {cell_text(adjustment.rate_card_row) or 'none'}"
    )
    for line in adjustment.lines:
        if adjustment.kind is not CorrectionKind.ADJUSTMENT:
            price = f" x {line.unit_price} / {line.per:,}" if line.per else ", unpriced"
            difference = _signed(line.difference_picos)
            yield f"  {line.usage_class}"
            yield f"      {line.quantity:+,}: {line.billed_quantity:,}{price} = {difference} {currency}"
            continue
        before = "unpriced" if line.was_unpriced else decimal_string(line.previous_cost_picos, 2)
        now = decimal_string(line.previous_cost_picos + line.difference_picos, 2)
        yield f"  {line.usage_class}"
        yield (
            f"      {line.billed_quantity:,} x {line.unit_price} / {line.per:,} = {now} {currency},"
            f" was {before}: {_signed(line.difference_picos)}"
        )
    yield f"  difference {_signed(adjustment.cost.picos)} {currency}"


def _signed(picos: int) -> str:
    text = decimal_string(picos, 2)
    return text if picos < 0 else f"+{text}"


def _document(record: RecordExplanation) -> dict[str, Any]:
    card = record.rate_card
    return {
        "tenant": record.tenant,
        "record_id": record.record_id,
        "occur_time": time_text(record.occur_time),
        "receive_time": time_text(record.receive_time),
        "model": record.model or None,
        "provider": record.provider or None,
        "tier": record.tier or None,
        "region": record.region or None,
        "speed": record.speed or None,
        "calls": record.calls,
        "attributes": dict(sorted(record.attributes.items())),
        "rate_card": None
        if card is None
        else {
            "rate_card_id": card.rate_card_id,
            "version": card.version,
            "effective_time": time_text(card.effective_time),
            "author": card.author,
            "note": card.note,
        },
        "rate_card_row": record.rate_card_row or None,
        "resolution": record.resolution.value,
        "matched_name": record.matched_name or None,
        "prompt_tokens": record.prompt_tokens,
        "overlays": [
            {"position": one.position, "condition": one.condition, "effect": one.effect}
            for one in record.overlays
        ],
        "lines": [_line_document(line) for line in record.lines],
        "currency": record.cost.currency_code,
        "cost": decimal_string(record.cost.picos, 2),
        "reproduced": record.reproduced,
        "adjustments": [_adjustment_document(adjustment) for adjustment in record.adjustments],
        "adjusted_cost": decimal_string(record.adjusted_cost.picos, 2),
        "tenant_prices_version": record.tenant_prices_version or None,
        "list_cost": decimal_string(record.list_cost.picos, 2),
        "provider_usage": None
        if record.provider_usage is None
        else {
            "provider": record.provider_usage.provider,
            "api": record.provider_usage.api,
            "usage_json": record.provider_usage.usage_json,
            "flags": list(record.usage_flags),
        },
    }


def _line_document(explained: ExplainedLine) -> dict[str, Any]:
    line = explained.line
    return {
        "usage_class": line.usage_class,
        "price_chain": list(explained.price_chain),
        "priced_as": line.priced_as or None,
        "quantity": line.quantity,
        "billed_quantity": line.billed_quantity,
        "unit_price": line.unit_price or None,
        "per": line.per or None,
        "exact_picos": explained.exact_picos or None,
        "cost": decimal_string(line.cost_picos, 2),
        "unpriced": line.unpriced,
    }


def _adjustment_document(adjustment: RecordAdjustment) -> dict[str, Any]:
    return {
        "record_id": adjustment.record_id,
        "kind": adjustment.kind.value.lower(),
        "calls": adjustment.calls,
        "post_time": time_text(adjustment.post_time),
        "author": adjustment.author,
        "note": adjustment.note,
        "rate_card_id": adjustment.rate_card_id,
        "rate_card_version": adjustment.rate_card_version,
        "rate_card_row": adjustment.rate_card_row or None,
        "lines": [_adjusted_line_document(line) for line in adjustment.lines],
        "difference": decimal_string(adjustment.cost.picos, 2),
    }


def _adjusted_line_document(line: AdjustedLine) -> dict[str, Any]:
    return {
        "usage_class": line.usage_class,
        "priced_as": line.priced_as or None,
        "quantity": line.quantity,
        "billed_quantity": line.billed_quantity,
        "unit_price": line.unit_price or None,
        "per": line.per or None,
        "previous_cost": decimal_string(line.previous_cost_picos, 2),
        "difference": decimal_string(line.difference_picos, 2),
        "was_unpriced": line.was_unpriced,
    }
