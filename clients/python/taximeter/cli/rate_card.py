# SPDX-License-Identifier: Apache-2.0
"""`taximeter rate-card`: what usage costs from when on."""

import json
from datetime import datetime
from typing import Any

import click

from taximeter.cli.app import App, TaximeterGroup, pass_app
from taximeter.cli.card_reference import PROBLEM_COLUMNS, SHORT_ID, problem_row, published_id
from taximeter.cli.output import (
    CSV,
    JSON,
    TABLE,
    Column,
    output_option,
    time_text,
    write,
    write_fields,
    write_json,
    write_table,
)
from taximeter.cli.parameters import COUNT, InstantType
from taximeter.errors import InvalidArgumentError
from taximeter.settings import RateCardEntry

YAML = "yaml"
_ENTRY_COLUMNS = (
    Column("version", "version", numeric=True),
    Column("kind", "kind"),
    Column("rate_card_id", "rate card"),
    Column("tenant", "tenant"),
    Column("withdrawn_version", "withdraws", numeric=True),
    Column("effective_time", "effective"),
    Column("withdrawn", "withdrawn"),
    Column("publish_time", "published"),
    Column("author", "author"),
    Column("note", "note"),
)


@click.group("rate-card", cls=TaximeterGroup)
def rate_card() -> None:
    """Validate, publish and show rate cards."""


@rate_card.command()
@click.argument("file", type=click.File(encoding="utf-8"))
@output_option(TABLE, JSON)
@click.pass_context
def validate(ctx: click.Context, file: Any, output: str) -> None:
    """Checks a card without publishing it; - reads stdin. Exit code 1 when it has problems.

    Warnings, such as of a price that is rounded, leave the exit code 0.
    """
    check = ctx.ensure_object(App).meter.validate_rate_card(read_text(file))
    problems = [problem_row(problem) for problem in check.problems]
    warnings = [problem_row(warning) for warning in check.warnings]
    document = {"rate_card_id": check.rate_card_id or None, "problems": problems, "warnings": warnings}
    write(output, document, PROBLEM_COLUMNS, problems, empty=f"Good. The card would be {check.rate_card_id}.")
    if output == TABLE:
        write_warnings(warnings)
    if problems:
        ctx.exit(1)


@rate_card.command()
@click.argument("file", type=click.File(encoding="utf-8"), required=False)
@click.option(
    "--card",
    "named",
    default="",
    help="Instead of FILE: id or version of a card to publish again, to go back to it.",
)
@click.option(
    "--effective-time", type=InstantType(), help="When it takes force. Default: as early as possible."
)
@click.option("--expected-version", type=COUNT, help="Refuse unless this is the newest version.")
@click.option("--note", default="", help="Why the card changes.")
@output_option(TABLE, JSON)
@pass_app
def publish(
    app: App,
    file: Any,
    named: str,
    effective_time: datetime | None,
    expected_version: int | None,
    note: str,
    output: str,
) -> None:
    """Publishes a card; - reads stdin. Usage keeps the prices that were in force when it happened."""
    if (file is None) == (not named):
        message = "Give a FILE or --card, one of them."
        raise click.UsageError(message)
    try:
        published = app.meter.publish_rate_card(
            "" if file is None else read_text(file),
            rate_card_id=published_id(app, named),
            effective_time=effective_time,
            expected_version=expected_version,
            note=note,
        )
    except InvalidArgumentError as error:
        if error.reason == "CARD_INVALID":
            click.echo("The card has problems; taximeter rate-card validate shows where.", err=True)
        raise
    entry = entry_fields(published.entry)
    warnings = [problem_row(warning) for warning in published.warnings]
    if output == JSON:
        write_json({"created": published.created, **entry, "warnings": warnings})
        return
    if not published.created:
        click.echo("Nothing changed: the newest card has the same content.")
    write_fields(entry)
    write_warnings(warnings)


@rate_card.command("list")
@output_option(TABLE, JSON, CSV)
@pass_app
def list_command(app: App, output: str) -> None:
    """Lists the timeline of cards, newest first."""
    entries = [entry_fields(entry) for entry in app.meter.list_rate_cards()]
    rows = short_ids(entries, "rate_card_id") if output == TABLE else entries
    write(output, {"entries": entries}, _ENTRY_COLUMNS, rows, empty="No card was published yet.")


@rate_card.command()
@click.argument("named", default="", metavar="[CARD]")
@click.option("--at", "at_time", type=InstantType(), help="Show the card in force then. Default: now.")
@output_option(YAML, JSON)
@pass_app
def show(app: App, named: str, at_time: datetime | None, output: str) -> None:
    """Shows a card as it was published.

    CARD is a card id or its first 8 or more digits, or a version; without it, the card in force at --at is shown.
    """
    if named and at_time is not None:
        raise click.UsageError("Give a CARD or --at, not both.")
    card = app.meter.get_rate_card(published_id(app, named), at_time=at_time)
    if output == JSON:
        write_json({**entry_fields(card.entry), "card": json.loads(card.canonical_json), "yaml": card.yaml})
    else:
        click.echo(card.yaml, nl=not card.yaml.endswith("\n"))


def read_text(file: Any) -> str:
    """Reads a file of the user's."""
    try:
        text: str = file.read()
    except UnicodeDecodeError as error:
        message = f"{file.name} is not UTF-8: {error}"
        raise click.ClickException(message) from error
    return text


def write_warnings(warnings: list[dict[str, Any]]) -> None:
    """Writes what may not be meant, for people."""
    if warnings:
        write_table(PROBLEM_COLUMNS, warnings, title="Warnings")


def short_ids(rows: list[dict[str, Any]], field: str) -> list[dict[str, Any]]:
    """Shortens the ids in a field, for people."""
    return [{**row, field: row[field] and row[field][:SHORT_ID]} for row in rows]


def entry_fields(entry: RateCardEntry) -> dict[str, Any]:
    """Returns an entry of the timeline as it is shown; what does not concern its kind is empty."""
    return {
        "version": entry.version,
        "kind": entry.kind.value,
        "rate_card_id": entry.rate_card_id or None,
        "tenant": entry.tenant or None,
        "tenant_prices_id": entry.tenant_prices_id or None,
        "withdrawn_version": entry.withdrawn_version or None,
        "withdrawn": entry.withdrawn,
        "effective_time": time_text(entry.effective_time),
        "publish_time": time_text(entry.publish_time),
        "author": entry.author,
        "note": entry.note,
        "chain_hash": entry.chain_hash,
    }
