# SPDX-License-Identifier: Apache-2.0
"""`taximeter billing export`: usage as files that other systems import; docs/payments.md cites the formats."""

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

import click

from taximeter.cli.app import App, pass_app
from taximeter.cli.output import Column, csv_text, output_option
from taximeter.cli.parameters import PairType, period_options
from taximeter.errors import NotFoundError
from taximeter.money import PICOS_PER_UNIT
from taximeter.period import Period
from taximeter.report_query import ReportQuery
from taximeter.results import ReportRow

QUICKBOOKS, STRIPE = "quickbooks", "stripe"
ROUNDING = "Rounding"
_CENTS_PER_UNIT = 100
_PICOS_PER_MICRO = 1_000_000
_NUMBER_LENGTH_MAX = 21
"""Of an invoice number in QuickBooks."""
_QUICKBOOKS_COLUMNS = [
    Column("*InvoiceNo", ""),
    Column("*Customer", ""),
    Column("*InvoiceDate", ""),
    Column("*DueDate", ""),
    Column("Item(Product/Service)", ""),
    Column("ItemDescription", ""),
    Column("*ItemAmount", "", numeric=True),
    Column("Service Date", ""),
]
_STRIPE_COLUMNS = [
    Column("identifier", ""),
    Column("timestamp", "", numeric=True),
    Column("event_name", ""),
    Column("payload_stripe_customer_id", ""),
    Column("payload_value", "", numeric=True),
]


@click.command()
@period_options()
@click.option("--tenant", default="", help="Only this account. Default: all.")
@click.option(
    "--due-days", type=click.IntRange(0, 365), default=30, show_default=True, help="quickbooks: until due."
)
@click.option(
    "--item", default="AI usage", show_default=True, help="quickbooks: the product or service sold."
)
@click.option("--number-prefix", default="TX", show_default=True, help="quickbooks: before invoice numbers.")
@click.option(
    "--event-name", default="taximeter_usage", show_default=True, help="stripe: event name of the meter."
)
@click.option(
    "--customer",
    "customers",
    type=PairType(),
    multiple=True,
    help="TENANT=NAME: who that is there, repeatable. Default: as its payment account says.",
)
@output_option(QUICKBOOKS, STRIPE)
@pass_app
def export(app: App, /, period: Period, output: str, tenant: str, **options: Any) -> None:
    """Writes usage as a CSV that QuickBooks Online or Stripe imports.

    An invoice of QuickBooks has a line for each model in cents, and one for rounding, so that it adds up to the exact
    cost, rounded once. A meter event of Stripe is the cost of one account and UTC day in millionths of the currency.
    """
    customers = dict(options["customers"])
    if output == QUICKBOOKS:
        rows = _fetch(app, period, tenant, ("root_tenant", "model"))
        lines = list(_invoice_lines(app, rows, customers, period, options))
        click.echo(csv_text(_QUICKBOOKS_COLUMNS, lines), nl=False)
        return
    if period.time_zone.key != "UTC":
        raise click.UsageError("--format stripe: the days are those of UTC; leave --tz out.")
    rows = _fetch(app, period, tenant, ("root_tenant", "day"))
    events = list(_meter_events(app, rows, customers, options["event_name"]))
    click.echo(csv_text(_STRIPE_COLUMNS, events), nl=False)


def _fetch(app: App, period: Period, tenant: str, group_by: tuple[str, ...]) -> tuple[ReportRow, ...]:
    query = ReportQuery(
        start_time=period.start_time,
        end_time=period.end_time,
        tenant=tenant,
        group_by=group_by,
        time_zone=period.time_zone.key,
    )
    return tuple(app.meter.query_report(query).rows)


def _invoice_lines(
    app: App,
    rows: Iterable[ReportRow],
    customers: Mapping[str, str],
    period: Period,
    options: Mapping[str, Any],
) -> Iterable[dict[str, Any]]:
    by_tenant: dict[str, list[ReportRow]] = {}
    for row in rows:
        by_tenant.setdefault(row.group["root_tenant"] or "", []).append(row)
    due = period.last + timedelta(days=options["due_days"])
    for tenant, found in sorted(by_tenant.items()):
        number = f"{options['number_prefix']}{period.last:%y%m%d}-{tenant}"[:_NUMBER_LENGTH_MAX]
        head = {
            "*InvoiceNo": number,
            "*Customer": customers.get(tenant) or _account_name(app, tenant),
            "*InvoiceDate": _us_date(period.last),
            "*DueDate": _us_date(due),
            "Item(Product/Service)": options["item"],
            "Service Date": _us_date(period.last),
        }
        models = [(row.group["model"] or "no model", row.measures.cost.picos) for row in found]
        for description, cents in _rounded(models):
            yield {**head, "ItemDescription": description, "*ItemAmount": _cents_text(cents)}


def _rounded(models: list[tuple[str, int]]) -> Iterable[tuple[str, int]]:
    """Yield lines in cents, and what their sum lacks to the exact sum, rounded once."""
    total_cents = _cents(sum(picos for _, picos in models))
    lines = [(model, _cents(picos)) for model, picos in models]
    yield from lines
    rest_cents = total_cents - sum(cents for _, cents in lines)
    if rest_cents:
        yield ROUNDING, rest_cents


def _cents(picos: int) -> int:
    """Return the nearest whole cent, halves to the even one."""
    quotient, rest = divmod(picos * _CENTS_PER_UNIT, PICOS_PER_UNIT)
    twice = 2 * rest
    return quotient + (twice > PICOS_PER_UNIT or (twice == PICOS_PER_UNIT and quotient % 2 == 1))


def _cents_text(cents: int) -> str:
    units, rest = divmod(abs(cents), _CENTS_PER_UNIT)
    return f"{'-' if cents < 0 else ''}{units}.{rest:02d}"


def _us_date(day: date) -> str:
    return f"{day:%m/%d/%Y}"


def _meter_events(
    app: App, rows: Iterable[ReportRow], customers: Mapping[str, str], event_name: str
) -> Iterable[dict[str, Any]]:
    known = dict(customers)
    for row in rows:
        tenant, day = row.group["root_tenant"] or "", row.group["day"] or ""
        micros = row.measures.cost.picos // _PICOS_PER_MICRO
        if micros <= 0:
            continue
        if tenant not in known:
            known[tenant] = _customer_id(app, tenant)
        last = datetime.fromisoformat(f"{day}T23:59:59").replace(tzinfo=UTC)
        yield {
            "identifier": f"usage/{tenant}/{day}/0-{micros}",
            "timestamp": str(int(min(last, app.now()).timestamp())),
            "event_name": event_name,
            "payload_stripe_customer_id": known[tenant],
            "payload_value": str(micros),
        }


def _account_name(app: App, tenant: str) -> str:
    try:
        return app.meter.get_payment_account(tenant).name or tenant
    except NotFoundError:
        return tenant


def _customer_id(app: App, tenant: str) -> str:
    try:
        found = app.meter.get_payment_account(tenant).provider_customer_id
    except NotFoundError:
        found = ""
    if not found:
        message = f"{tenant} has no customer at Stripe: name it with --customer {tenant}=cus_..., or put its account."
        raise click.ClickException(message)
    return found
