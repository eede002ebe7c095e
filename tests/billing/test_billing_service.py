# SPDX-License-Identifier: Apache-2.0
"""BillingService on a real server: subscriptions, and invoices that finalise by themselves."""

import json
import secrets
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import grpc
import pytest
from server.api import ADMIN, DENIED, METER, READ, Api, connect
from server.waiting import eventually

from harness.command_line import CommandLine
from harness.server_process import ServerProcess
from taximeter import ConflictError, ForbiddenError, Meter, PreconditionError, Usage
from taximeter.billing import (
    Cadence,
    CadenceUnit,
    Invoice,
    InvoiceKind,
    InvoiceLineKind,
    InvoiceState,
    NewPhase,
)
from taximeter.clock import system_clock_ms
from taximeter.v1 import billing_service_pb2 as pb

WAIT_SECONDS = 50
PLAN_YAML = """
name: {name}
price: 30
currency: USD
cadence: 10 days
due_days: 30
"""


@pytest.fixture
def api(server: ServerProcess) -> Iterator[Api]:
    """The API, called with the admin key."""
    with connect(server.address, server.admin_key) as found:
        yield found


@pytest.fixture
def meter(server: ServerProcess) -> Iterator[Meter]:
    """The client, with the admin key."""
    with Meter(server.address, key=server.admin_key) as found:
        yield found


@pytest.fixture
def plan(meter: Meter) -> str:
    """A plan of 30 USD for ten days."""
    name = f"plan-{secrets.token_hex(6)}"
    meter.put_plan_file(PLAN_YAML.format(name=name))
    return name


@pytest.fixture
def tenant() -> str:
    """A tenant of which nobody else knows."""
    return f"b{secrets.token_hex(6)}"


