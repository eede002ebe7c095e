# SPDX-License-Identifier: Apache-2.0
"""Payments end to end: the real server, a Stripe behind it, and what people and Stripe see of it."""

import http.client
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from payments.conftest import STRIPE_KEY, PayingServer
from payments.stripe_server import RefusalError, StripeServer
from payments.test_stripe import event_of, signed

from harness.command_line import CommandLine
from harness.server_process import ServerProcess
from taximeter import ForbiddenError, Meter, Role, Usage
from taximeter.billing import NewPhase
from taximeter.clock import system_clock_ms
from taximeter.payments import PaymentAccount, PaymentState

ACME = PaymentAccount(
    tenant="acme",
    name="Acme Inc.",
    email="ap@acme.example",
    address_lines=("1 Main St", "Springfield"),
    tax_id="US-1",
    report_usage=True,
)
SEED_COMMANDS = ("get-credit-card", "create-portal-session")


def test_the_commands_say_what_to_configure(server: ServerProcess) -> None:
    """Without a provider the commands print an error object that names the setting, and end with 1."""
    run = CommandLine(server.client_environment)
    done = [run("billing", "subscription", name, "--tenant", "acme", status=1) for name in SEED_COMMANDS]

    message = (
        "PAYMENT_NOT_CONFIGURED: the server has no payment provider: set stripe_key_file (TAXIMETER_STRIPE_KEY_FILE)"
        " and restart it"
    )
    assert {result.stdout for result in done} == {json.dumps({"errorMessage": message}) + "\n"}


def test_an_account_is_kept_without_a_provider(server: ServerProcess) -> None:
    """How an account pays is said and shown whether there is a provider or not; what cannot be is refused at once."""
    with Meter(f"http://{server.address}", key=server.admin_key) as meter:
        assert meter.put_payment_account(ACME) == ACME
        assert meter.get_payment_account("acme") == ACME
        run = CommandLine(server.client_environment)
        shown = run.json("billing", "payments", "get-account", "acme")
        refused = run("billing", "payments", "put-account", "a/b", "--tax-id", "1" * 51, status=1)

    assert (shown["name"], shown["address_lines"]) == ("Acme Inc.", ["1 Main St", "Springfield"])
    assert "account.tax_id: at most 50 characters" in refused.stderr
    assert "account.tenant: one segment" in refused.stderr


def test_the_seed_commands_as_written(paying: PayingServer, stripe: StripeServer) -> None:
    """`billing subscription get-credit-card` and `create-portal-session` answer a key of the tenant, as JSON."""
    paying.meter.put_payment_account(ACME)
    key = paying.meter.create_key(Role.ADMIN, tenants=["acme"]).secret
    run = CommandLine({**paying.process.client_environment, "TAXIMETER_KEY": key})
    card, portal = (run("billing", "subscription", name).stdout for name in SEED_COMMANDS)

    (customer,) = stripe.of_kind("customer")
    assert json.loads(card) == {
        "creditCard": {"brand": "visa", "last4": "4242", "expMonth": 8, "expYear": 2030}
    }
    assert json.loads(portal) == {"url": f"{stripe.url}/p/session/{customer['id']}"}
    assert (customer["name"], customer["address"]) == ("Acme Inc.", {"line1": "1 Main St, Springfield"})
    stripe.has_card = False
    assert json.loads(run("billing", "subscription", "get-credit-card").stdout) == {"creditCard": None}


def test_who_may_see_a_card(paying: PayingServer) -> None:
    """A read key sees the card of the tenant that it is bound to, and nobody else's; a session needs an admin key."""
    paying.meter.put_payment_account(ACME)

    def with_key(role: Role, *tenants: str) -> Meter:
        secret = paying.meter.create_key(role, tenants=tenants).secret
        return Meter(f"http://{paying.process.address}", key=secret)

    with with_key(Role.READ, "acme") as meter:
        assert meter.get_payment_card() is not None
        with pytest.raises(ForbiddenError):
            meter.create_portal_session()
    for role, tenants in [
        (Role.READ, ()),
        (Role.READ, ("zeta",)),
        (Role.READ, ("acme/research",)),
        (Role.METER, ()),
    ]:
        with with_key(role, *tenants) as meter, pytest.raises(ForbiddenError):
            meter.get_payment_card("acme")


