# SPDX-License-Identifier: Apache-2.0
"""`taximeter billing invoice`: drafts, invoices, credit notes and reversals."""

from pathlib import Path
from typing import Any

import click

from taximeter.billing import Invoice, InvoiceFormat, InvoiceLine
from taximeter.cli.app import App, TaximeterGroup, pass_app
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
from taximeter.cli.parameters import AmountType
from taximeter.money import decimal_string

_PICOS_PER_UNIT = 10**12
_COLUMNS = (
    Column("number", "number"),
    Column("kind", "kind"),
    Column("state", "state"),
    Column("period_start_time", "from"),
    Column("period_end_time", "to"),
    Column("total", "total", numeric=True),
    Column("due", "due", numeric=True),
    Column("currency", "currency"),
    Column("due_time", "due on"),
    Column("id", "id"),
)
_LINE_COLUMNS = (
    Column("description", "line"),
    Column("service_start_time", "from"),
    Column("service_end_time", "to"),
    Column("quantity", "quantity", numeric=True),
    Column("unit", "unit"),
    Column("amount_exact", "exact", numeric=True),
    Column("amount", "amount", numeric=True),
)


_FILE = click.Path(dir_okay=False, path_type=Path)


@click.group(cls=TaximeterGroup)
def invoice() -> None:
    """Show, finalise, void and credit invoices."""


@invoice.command("list")
@click.option("--tenant", default="", help="Root tenant. Default: the only one that can be meant.")
@output_option(TABLE, JSON, CSV)
@pass_app
def list_command(app: App, tenant: str, output: str) -> None:
    """Lists drafts, invoices, credit notes and reversals, newest first."""
    found = [_head(one) for one in app.meter.list_invoices(tenant)]
    write(output, {"invoices": found}, _COLUMNS, found, empty="There are no invoices.")


@invoice.command()
@click.argument("invoice_id", metavar="INVOICE")
@click.option("--html", type=_FILE, help="Write it as a page of HTML into this file instead.")
@click.option("--pdf", type=_FILE, help="Write it as a PDF into this file instead.")
@output_option(TABLE, JSON, CSV)
@pass_app
def show(app: App, invoice_id: str, html: Path | None, pdf: Path | None, output: str) -> None:
    """Shows an INVOICE, by number or id, with its lines. CSV is the lines alone.

    With --html or --pdf it is written as its customer gets it.
    """
    for path, file_format in ((html, InvoiceFormat.HTML), (pdf, InvoiceFormat.PDF)):
        if path is not None:
            _write_file(path, app.meter.render_invoice(invoice_id, file_format))
    if html is None and pdf is None:
        _write(app.meter.get_invoice(invoice_id), output)


@invoice.command()
@click.argument("invoice_id", metavar="INVOICE")
@output_option(TABLE, JSON, CSV)
@pass_app
def finalize(app: App, invoice_id: str, output: str) -> None:
    """Makes a document of the draft INVOICE, whose period is over, before it becomes one by itself."""
    _write(app.meter.finalize_invoice(invoice_id), output)


@invoice.command()
@click.argument("invoice_id", metavar="INVOICE")
@click.option("--reason", required=True, help="Why; it stands on the reversal.")
@output_option(TABLE, JSON, CSV)
@pass_app
def void(app: App, invoice_id: str, reason: str, output: str) -> None:
    """Takes back an INVOICE that is not paid, and shows the reversal.

    What it billed comes onto the next invoice.
    """
    _, reversal = app.meter.void_invoice(invoice_id, reason)
    _write(reversal, output)


@invoice.command("credit-note")
@click.argument("invoice_id", metavar="INVOICE")
@click.option(
    "--amount",
    "amount_picos",
    type=AmountType(),
    required=True,
    help="Amount in units of the currency, such as 12.50.",
)
@click.option("--reason", required=True, help="Why; it stands on the credit note.")
@click.option("--request-id", required=True, help="Name of this credit note: the same name gives it once.")
@output_option(TABLE, JSON, CSV)
@pass_app
def credit_note(
    app: App, invoice_id: str, amount_picos: int, reason: str, request_id: str, output: str
) -> None:
    """Gives back part of an INVOICE, or all, and shows the credit note."""
    digits = app.meter.get_invoice(invoice_id).minor_digits
    amount_minor, rest = divmod(amount_picos * 10**digits, _PICOS_PER_UNIT)
    if rest:
        message = f"--amount has more than the {digits} decimals of the currency."
        raise click.UsageError(message)
    _write(app.meter.create_credit_note(invoice_id, amount_minor, reason, request_id=request_id), output)


def _minor(amount_minor: int, digits: int) -> str:
    return decimal_string(amount_minor * _PICOS_PER_UNIT // 10**digits, digits)


def _head(found: Invoice) -> dict[str, Any]:
    return {
        "id": found.invoice_id,
        "number": found.number or None,
        "kind": found.kind.value.lower(),
        "state": found.state.value.lower(),
        "tenant": found.tenant,
        "customer_name": found.customer_name or None,
        "currency": found.currency_code,
        "total": _minor(found.total_minor, found.minor_digits),
        "credited": _minor(found.credited_minor, found.minor_digits),
        "due": _minor(found.due_minor, found.minor_digits),
        "period_start_time": time_text(found.period_start_time),
        "period_end_time": time_text(found.period_end_time),
        "time_zone": found.time_zone,
        "finalize_time": time_text(found.finalize_time),
        "due_finalize_time": time_text(found.due_finalize_time),
        "due_time": time_text(found.due_time),
        "paid_time": time_text(found.paid_time),
        "void_time": time_text(found.void_time),
        "original_invoice": found.original_invoice_id or None,
        "reason": found.reason or None,
        "as_of": found.as_of,
        "content_sha256": found.content_sha256 or None,
        "url": found.url or None,
    }


def _line(line: InvoiceLine, digits: int) -> dict[str, Any]:
    return {
        "kind": line.kind.value.lower(),
        "description": line.description,
        "service_start_time": time_text(line.service_start_time),
        "service_end_time": time_text(line.service_end_time),
        "item": line.item or None,
        "quantity": line.quantity,
        "unit": line.unit or None,
        "amount_exact": decimal_string(line.amount.picos, digits),
        "amount": _minor(line.amount_minor, digits),
        "correction": line.correction,
    }


def _write(found: Invoice, output: str) -> None:
    head = _head(found)
    lines = [_line(line, found.minor_digits) for line in found.lines]
    if output == JSON:
        write_json({**head, "lines": lines})
        return
    if output == TABLE:
        write_fields({name: value for name, value in head.items() if value is not None})
        write_table(
            _LINE_COLUMNS, lines, total={"description": "total", "amount": head["total"]}, empty="No lines."
        )
        return
    write(output, {}, [Column("kind", "kind"), *_LINE_COLUMNS], lines)


def _write_file(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as error:
        message = f"cannot write {path}: {error.strerror}"
        raise click.ClickException(message) from error
    click.echo(f"Wrote {path}.", err=True)
