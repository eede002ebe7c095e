# SPDX-License-Identifier: Apache-2.0
"""`taximeter billing payments`: how accounts pay, and what goes to the payment provider."""

from dataclasses import asdict
from typing import Any

import click

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
)
from taximeter.payments import Payment, PaymentAccount, PaymentState

_COLUMNS = [
    Column("id", "payment"),
    Column("tenant", "tenant"),
    Column("state", "state"),
    Column("attempt_count", "attempts", numeric=True),
    Column("last_problem", "problem", optional=True),
    Column("provider_id", "provider's id", optional=True),
    Column("create_time", "queued"),
    Column("next_attempt_time", "next attempt", optional=True),
]
_STATES = [state.value.lower() for state in PaymentState if state != PaymentState.UNRECOGNIZED]


@click.group(cls=TaximeterGroup)
def payments() -> None:
    """How accounts pay, and what goes to the payment provider."""


@payments.command("list")
@click.option("--tenant", default="", help="Only those of this account.")
@click.option("--state", type=click.Choice(_STATES), help="Only those in this state.")
@output_option(TABLE, JSON, CSV)
@pass_app
def list_command(app: App, tenant: str, state: str | None, output: str) -> None:
    """Lists what was pushed to the payment provider and what is to be, newest first."""
    wanted = None if state is None else PaymentState(state.upper())
    found = [_payment(payment) for payment in app.meter.list_payments(tenant, state=wanted)]
    write(output, {"payments": found}, _COLUMNS, found, empty="Nothing was to be pushed.")


@payments.command()
@click.argument("payment_id")
@output_option(TABLE, JSON)
@pass_app
def retry(app: App, payment_id: str, output: str) -> None:
    """Pushes again at once what failed or waits. Nothing is made twice, and what is done stays so."""
    _write(_payment(app.meter.retry_payment(payment_id)), output)


@payments.command("get-account")
@click.argument("tenant")
@output_option(TABLE, JSON)
@pass_app
def get_account(app: App, tenant: str, output: str) -> None:
    """Shows how an account pays."""
    _write(_account(app.meter.get_payment_account(tenant)), output)


@payments.command("put-account")
@click.argument("tenant")
@click.option("--name", default="", help="Who is billed. Default: the tenant.")
@click.option("--email", default="", help="Where the payment provider writes to.")
@click.option("--address-line", "address_lines", multiple=True, help="Line of the address. Repeatable.")
@click.option("--tax-id", default="", help="Tax number of the customer.")
@click.option("--report-usage", is_flag=True, help="Report usage to the payment provider as meter events.")
@click.option(
    "--customer-id", default="", help="The payment provider's id of a customer that it has already."
)
@output_option(TABLE, JSON)
@pass_app
def put_account(app: App, /, tenant: str, output: str, **options: Any) -> None:
    """Sets how an account pays, in the place of what was set before, and tells the payment provider."""
    account = PaymentAccount(
        tenant=tenant,
        name=options["name"],
        email=options["email"],
        address_lines=options["address_lines"],
        tax_id=options["tax_id"],
        report_usage=options["report_usage"],
        provider_customer_id=options["customer_id"],
    )
    _write(_account(app.meter.put_payment_account(account)), output)


def _write(fields: dict[str, Any], output: str) -> None:
    if output == JSON:
        write_json(fields)
    else:
        write_fields(fields)


def _account(account: PaymentAccount) -> dict[str, Any]:
    return {**asdict(account), "update_time": time_text(account.update_time)}


def _payment(payment: Payment) -> dict[str, Any]:
    return {
        "id": payment.id,
        "kind": payment.kind.value.lower(),
        "tenant": payment.tenant,
        "state": payment.state.value.lower(),
        "attempt_count": payment.attempt_count,
        "last_problem": payment.last_problem,
        "provider_id": payment.provider_id,
        "create_time": time_text(payment.create_time),
        "last_attempt_time": time_text(payment.last_attempt_time),
        "next_attempt_time": time_text(payment.next_attempt_time),
    }
