# SPDX-License-Identifier: Apache-2.0
"""`taximeter rate-card withdraw`, `verify` and `tenant-prices`: the history of prices, and who pays something else."""

import json
from datetime import datetime
from typing import Any

import click

from taximeter.cli.app import App, TaximeterGroup, pass_app
from taximeter.cli.card_reference import problem_row
from taximeter.cli.output import (
    CSV,
    JSON,
    TABLE,
    Column,
    output_option,
    write,
    write_fields,
    write_json,
)
from taximeter.cli.parameters import COUNT, InstantType
from taximeter.cli.rate_card import YAML, entry_fields, rate_card, read_text, short_ids, write_warnings
from taximeter.settings import PublishedRateCard

_DIFFERENCE_COLUMNS = (
    Column("version", "version", numeric=True),
    Column("document_id", "card"),
    Column("place", "place"),
    Column("message", "what differs"),
)
_PRICES_COLUMNS = (
    Column("tenant", "tenant"),
    Column("version", "version", numeric=True),
    Column("tenant_prices_id", "prices"),
    Column("effective_time", "effective"),
    Column("author", "author"),
    Column("note", "note"),
)
_MARKUP = click.IntRange(-10_000, 100_000)


@rate_card.command()
@click.argument("version", type=click.IntRange(min=1))
@click.option("--expected-version", type=COUNT, help="Refuse unless this is the newest version.")
@click.option("--note", default="", help="Why.")
@output_option(TABLE, JSON)
@pass_app
def withdraw(app: App, version: int, expected_version: int | None, note: str, output: str) -> None:
    """Withdraws a future entry, until 5 s before it takes force.

    VERSION is that of a card or of a tenant's own prices in `rate-card list`. Nothing is deleted: the withdrawal
    is an entry itself.
    """
    withdrawn = app.meter.withdraw_rate_card(version, expected_version=expected_version, note=note)
    _write_published(withdrawn, output, unchanged="Nothing changed: it was withdrawn before.")


@rate_card.command()
@output_option(TABLE, JSON)
@click.pass_context
def verify(ctx: click.Context, output: str) -> None:
    """Proves that no entry and no card was changed. Exit code 1 when one byte differs anywhere.

    Compares the hash chain and every card in the store with their copies beside the ledger.
    """
    found = ctx.ensure_object(App).meter.verify_rate_cards()
    differences = [
        {"version": d.version, "document_id": d.document_id, "place": d.place, "message": d.message}
        for d in found.differences
    ]
    document = {
        "entry_count": found.entry_count,
        "document_count": found.document_count,
        "file_count": found.file_count,
        "chain_hash": found.chain_hash,
        "differences": differences,
    }
    rows = short_ids(differences, "document_id") if output == TABLE else differences
    counted = f"{found.entry_count} entries, {found.document_count} cards and {found.file_count} files"
    good = f"Good. {counted} are as they were published; the newest chain hash is {found.chain_hash}."
    write(output, document, _DIFFERENCE_COLUMNS, rows, empty=good)
    if differences:
        ctx.exit(1)


@rate_card.group("tenant-prices", cls=TaximeterGroup)
def tenant_prices() -> None:
    """Set what single tenants are charged instead of the card's prices."""


@tenant_prices.command()
@click.argument("tenant")
@click.argument("file", type=click.File(encoding="utf-8"), required=False)
@click.option(
    "--markup",
    "markup_basis_points",
    type=_MARKUP,
    help="Instead of FILE: hundredths of a per cent on every list price, such as -1000 for ten per cent less.",
)
@click.option(
    "--effective-time", type=InstantType(), help="When they take force. Default: as early as possible."
)
@click.option("--expected-version", type=COUNT, help="Refuse unless this is the newest version.")
@click.option("--note", default="", help="Why.")
@output_option(TABLE, JSON)
@pass_app
def put(
    app: App, /, tenant: str, file: Any, markup_basis_points: int | None, output: str, **options: Any
) -> None:
    """Sets the own prices of TENANT and of everything below it that has none of its own.

    FILE is YAML like a rate card, with own rows, `markup_basis_points`, or both; - reads stdin. The list price
    stays on every line beside the price that is charged.
    """
    if (file is None) == (markup_basis_points is None):
        message = "Give a FILE or --markup, one of them."
        raise click.UsageError(message)
    markup_only = f"billing:\n  markup_basis_points: {markup_basis_points}\n"
    yaml = markup_only if file is None else read_text(file)
    published = app.meter.put_tenant_prices(tenant, yaml, **options)
    _write_published(published, output, unchanged="Nothing changed: the newest prices are the same.")


@tenant_prices.command()
@click.argument("tenant")
@click.option("--effective-time", type=InstantType(), help="When they end. Default: as early as possible.")
@click.option("--expected-version", type=COUNT, help="Refuse unless this is the newest version.")
@click.option("--note", default="", help="Why.")
@output_option(TABLE, JSON)
@pass_app
def remove(app: App, /, tenant: str, output: str, **options: Any) -> None:
    """Ends the own prices of TENANT: those of its parents, or the card's, apply again."""
    fields = entry_fields(app.meter.remove_tenant_prices(tenant, **options))
    if output == JSON:
        write_json(fields)
    else:
        write_fields(fields)


@tenant_prices.command()
@click.argument("tenant")
@click.option("--at", "at_time", type=InstantType(), help="Show the prices in force then. Default: now.")
@output_option(YAML, JSON)
@pass_app
def get(app: App, tenant: str, at_time: datetime | None, output: str) -> None:
    """Shows the own prices that apply to TENANT, its own or those of the nearest parent."""
    prices = app.meter.get_tenant_prices(tenant, at_time=at_time)
    if output == JSON:
        write_json(
            {
                **entry_fields(prices.entry),
                "tenant_prices": json.loads(prices.canonical_json),
                "yaml": prices.yaml,
            }
        )
    else:
        click.echo(prices.yaml, nl=not prices.yaml.endswith("\n"))


@tenant_prices.command("list")
@click.option("--at", "at_time", type=InstantType(), help="List those in force then. Default: now.")
@output_option(TABLE, JSON, CSV)
@pass_app
def list_command(app: App, at_time: datetime | None, output: str) -> None:
    """Lists the tenants that have own prices in force."""
    entries = [entry_fields(entry) for entry in app.meter.list_tenant_prices(at_time=at_time)]
    rows = short_ids(entries, "tenant_prices_id") if output == TABLE else entries
    write(output, {"entries": entries}, _PRICES_COLUMNS, rows, empty="No tenant has own prices.")


def _write_published(published: PublishedRateCard, output: str, *, unchanged: str) -> None:
    fields = entry_fields(published.entry)
    warnings = [problem_row(warning) for warning in published.warnings]
    if output == JSON:
        write_json({"created": published.created, **fields, "warnings": warnings})
        return
    if not published.created:
        click.echo(unchanged)
    write_fields(fields)
    write_warnings(warnings)