def test_a_provider_that_refuses_is_logged_without_the_key(
    paying: PayingServer, stripe: StripeServer
) -> None:
    """The caller learns that it failed, the log why, and neither learns the key; the account is kept."""
    stripe.faults.refused["/v1/customers"] = RefusalError(
        400, "invalid_request_error", f"{STRIPE_KEY} is wrong", "x"
    )
    run = CommandLine(paying.process.client_environment)
    done = run("billing", "payments", "put-account", "acme", status=1)

    assert "PAYMENT_PROVIDER" in done.stderr
    assert "Stripe answered 400: x" in paying.process.log
    assert STRIPE_KEY not in done.stderr + paying.process.log
    assert stripe.keys == {f"Bearer {STRIPE_KEY}"}
    assert paying.meter.get_payment_account("acme").tenant == "acme"


def reported_micros(stripe: StripeServer) -> int:
    """Return the sum of all meter events."""
    return sum(int(event["payload"]["value"]) for event in stripe.meter_events.values())


def test_usage_reaches_stripe_once(paying: PayingServer, stripe: StripeServer) -> None:
    """The cost of an account and all below it is reported by day; of accounts that did not ask for it nothing is."""
    for tenant in ("acme", "acme/research", "zeta"):
        paying.meter.record(tenant, Usage(uncached_input_tokens=1_000_000), model="gpt-5")
    paying.meter.put_payment_account(ACME)
    paying.wait_for(lambda: reported_micros(stripe) == 2 * 5_000_000)

    run = CommandLine(paying.process.client_environment)
    (shown,) = run.json("billing", "payments", "list", "--state", "done")["payments"]
    (event,) = stripe.meter_events.values()
    assert event["identifier"].endswith(shown["id"])
    assert (shown["kind"], shown["attempt_count"], shown["last_problem"]) == ("usage", 1, "")


def test_what_fails_is_shown_and_tried_again(paying: PayingServer, stripe: StripeServer) -> None:
    """A refusal is shown with its reason; retried by hand it arrives, and what is done stays done."""
    stripe.faults.refused["/v1/billing/meter_events"] = RefusalError(
        400, "invalid_request_error", "No such meter"
    )
    paying.meter.record("acme", Usage(uncached_input_tokens=1_000_000), model="gpt-5")
    paying.meter.put_payment_account(ACME)
    paying.wait_for(lambda: bool(paying.meter.list_payments(state=PaymentState.FAILED)))
    (failed,) = paying.meter.list_payments("acme")
    run = CommandLine(paying.process.client_environment)
    stripe.faults.refused.clear()
    again = run.json("billing", "payments", "retry", failed.id)
    paying.wait_for(lambda: reported_micros(stripe) == 5_000_000)
    paying.wait_for(lambda: bool(paying.meter.list_payments(state=PaymentState.DONE)))

    assert "No such meter" in failed.last_problem
    assert again["state"] == "pending"
    assert run.json("billing", "payments", "retry", failed.id)["state"] == "done"
    assert "PAYMENT_UNKNOWN" in run("billing", "payments", "retry", "usage/none", status=1).stderr


def post_event(process: ServerProcess, payload: bytes, signature: str | None) -> tuple[int, bytes]:
    """Post an event as Stripe does. Returns status and body."""
    host, _, port = process.address.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=30)
    headers = {"Content-Type": "application/json; charset=utf-8"}
    headers |= {} if signature is None else {"Stripe-Signature": signature}
    connection.request("POST", "/webhooks/payments", payload, headers)
    response = connection.getresponse()
    answer = response.status, response.read()
    connection.close()
    return answer


