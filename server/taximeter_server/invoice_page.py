# SPDX-License-Identifier: Apache-2.0
"""What an invoice says to its customer, in words and in order; invoice_html.py and invoice_pdf.py only set it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from taximeter_server.invoice import (
    CALLS,
    CREDIT,
    CREDIT_NOTE,
    DRAFT,
    INVOICE,
    MICROCREDITS,
    PAID,
    REVERSAL,
    ROUNDING,
    SECONDS,
    VOID,
    Invoice,
    InvoiceLine,
    to_picos,
)
from taximeter_server.invoice_issuer import Issuer
from taximeter_server.payment_accounts import PaymentAccount

_TITLES = {INVOICE: "Invoice", CREDIT_NOTE: "Credit note", REVERSAL: "Reversal"}
_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_PICO_DIGITS = 12
_SECONDS_PER_DAY = 86_400
_MICROCREDITS_PER_CREDIT_DIGITS = 6


@dataclass(frozen=True, slots=True)
class PageLine:
    """One line of the table. exact: the amount to the last digit, "" where the rounded one is exact."""

    description: str
    period: str
    quantity: str
    amount: str
    exact: str


@dataclass(frozen=True, slots=True)
class InvoicePage:
    """A document in words. facts and totals: name and value; the last total is the one that matters."""

    title: str
    number: str
    state: str
    facts: Sequence[tuple[str, str]]
    issuer_name: str
    issuer_lines: Sequence[str]
    customer_name: str
    customer_lines: Sequence[str]
    currency_code: str
    lines: Sequence[PageLine]
    totals: Sequence[tuple[str, str]]
    notes: Sequence[str]
    footer: str


def make_page(invoice: Invoice, issuer: Issuer, account: PaymentAccount | None) -> InvoicePage:
    """Put an invoice into words. account: how the customer pays, if that was ever said."""
    number = invoice.number or "draft"
    lines = [_line(line, invoice) for line in invoice.lines if line.kind != ROUNDING]
    name = invoice.customer_name or (account.name if account else "") or invoice.tenant
    return InvoicePage(
        title=_TITLES[invoice.kind],
        number=number,
        state=_state(invoice),
        facts=_facts(invoice),
        issuer_name=issuer.name,
        issuer_lines=_issuer_lines(issuer),
        customer_name=name,
        customer_lines=_customer_lines(invoice, account),
        currency_code=invoice.currency_code,
        lines=lines,
        totals=_totals(invoice),
        notes=_notes(invoice, issuer),
        footer=issuer.footer,
    )


def decimal_text(number: int, digits: int) -> str:
    """Return an integer of so many decimals in groups of three digits; below 0 with a minus sign in front."""
    whole, rest = divmod(abs(number), 10**digits)
    text = f"{whole:,}" + (f".{rest:0{digits}}" if digits else "")
    return f"-{text}" if number < 0 else text


def _state(invoice: Invoice) -> str:
    if invoice.state == DRAFT:
        return "Draft: amounts may still change"
    # The last one of a subscription may owe its customer something, which nobody here pays.
    if invoice.kind == INVOICE and invoice.state == PAID and invoice.total_minor < 0:
        return "To be paid back"
    # What takes an invoice back is not to be paid by anybody.
    return {PAID: "Paid", VOID: "Void"}.get(invoice.state, "") if invoice.kind == INVOICE else ""


def _facts(invoice: Invoice) -> list[tuple[str, str]]:
    zone = ZoneInfo(invoice.time_zone)
    found = [("Number", invoice.number)] if invoice.number else []
    if invoice.finalize_time_ms is not None:
        found.append(("Date", _day(invoice.finalize_time_ms, zone)))
    found.append(("Period", _period(invoice.period_start_ms, invoice.period_end_ms, zone)))
    if invoice.due_time_ms is not None and invoice.due_minor:
        found.append(("Due", _day(invoice.due_time_ms, zone)))
    if invoice.paid_time_ms is not None:
        found.append(("Paid", _day(invoice.paid_time_ms, zone)))
    if invoice.original_invoice_id:
        number = next((line.item for line in invoice.lines if line.kind == CREDIT), "")
        found.append(("For invoice", number or invoice.original_invoice_id))
    if invoice.reason:
        found.append(("Reason", invoice.reason))
    return found


def _issuer_lines(issuer: Issuer) -> list[str]:
    tax = f"Tax number {issuer.tax_id}" if issuer.tax_id else ""
    return [line for line in (*issuer.address_lines, issuer.email, issuer.website, tax) if line]


def _customer_lines(invoice: Invoice, account: PaymentAccount | None) -> list[str]:
    found = [f"Account {invoice.tenant}"]
    if account is not None:
        tax = f"Tax number {account.tax_id}" if account.tax_id else ""
        found = [line for line in (*account.address_lines, account.email, tax) if line] + found
    return found


def _line(line: InvoiceLine, invoice: Invoice) -> PageLine:
    is_exact = to_picos(line.amount_minor, invoice.minor_digits) == line.amount_picos
    return PageLine(
        description=line.description,
        period=_period(line.start_ms, line.end_ms, ZoneInfo(invoice.time_zone)),
        quantity=_quantity(line.quantity, line.unit),
        amount=decimal_text(line.amount_minor, invoice.minor_digits),
        exact="" if is_exact else _trimmed(line.amount_picos, _PICO_DIGITS),
    )


def _quantity(quantity: int, unit: str) -> str:
    if unit == SECONDS:
        days, rest = divmod(quantity, _SECONDS_PER_DAY)
        if not rest:
            return f"{decimal_text(days, 0)} day{'' if days == 1 else 's'}"
        return f"{decimal_text(quantity, 0)} s"
    if unit == MICROCREDITS:
        return f"{_trimmed(quantity, _MICROCREDITS_PER_CREDIT_DIGITS)} credits"
    if unit == CALLS:
        return f"{decimal_text(quantity, 0)} call{'' if quantity == 1 else 's'}"
    return decimal_text(quantity, 0) if quantity else ""


def _trimmed(number: int, digits: int) -> str:
    text = decimal_text(number, digits)
    return text.rstrip("0").rstrip(".")


def _totals(invoice: Invoice) -> list[tuple[str, str]]:
    digits = invoice.minor_digits
    rounding = sum(line.amount_minor for line in invoice.lines if line.kind == ROUNDING)
    found = []
    if any(line.kind == ROUNDING for line in invoice.lines):
        found = [
            ("Sum of lines", decimal_text(invoice.total_minor - rounding, digits)),
            ("Rounding", decimal_text(rounding, digits)),
        ]
    total = ("Total", f"{invoice.currency_code} {decimal_text(invoice.total_minor, digits)}")
    found.append(total)
    if invoice.kind == INVOICE and invoice.state != DRAFT:
        if invoice.credited_minor:
            found.append(("Credited", decimal_text(-invoice.credited_minor, digits)))
        due = f"{invoice.currency_code} {decimal_text(invoice.due_minor, digits)}"
        found.append(("Amount due", due))
    return found


def _notes(invoice: Invoice, issuer: Issuer) -> list[str]:
    found = [issuer.tax_note]
    if invoice.due_minor:
        found += [issuer.payment_note, f"Pay online: {invoice.url}" if invoice.url else ""]
    return [note for note in found if note]


def _period(start_ms: int, end_ms: int, zone: ZoneInfo) -> str:
    """Return a half-open interval as its first and last day."""
    first, last = _moment(start_ms, zone), _moment(max(start_ms, end_ms - 1), zone)
    end = _day(end_ms - 1, zone)
    if first.date() == last.date():
        return _day(start_ms, zone)
    if (first.year, first.month) == (last.year, last.month):
        return f"{first.day}\N{EN DASH}{end}"
    if first.year == last.year:
        return f"{first.day} {_MONTHS[first.month - 1]} \N{EN DASH} {end}"
    return f"{_day(start_ms, zone)} \N{EN DASH} {end}"


def _day(time_ms: int, zone: ZoneInfo) -> str:
    moment = _moment(time_ms, zone)
    return f"{moment.day} {_MONTHS[moment.month - 1]} {moment.year}"


def _moment(time_ms: int, zone: ZoneInfo) -> datetime:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=time_ms)).astimezone(zone)
