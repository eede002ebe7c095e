# SPDX-License-Identifier: Apache-2.0
"""Files for other systems: their columns are those systems', and their amounts add up to the report's."""

import csv
import io
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from harness.command_line import CommandLine
from harness.server_process import ServerProcess
from taximeter import Meter, Usage, new_record_id
from taximeter.payments import PaymentAccount

MODELS = ("gpt-5", "gpt-4o", "claude-sonnet-4-6")


@pytest.fixture
def account(server: ServerProcess) -> Iterator[str]:
    """An account with usage of three models, whose costs have fractions of cents."""
    tenant = f"x-{new_record_id()[-12:]}"
    with Meter(f"http://{server.address}", key=server.admin_key) as meter:
        for number, model in enumerate(MODELS, start=1):
            meter.record(f"{tenant}/team", Usage(uncached_input_tokens=1_111 * number), model=model)
        meter.put_payment_account(
            PaymentAccount(tenant=tenant, name="Acme Inc.", provider_customer_id="cus_1")
        )
        yield tenant


def rows_of(text: str) -> list[dict[str, str]]:
    """Read a CSV by another reader than wrote it."""
    return list(csv.DictReader(io.StringIO(text)))


def exact_picos(run: CommandLine, tenant: str) -> int:
    """Return what the report says that an account cost."""
    report = run.json("billing", "summary", "--period", "today", "--tenant", tenant)
    units, _, fraction = report["total"]["cost"].partition(".")
    return int(units) * 10**12 + int(fraction.ljust(12, "0"))


def _day(text: str) -> datetime:
    return datetime.strptime(text, "%m/%d/%Y").replace(tzinfo=UTC)


def test_invoices_for_quickbooks(server: ServerProcess, account: str) -> None:
    """Each model is a line in cents, and with the rounding line they are the exact cost, rounded once."""
    run = CommandLine(server.client_environment)
    command = ("billing", "export", "--period", "today", "--tenant", account, "--due-days", "14")
    rows = rows_of(run(*command, "--format", "quickbooks").stdout)
    cents = sum(int(row["*ItemAmount"].replace(".", "")) for row in rows)
    quotient, rest = divmod(exact_picos(run, account), 10**10)

    assert list(rows[0]) == [
        *("*InvoiceNo", "*Customer", "*InvoiceDate", "*DueDate"),
        *("Item(Product/Service)", "ItemDescription", "*ItemAmount", "Service Date"),
    ]
    assert cents == quotient + (2 * rest > 10**10)
    assert {row["*Customer"] for row in rows} == {"Acme Inc."}
    assert {row["ItemDescription"] for row in rows} - {"Rounding"} == set(MODELS)
    assert all(len(row["*InvoiceNo"]) <= 21 for row in rows)
    due, made = (
        datetime.strptime(rows[0][name], "%m/%d/%Y").replace(tzinfo=UTC)
        for name in ("*DueDate", "*InvoiceDate")
    )
    assert (due - made).days == 14


def test_meter_events_for_stripe(server: ServerProcess, account: str) -> None:
    """An account's day is one event of the exact cost in whole millionths, for the customer of its payment account."""
    run = CommandLine(server.client_environment)
    command = ("billing", "export", "--period", "today", "--format", "stripe", "--tenant", account)
    (row,) = rows_of(run(*command).stdout)
    (named,) = rows_of(run(*command, "--customer", f"{account}=cus_2", "--event-name", "ai").stdout)

    micros = exact_picos(run, account) // 10**6
    assert list(row) == [
        *("identifier", "timestamp", "event_name", "payload_stripe_customer_id", "payload_value")
    ]
    assert (row["payload_value"], row["payload_stripe_customer_id"]) == (str(micros), "cus_1")
    assert row["identifier"].endswith(f"/0-{micros}")
    assert (named["payload_stripe_customer_id"], named["event_name"]) == ("cus_2", "ai")


def test_an_account_without_a_customer_is_named(server: ServerProcess) -> None:
    """Meter events of nobody are refused with what to do, and days of another zone too."""
    run = CommandLine(server.client_environment)
    tenant = f"x-{new_record_id()[-12:]}"
    with Meter(f"http://{server.address}", key=server.admin_key) as meter:
        meter.record(tenant, Usage(uncached_input_tokens=1_000), model="gpt-5")
    command = ("billing", "export", "--period", "today", "--format", "stripe", "--tenant", tenant)

    assert f"--customer {tenant}=cus_" in run(*command, status=1).stderr
    assert "leave --tz out" in run(*command, "--tz", "Europe/Berlin", status=2).stderr