def test_only_signed_events_get_in(paying: PayingServer) -> None:
    """An event with a good signature is answered 200 without any key; without one 401, and the body says the reason."""
    payload = event_of("customer.created", {"id": "cus_1"})
    unsigned, forged = (
        post_event(paying.process, payload, None),
        post_event(paying.process, payload, "t=1,v1=0"),
    )

    assert post_event(paying.process, payload, signed(payload)) == (200, b"{}")
    assert [status for status, _ in (unsigned, forged)] == [401, 401]
    assert all(b"PAYMENT_SIGNATURE" in body for _, body in (unsigned, forged))


def test_an_invoice_is_pushed_and_paid(paying: PayingServer, stripe: StripeServer, tmp_path: Path) -> None:
    """A final invoice goes to Stripe with its number and total; paid there it is paid here, once, and says where."""
    meter, process = paying.meter, paying.process
    meter.put_payment_account(ACME)
    meter.put_plan_file("name: team\nprice: 30\ncurrency: USD\ncadence: 10 days\ndue_days: 14\n")
    begin = datetime.fromtimestamp(system_clock_ms() // 1_000, UTC) - timedelta(days=11)
    meter.put_subscription("acme", [NewPhase("team")], start_time=begin)
    paying.wait_for(lambda: any(found["status"] == "open" for found in stripe.of_kind("invoice")))
    paying.wait_for(lambda: meter.list_payments("acme", state=PaymentState.DONE) != ())

    (found,) = stripe.of_kind("invoice")
    (open_invoice,) = meter.list_invoices("acme", drafts=False)
    assert (found["number"], found["total"], open_invoice.url) == (
        open_invoice.number,
        3_000,
        found["hosted_invoice_url"],
    )

    payload = event_of("invoice.paid", {**found, "own_lines": []})
    assert {post_event(process, payload, signed(payload)) for _ in range(3)} == {(200, b"{}")}
    run = CommandLine(process.client_environment)
    (paid,) = json.loads(run("billing", "subscription", "get-invoices", "--tenant", "acme").stdout)[
        "invoices"
    ]
    assert (paid["paid"], paid["amountPaid"], paid["url"]) == (True, 3_000, found["hosted_invoice_url"])
    events = list(meter.list_audit_events(method="payment event"))
    assert [event.outcome for event in events] == ["OK"]

    files = tmp_path / "invoice.html", tmp_path / "invoice.pdf"
    run("billing", "invoice", "show", paid["number"], "--html", str(files[0]), "--pdf", str(files[1]))
    assert "USD 30.00" in files[0].read_text()
    assert files[1].read_bytes().startswith(b"%PDF")


def test_what_takes_invoices_back_follows_them(paying: PayingServer, stripe: StripeServer) -> None:
    """A credit note and a void of invoices that were pushed are made at Stripe, too, once each."""
    meter = paying.meter
    meter.put_payment_account(ACME)
    meter.put_plan_file("name: team\nprice: 30\ncurrency: USD\ncadence: 10 days\ndue_days: 14\n")
    begin = datetime.fromtimestamp(system_clock_ms() // 1_000, UTC) - timedelta(days=21)
    meter.put_subscription("acme", [NewPhase("team")], start_time=begin)

    def kinds() -> list[str]:
        done = meter.list_payments("acme", state=PaymentState.DONE)
        return sorted(payment.id.partition("/")[0] for payment in done)

    paying.wait_for(lambda: kinds() == ["invoice", "invoice"])
    second, first = meter.list_invoices("acme", drafts=False)
    meter.create_credit_note(first.invoice_id, 250, "goodwill", request_id="ticket-1")
    meter.void_invoice(second.invoice_id, "wrong address")
    paying.wait_for(lambda: kinds() == ["credit-note", "invoice", "invoice", "void"])

    (note,) = stripe.of_kind("credit_note")
    by_number = {found["number"]: found for found in stripe.of_kind("invoice")}
    assert (note["amount"], note["invoice"]) == (250, by_number[first.number]["id"])
    assert [by_number[one.number]["status"] for one in (first, second)] == ["open", "void"]
    told = {one.kind.value: one.external_id for one in meter.list_invoices("acme", drafts=False)}
    assert (told["CREDIT_NOTE"], told["REVERSAL"]) == (note["id"], by_number[second.number]["id"])