def now() -> datetime:
    """Return the present, in whole seconds."""
    return datetime.fromtimestamp(system_clock_ms() // 1_000, UTC)


def begin(meter: Meter, tenant: str, plan: str, *, days_ago: int) -> None:
    """Subscribe some days ago."""
    meter.put_subscription(tenant, [NewPhase(plan)], start_time=now() - timedelta(days=days_ago))


def invoices(meter: Meter, tenant: str, count: int) -> tuple[Invoice, ...]:
    """Return the invoices of a tenant, oldest first, when there are so many that stand."""

    def found() -> tuple[Invoice, ...]:
        return tuple(one for one in meter.list_invoices(tenant) if one.number)[::-1]

    assert eventually(lambda: len(found()) == count, WAIT_SECONDS)
    return found()


def test_invoices_finalise_by_themselves(meter: Meter, tenant: str, plan: str) -> None:
    """Each period that is over gets an invoice with price and usage; what comes late is a correction on the draft."""
    at = now() - timedelta(days=15)
    usage = Usage(uncached_input_tokens=1_000_000)
    first_cost = meter.record(f"{tenant}/team", usage, model="gpt-5", occur_time=at).cost
    begin(meter, tenant, plan, days_ago=21)

    first, second = invoices(meter, tenant, 2)
    assert [one.total_minor for one in (first, second)] == [3_000 + first_cost.picos // 10**10, 3_000]
    assert [line.kind for line in first.lines] == [InvoiceLineKind.PLAN, InvoiceLineKind.USAGE]
    assert (first.state, first.kind, first.currency_code) == (InvoiceState.OPEN, InvoiceKind.INVOICE, "USD")
    assert first.period_end_time == second.period_start_time
    assert meter.get_invoice(first.number) == first
    assert meter.get_subscription(tenant).invoiced_until_time == second.period_end_time

    late = meter.record(tenant, usage, model="gpt-5", occur_time=at).cost
    draft = meter.list_invoices(tenant)[0]
    (correction,) = (line for line in draft.lines if line.correction)
    assert (correction.amount, correction.service_start_time) == (late, first.period_start_time)
    assert draft.total_minor == 3_000 + late.picos // 10**10


def test_an_invoice_is_voided_and_credited_once(meter: Meter, tenant: str, plan: str) -> None:
    """A void invoice keeps its number and is owed again; a credit note gives back no more than is left."""
    begin(meter, tenant, plan, days_ago=11)
    (invoice,) = invoices(meter, tenant, 1)
    note = meter.create_credit_note(invoice.number, 1_000, "goodwill", request_id="one")
    assert meter.create_credit_note(invoice.number, 1_000, "goodwill", request_id="one") == note
    assert (note.kind, note.total_minor, note.original_invoice_id) == (
        InvoiceKind.CREDIT_NOTE,
        -1_000,
        invoice.invoice_id,
    )
    with pytest.raises(ConflictError):
        meter.create_credit_note(invoice.number, 999, "goodwill", request_id="one")
    assert meter.get_invoice(invoice.invoice_id).due_minor == 2_000

    void, reversal = meter.void_invoice(invoice.number, "wrong address")
    assert meter.void_invoice(invoice.number, "wrong address") == (void, reversal)
    assert (void.state, void.number, reversal.total_minor) == (InvoiceState.VOID, invoice.number, -2_000)
    draft = meter.list_invoices(tenant)[0]
    assert [(line.amount_minor, line.correction) for line in draft.lines] == [(3_000, False), (3_000, True)]
    with pytest.raises(PreconditionError):
        meter.finalize_invoice(draft.invoice_id)


def test_a_subscription_is_begun_once(meter: Meter, tenant: str, plan: str) -> None:
    """The same request again changes nothing, another is refused, and what has ended can be put again."""
    start = now() - timedelta(days=1)
    phases = [NewPhase(plan, Cadence(CadenceUnit.DAY, 5), trial=True), NewPhase(plan)]
    made = meter.put_subscription(tenant, phases, start_time=start, time_zone="Europe/Berlin")
    assert meter.put_subscription(tenant, phases, start_time=start, time_zone="Europe/Berlin") == made
    with pytest.raises(ConflictError):
        meter.put_subscription(tenant, [NewPhase(plan)])

    changed = meter.change_plan(tenant, plan, at_period_end=True, expected_revision=1)
    assert [phase.trial for phase in changed.phases] == [True, False]
    ended = meter.cancel_subscription(tenant, at_once=True)
    assert meter.cancel_subscription(tenant, at_once=True).revision == ended.revision
    with pytest.raises(PreconditionError):
        meter.change_plan(tenant, plan)
    again = meter.put_subscription(tenant, [NewPhase(plan)])
    assert again.phases[-1].plan == plan
    assert again.revision == ended.revision + 1


def test_only_admins_and_bound_readers_see_an_account(
    api: Api, server: ServerProcess, meter: Meter, tenant: str, plan: str
) -> None:
    """A read key sees the account that it is bound to, changes nothing, and nobody else's account exists for it."""
    begin(meter, tenant, plan, days_ago=0)
    ask, draft_id = pb.GetSubscriptionRequest(tenant=tenant), meter.list_invoices(tenant)[0].invoice_id
    bound = api.with_new_key(READ, tenant)
    assert (
        bound.call(bound.billing.GetSubscription, pb.GetSubscriptionRequest()).subscription.tenant == tenant
    )
    assert len(bound.call(bound.billing.ListInvoices, pb.ListInvoicesRequest()).invoices) == 1
    assert bound.call(bound.billing.GetInvoice, pb.GetInvoiceRequest(invoice_id=draft_id)).invoice.lines
    for other in (
        api.with_new_key(READ),
        api.with_new_key(READ, f"{tenant}/team"),
        api.with_new_key(ADMIN, "x"),
    ):
        assert other.fail(other.billing.GetSubscription, ask) == DENIED
        assert other.fail(other.billing.ListInvoices, pb.ListInvoicesRequest(tenant=tenant)) == DENIED
        assert other.fail(other.billing.GetInvoice, pb.GetInvoiceRequest(invoice_id=draft_id)) == DENIED
        unknown = pb.GetInvoiceRequest(invoice_id="INV-999999")
        assert other.fail(other.billing.GetInvoice, unknown) == DENIED
    void = pb.VoidInvoiceRequest(invoice_id=draft_id, reason="no")
    for role in (READ, METER):
        refused = api.with_new_key(role, tenant)
        code, reason = refused.fail(refused.billing.VoidInvoice, void)
        assert (code, reason) == (grpc.StatusCode.PERMISSION_DENIED, "ROLE_MISSING")
    with Meter(server.address, key="tx_none") as nobody, pytest.raises(Exception) as failed:  # noqa: PT011 (any of two)
        nobody.get_subscription(tenant)
    assert not isinstance(failed.value, ForbiddenError)


def test_the_commands_of_the_seed(
    server: ServerProcess, api: Api, meter: Meter, tenant: str, plan: str
) -> None:
    """`subscription get` and `get-invoices` run as they are written there, with a key of the tenant's own."""
    begin(meter, tenant, plan, days_ago=11)
    (invoice,) = invoices(meter, tenant, 1)
    key = api.with_new_key(READ, tenant).metadata[0][1].removeprefix("Bearer ")
    taximeter = CommandLine({**server.client_environment, "TAXIMETER_KEY": key})

    found = json.loads(taximeter("billing", "subscription", "get").stdout)
    assert (found["plan"], found["status"], found["price"], found["cadence"]) == (
        plan,
        "active",
        "30.00",
        "10 days",
    )
    assert found["subscriptionAvailableCreditsCount"] - found["subscriptionCreditsUsedCount"] == 0
    assert found["periodStartDate"] < found["resetDate"] == found["periodEndDate"]
    (shown,) = json.loads(taximeter("billing", "subscription", "get-invoices").stdout)["invoices"]
    assert (shown["id"], shown["paid"], shown["amountDue"], shown["currency"], shown["url"]) == (
        invoice.invoice_id,
        False,
        3_000,
        "USD",
        None,
    )
    assert "Usage" in taximeter("billing", "subscription", "get", "--help").stdout
    meter_key = api.with_new_key(METER, tenant).metadata[0][1].removeprefix("Bearer ")
    refused = CommandLine({**server.client_environment, "TAXIMETER_KEY": meter_key})
    answer = refused("billing", "subscription", "get", status=1)
    assert json.loads(answer.stdout) == {"errorMessage": "forbidden"}


def test_invoices_on_the_command_line(server: ServerProcess, meter: Meter, tenant: str, plan: str) -> None:
    """Invoices are listed, shown with lines, credited and voided."""
    taximeter = CommandLine(server.client_environment)
    begin(meter, tenant, plan, days_ago=11)
    (invoice,) = invoices(meter, tenant, 1)

    listed = taximeter.json("billing", "invoice", "list", "--tenant", tenant)["invoices"]
    assert [(one["state"], one["total"]) for one in listed] == [("draft", "30.00"), ("open", "30.00")]
    assert invoice.number in taximeter("billing", "invoice", "show", invoice.number).stdout
    note = taximeter.json(
        *("billing", "invoice", "credit-note", invoice.number, "--amount", "12.50"),
        *("--reason", "goodwill", "--request-id", "t-1"),
    )
    assert (note["kind"], note["total"], note["lines"][0]["amount_exact"]) == (
        "credit_note",
        "-12.50",
        "-12.50",
    )
    fraction = ("--amount", "0.001", "--reason", "r", "--request-id", "t-2")
    assert (
        "decimals"
        in taximeter("billing", "invoice", "credit-note", invoice.number, *fraction, status=2).stderr
    )
    again = taximeter.json("billing", "invoice", "finalize", invoice.invoice_id)
    assert (again["number"], again["due"]) == (invoice.number, "17.50")
    assert taximeter.json("billing", "invoice", "void", invoice.number, "--reason", "r")["total"] == "-17.50"


def test_plan_files_are_read_as_a_whole(
    server: ServerProcess, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A file sets limits and price; one with mistakes is refused with all of them, by line."""
    taximeter = CommandLine(server.client_environment)
    file = tmp_path_factory.mktemp("plans") / "pro.yaml"
    file.write_text(
        PLAN_YAML.format(name="file-plan") + "limits: {tokens_per_day: 5000000, shadow: tokens_per_day}\n"
    )
    put = taximeter.json("plan", "put", str(file))
    assert (put["name"], put["price"], put["cadence"], put["tokens_per_day"]) == (
        "file-plan",
        "30.00",
        "10 days",
        5_000_000,
    )
    file.write_text("name: Pro\nprice: 1e-13\ncurrency: USD\ncadence: fortnight\ncolor: red\n")
    problems = taximeter("plan", "put", str(file), status=1).stderr
    assert all(f"line {line}" in problems for line in (2, 4, 5)), problems
    assert "options" in taximeter("plan", "put", str(file), "--tokens-per-day", "1", status=2).stderr


@pytest.mark.timeout(180)
def test_a_killed_server_finalises_the_rest(fresh_server: Callable[..., ServerProcess]) -> None:
    """Whenever it is killed, each period gets one invoice in the end, and no number is skipped."""
    server = fresh_server()
    tenants = [f"t{number}" for number in range(12)]
    with Meter(server.address, key=server.admin_key) as meter:
        meter.put_plan_file(PLAN_YAML.format(name="p"))
        for tenant in tenants:
            begin(meter, tenant, "p", days_ago=35)
    for _ in range(3):
        server.kill()
        server.start()
    with Meter(server.address, key=server.admin_key) as meter:
        numbers = [one.number for tenant in tenants for one in invoices(meter, tenant, 3)]
    assert sorted(numbers) == [f"INV-{number:06}" for number in range(1, 37)]
