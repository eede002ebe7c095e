# SPDX-License-Identifier: Apache-2.0
"""`taximeter rate-card diff`: what differs between two cards, in per cent."""

from typing import Any

import click

from taximeter.cli.app import App
from taximeter.cli.card_reference import (
    CardType,
    NamedCard,
    identity_document,
    identity_text,
    require_good_files,
)
from taximeter.cli.output import CSV, JSON, TABLE, Column, output_option, write
from taximeter.rate_cards import CURRENT_CARD, CardChange, CardPrice, ChangeKind

_PER_DEFAULT = 1_000_000
_COLUMNS = (
    Column("row", "row"),
    Column("change", "change"),
    Column("condition", "condition"),
    Column("usage_class", "class"),
    Column("before", "before", numeric=True),
    Column("after", "after", numeric=True),
    Column("change_percent", "change %", numeric=True),
)
_NAMES = {
    ChangeKind.PRICE: "price",
    ChangeKind.ROW_ADDED: "row added",
    ChangeKind.ROW_REMOVED: "row removed",
    ChangeKind.ALIAS: "alias",
    ChangeKind.DEFAULT: "default",
    ChangeKind.CLASS: "class",
    ChangeKind.UNKNOWN_MODEL: "unknown model",
    ChangeKind.CURRENCY: "currency",
}


@click.command()
@click.argument("card_a", type=CardType(), metavar="A")
@click.argument("card_b", type=CardType(), metavar="B", default="current")
@output_option(TABLE, JSON, CSV)
@click.pass_context
def diff(ctx: click.Context, card_a: NamedCard, card_b: NamedCard, output: str) -> None:
    """Says what differs from card A to card B: each price, under each condition, in per cent.

    A and B are card ids or their first 8 or more digits, versions of the timeline, @TIME, current, or YAML files. B is
    current where it is left out. Prices are per 1,000,000 units unless they say otherwise.
    """
    require_good_files(ctx, card_a, card_b)
    meter = ctx.ensure_object(App).meter
    # Only "recorded" has no reference, and it is not accepted here.
    found = meter.diff_rate_cards(card_a.reference or CURRENT_CARD, card_b.reference or CURRENT_CARD)
    document = {
        "card_a": identity_document(found.card_a),
        "card_b": identity_document(found.card_b),
        "changes": [_document(change) for change in found.changes],
    }
    names = f"{identity_text(card_a.text, found.card_a)} to {identity_text(card_b.text, found.card_b)}"
    rows = [_row(change, plain=output == CSV) for change in found.changes]
    write(output, document, _COLUMNS, rows, title=f"From {names}", empty=f"Nothing differs from {names}.")


def _document(change: CardChange) -> dict[str, Any]:
    return {
        "kind": change.kind.value,
        "row": change.row or None,
        "condition": change.condition or None,
        "usage_class": change.usage_class or None,
        "price_a": _price_document(change.price_a),
        "price_b": _price_document(change.price_b),
        "change_percent": change.change_percent or None,
        "value_a": change.value_a or None,
        "value_b": change.value_b or None,
    }


def _price_document(price: CardPrice | None) -> dict[str, Any] | None:
    if price is None:
        return None
    return {
        "unit_price": price.unit_price,
        "per": price.per,
        "priced_as": price.priced_as,
        "min_quantity": price.min_quantity,
    }


def _row(change: CardChange, *, plain: bool) -> dict[str, Any]:
    percent = change.change_percent
    return {
        "row": change.row,
        "change": _NAMES.get(change.kind, change.kind.value.lower()),
        "condition": change.condition,
        "usage_class": change.usage_class,
        "before": change.value_a or _price_text(change.price_a, change.usage_class),
        "after": change.value_b or _price_text(change.price_b, change.usage_class),
        "change_percent": percent if plain or not percent or percent.startswith("-") else f"+{percent}",
    }


def _price_text(price: CardPrice | None, usage_class: str) -> str:
    if price is None:
        return ""
    text = price.unit_price
    if price.per != _PER_DEFAULT:
        text += f" per {price.per:,}"
    if price.min_quantity:
        text += f", at least {price.min_quantity:,}"
    if price.priced_as != usage_class:
        text += f" (as {price.priced_as})"
    return text
