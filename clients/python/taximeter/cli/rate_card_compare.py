# SPDX-License-Identifier: Apache-2.0
"""`taximeter rate-card compare`: what recorded usage costs by another card, and how to charge that."""

from collections.abc import Sequence
from typing import Any

import click

from taximeter.cli.app import App
from taximeter.cli.card_reference import (
    RECORDED,
    CardType,
    NamedCard,
    identity_document,
    identity_text,
    require_good_files,
)
from taximeter.cli.output import (
    CSV,
    JSON,
    TABLE,
    Column,
    cell_text,
    output_option,
    progress_console,
    time_text,
    write,
)
from taximeter.cli.parameters import period_options
from taximeter.money import decimal_string
from taximeter.period import Period
from taximeter.rate_cards import CURRENT_CARD, CardComparison, CardReference, ComparedCards, PostedAdjustments

_COST_DIGITS_MIN = 2


@click.command()
@click.argument("card_a", type=CardType(accept_recorded=True), metavar="A")
@click.argument("card_b", type=CardType(), metavar="B")
@period_options(default=None)
@click.option("--tenant", default="", help="Only this tenant and everything below it.")
@click.option("--only-unpriced", is_flag=True, help="Only lines that have no price until now.")
@click.option(
    "--post-adjustments",
    is_flag=True,
    help="Charge the differences: post an adjustment for each record. A must be recorded, B published.",
)
@click.option(
    "--note", default="", help="Why; required with --post-adjustments, and kept in each adjustment."
)
@click.option("--yes", is_flag=True, help="Post without asking.")
@output_option(TABLE, JSON, CSV)
@click.pass_context
def compare(  # noqa: PLR0913 - by name, one per option
    ctx: click.Context,
    *,
    card_a: NamedCard,
    card_b: NamedCard,
    period: Period,
    tenant: str,
    only_unpriced: bool,
    post_adjustments: bool,
    note: str,
    yes: bool,
    output: str,
) -> None:
    """Prices recorded usage again, by tenant and model: by card A and by card B. Changes nothing.

    A and B are card ids or their first 8 or more digits, versions of the timeline, @TIME, current, or YAML files. A may
    also be recorded: what was charged, adjustments included.
    """
    if post_adjustments:
        _check_posting(card_a, card_b, note)
    require_good_files(ctx, card_a, card_b)
    meter = ctx.ensure_object(App).meter
    with progress_console().status("Comparing") as status:
        found = meter.compare_rate_cards(
            period.start_time,
            period.end_time,
            card_a=card_a.reference,
            card_b=card_b.reference or CURRENT_CARD,
            tenant=tenant,
            only_unpriced=only_unpriced,
            on_progress=lambda records_read: status.update(f"Comparing: {records_read:,} records"),
        )
    if not post_adjustments:
        _write(
            _compared_document(found, period),
            found.rows,
            found.total,
            output,
            _title(found, card_a, card_b, period),
        )
        return
    if output == TABLE:
        _write({}, found.rows, found.total, output, _title(found, card_a, card_b, period))
    if found.total.changed_records == 0:
        click.echo("There is nothing to post.", err=True)
    elif not yes:
        total = found.total
        amount = (
            f"{decimal_string(total.difference.picos, _COST_DIGITS_MIN)} {total.difference.currency_code}"
        )
        question = f"Post adjustments of {amount} for {total.changed_records:,} records?"
        click.confirm(question, abort=True, err=True)
    with progress_console().status("Posting") as status:
        # Not the card as it was named: another one may be current by now than the one that was compared.
        posted = meter.post_adjustments(
            period.start_time,
            period.end_time,
            card=CardReference(version=found.card_b.version),
            note=note,
            tenant=tenant,
            only_unpriced=only_unpriced,
            on_progress=lambda records_read: status.update(f"Posting: {records_read:,} records"),
        )
    _write_posted(posted, period, note, output)
    if posted.conflicts:
        text = f"{posted.conflicts:,} records were adjusted by somebody else meanwhile; run this again to correct them."
        click.echo(text, err=True)
        ctx.exit(1)


def _check_posting(card_a: NamedCard, card_b: NamedCard, note: str) -> None:
    if card_a.reference is not None:
        text = f"--post-adjustments corrects what was charged: A must be {RECORDED}, not {card_a.text}."
        raise click.UsageError(text)
    if card_b.reference is not None and card_b.reference.yaml:
        raise click.UsageError(f"--post-adjustments needs a published card: publish {card_b.text} first.")
    if not note.strip():
        raise click.UsageError("--post-adjustments needs --note: why the charges change.")


def _columns(currency: str) -> list[Column]:
    return [
        Column("tenant", "tenant"),
        Column("model", "model"),
        Column("calls", "calls", numeric=True),
        Column("changed_records", "records changed", numeric=True),
        Column("cost_a", f"cost A {currency}".rstrip(), numeric=True),
        Column("cost_b", f"cost B {currency}".rstrip(), numeric=True),
        Column("difference", "difference", numeric=True),
        Column("difference_percent", "%", numeric=True),
        Column("unpriced_lines_a", "unpriced A", numeric=True, optional=True),
        Column("unpriced_lines_b", "unpriced B", numeric=True, optional=True),
    ]


def _row(found: CardComparison) -> dict[str, Any]:
    return {
        "tenant": found.tenant,
        "model": found.model,
        "calls": found.calls,
        "changed_records": found.changed_records,
        "cost_a": decimal_string(found.cost_a.picos, _COST_DIGITS_MIN),
        "cost_b": decimal_string(found.cost_b.picos, _COST_DIGITS_MIN),
        "difference": decimal_string(found.difference.picos, _COST_DIGITS_MIN),
        "difference_percent": found.difference_percent or None,
        "unpriced_lines_a": found.unpriced_lines_a,
        "unpriced_lines_b": found.unpriced_lines_b,
    }


def _total(found: CardComparison) -> dict[str, Any]:
    return {name: value for name, value in _row(found).items() if name not in {"tenant", "model"}}


def _period_document(period: Period) -> dict[str, Any]:
    return {
        "from": period.first.isoformat(),
        "to": period.last.isoformat(),
        "time_zone": period.time_zone.key,
    }


def _compared_document(found: ComparedCards, period: Period) -> dict[str, Any]:
    return {
        "card_a": RECORDED if found.card_a is None else identity_document(found.card_a),
        "card_b": identity_document(found.card_b),
        **_period_document(period),
        "as_of_time": time_text(found.as_of_time),
        "currency": found.total.cost_a.currency_code,
        "rows": [_row(row) for row in found.rows],
        "total": _total(found.total),
    }


def _write_posted(posted: PostedAdjustments, period: Period, note: str, output: str) -> None:
    document = {
        "card": identity_document(posted.card),
        **_period_document(period),
        "note": note,
        "adjustments_posted": posted.adjustments_posted,
        "conflicts": posted.conflicts,
        "currency": posted.total.cost_a.currency_code,
        "rows": [_row(row) for row in posted.rows],
        "total": _total(posted.total),
    }
    records = cell_text(posted.adjustments_posted)
    title = f"Posted {records} adjustments, {identity_text('', posted.card)}"
    _write(document, posted.rows, posted.total, output, title, empty="Posted no adjustments.")


def _title(found: ComparedCards, card_a: NamedCard, card_b: NamedCard, period: Period) -> str:
    a, b = identity_text(card_a.text, found.card_a), identity_text(card_b.text, found.card_b)
    return f"A {a}, B {b}, {_days(period)}"


def _days(period: Period) -> str:
    days = period.first.isoformat()
    return days if period.first == period.last else f"{days} to {period.last.isoformat()}"


def _write(
    document: Any,
    rows: Sequence[CardComparison],
    total: CardComparison,
    output: str,
    title: str,
    *,
    empty: str = "No usage in this period.",
) -> None:
    columns = _columns(total.cost_a.currency_code)
    named_total = {"tenant": "total", "model": "", **_total(total)}
    write(output, document, columns, [_row(row) for row in rows], title=title, total=named_total, empty=empty)
