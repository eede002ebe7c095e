# SPDX-License-Identifier: Apache-2.0
"""Stripe by its own library, every request checked against Stripe's published description of its API."""

import json
import time
from collections.abc import Mapping
from typing import Any

import pytest
import stripe as stripe_library
from payments.conftest import STRIPE_KEY, WEBHOOK_SECRET
from payments.stripe_server import RefusalError, StripeServer

from taximeter_server.payment_provider import (
    Charge,
    Customer,
    Outcome,
    PaymentCard,
    PaymentEvent,
    Pushed,
    PushedCreditNote,
    PushedInvoice,
    PushedLine,
    PushError,
    ReportedUsage,
    SignatureError,
    SubjectKind,
)
from taximeter_server.payment_stripe import StripePayments
from taximeter_server.stripe_invoices import LINES_PER_CALL

ACME = Customer(
    account="acme", name="Acme Inc.", email="ap@acme.example", address_lines=("1 Main St", "Springfield")
)
USAGE = ReportedUsage(identifier="usage/acme/2026-06-01/0-1500", amount_micros=1_500, time_s=1_780_000_000)


def invoice_of(count: int = 3, number: str = "INV-000001") -> PushedInvoice:
    """Return an invoice of lines of 1, 2, 3... cents."""
    lines = [PushedLine(description=f"Line {cents}", amount_cents=cents) for cents in range(1, count + 1)]
    total_cents = sum(line.amount_cents for line in lines)
    return PushedInvoice(number=number, currency_code="USD", lines=lines, total_cents=total_cents)


@pytest.fixture
def customer_id(provider: StripePayments) -> str:
    """A customer that Stripe knows."""
    return provider.put_customer(ACME, "")


def test_a_customer_is_made_once(provider: StripePayments, stripe: StripeServer) -> None:
    """Put again without its id, changed, and after keys are forgotten, a customer is the same one, with what is new."""
    first = provider.put_customer(ACME, "")
    again = provider.put_customer(Customer(account="acme", name="Acme Ltd."), "")
    stripe.forget_keys()
    later = provider.put_customer(ACME, "")

    (customer,) = stripe.of_kind("customer")
    assert {first, again, later} == {customer["id"]}
    assert (customer["name"], customer["email"]) == ("Acme Inc.", "ap@acme.example")
    assert customer["metadata"] == {"taximeter_instance": "ledger-1", "taximeter_account": "acme"}


def test_the_card_on_file(provider: StripePayments, stripe: StripeServer, customer_id: str) -> None:
    """The default card is shown; without one there is none."""
    assert provider.card(customer_id) == PaymentCard("visa", "4242", 8, 2030)

    stripe.has_card = False

    assert provider.card(customer_id) is None


def test_a_portal_session_leads_back(
    provider: StripePayments, stripe: StripeServer, customer_id: str
) -> None:
    """The URL is Stripe's, and Stripe is told where it leads back to."""
    assert (
        provider.portal_url(customer_id, "https://acme.example/") == f"{stripe.url}/p/session/{customer_id}"
    )
    assert stripe.requests[-1][2] == {"customer": customer_id, "return_url": "https://acme.example/"}


@pytest.mark.parametrize("count", [1, LINES_PER_CALL, 2 * LINES_PER_CALL + 1])
def test_an_invoice_has_its_lines_and_number(
    provider: StripePayments, stripe: StripeServer, customer_id: str, count: int
) -> None:
    """Lines, total, number and currency are ours, however many calls they take."""
    wanted = invoice_of(count)
    pushed = provider.push_invoice(customer_id, wanted, is_repeat=False)

    (found,) = stripe.of_kind("invoice")
    assert pushed == Pushed(found["id"], Outcome.OPEN, found["hosted_invoice_url"])
    assert [int(line["amount"]) for line in found["own_lines"]] == [
        line.amount_cents for line in wanted.lines
    ]
    assert (found["number"], found["currency"], found["total"]) == ("INV-000001", "usd", wanted.total_cents)
    assert (found["status"], found["customer"]) == ("open", customer_id)


@pytest.mark.parametrize("step", ["", "/{id}/add_lines", "/{id}/finalize"])
@pytest.mark.parametrize("is_late", [False, True])
def test_an_invoice_is_made_once_whatever_answer_is_lost(
    provider: StripePayments,
    stripe: StripeServer,
    customer_id: str,
    step: str,
    is_late: bool,  # noqa: FBT001 (a table)
) -> None:
    """An attempt whose answer is lost is repeated, within the day or long after, and there is one invoice."""
    wanted = invoice_of(LINES_PER_CALL + 1)
    stripe.faults.lost.add("/v1/invoices" + step.format(id="in_000002"))
    with pytest.raises(PushError) as caught:
        provider.push_invoice(customer_id, wanted, is_repeat=False)
    if is_late:
        stripe.forget_keys()
    pushed = provider.push_invoice(customer_id, wanted, is_repeat=True)

    (found,) = stripe.of_kind("invoice")
    assert (caught.value.problem, caught.value.is_final) == ("no answer from Stripe", False)
    assert (pushed.provider_id, found["id"]) == ("in_000002", "in_000002")
    assert (found["total"], found["status"], len(found["own_lines"])) == (
        wanted.total_cents,
        "open",
        LINES_PER_CALL + 1,
    )


def test_a_total_that_differs_is_not_finalized(
    provider: StripePayments, stripe: StripeServer, customer_id: str
) -> None:
    """An invoice whose lines Stripe adds up otherwise stays a draft, for people to look at."""
    wrong = PushedInvoice(number="INV-1", currency_code="USD", lines=invoice_of().lines, total_cents=7)
    with pytest.raises(PushError) as caught:
        provider.push_invoice(customer_id, wrong, is_repeat=False)

    assert (caught.value.problem, caught.value.is_final) == ("Stripe's total is 6, ours 7", True)
    assert [found["status"] for found in stripe.of_kind("invoice")] == ["draft"]


def test_usage_is_reported_once(provider: StripePayments, stripe: StripeServer, customer_id: str) -> None:
    """A meter event that Stripe has already, by key or by identifier, counts as reported."""
    provider.report_usage(customer_id, USAGE)
    provider.report_usage(customer_id, USAGE)
    stripe.forget_keys()
    provider.report_usage(customer_id, USAGE)

    assert {name: found["payload"] for name, found in stripe.meter_events.items()} == {
        "ledger-1/usage/acme/2026-06-01/0-1500": {"stripe_customer_id": customer_id, "value": "1500"}
    }


CHARGE = Charge(name="acme/order-7", description="500 credits", currency_code="USD", amount_cents=4_500)
INTENTS = "/v1/payment_intents"


@pytest.mark.parametrize("step", ["", "/pi_000002/confirm"])
@pytest.mark.parametrize("is_late", [False, True])
def test_a_charge_is_made_once_whatever_answer_is_lost(
    provider: StripePayments,
    stripe: StripeServer,
    customer_id: str,
    step: str,
    is_late: bool,  # noqa: FBT001 (a table)
) -> None:
    """A charge whose answer is lost is asked for again, within the day or long after, and the card is charged once."""
    stripe.faults.lost.add(INTENTS + step)
    with pytest.raises(PushError) as caught:
        provider.charge(customer_id, CHARGE, decline_count=0)
    if is_late:
        stripe.forget_keys()
    first = provider.charge(customer_id, CHARGE, decline_count=0)
    again = provider.charge(customer_id, CHARGE, decline_count=0)

    (intent,) = stripe.of_kind("payment_intent")
    assert (caught.value.problem, caught.value.is_decline) == ("no answer from Stripe", False)
    assert first == again == Pushed(intent["id"], Outcome.PAID)
    assert (intent["amount"], intent["currency"], intent["confirmations"]) == (4_500, "usd", 1)


def test_a_declined_card_is_charged_again_only_as_another_attempt(
    provider: StripePayments, stripe: StripeServer, customer_id: str
) -> None:
    """The same attempt again answers the same decline without asking the bank; the next one asks, and may succeed."""
    stripe.declines = 1
    for _ in range(2):
        with pytest.raises(PushError) as caught:
            provider.charge(customer_id, CHARGE, decline_count=0)
        assert (caught.value.problem, caught.value.is_decline, caught.value.is_final) == (
            "the card was declined: card_declined",
            True,
            False,
        )
    paid = provider.charge(customer_id, CHARGE, decline_count=1)

    (intent,) = stripe.of_kind("payment_intent")
    assert (paid.outcome, intent["confirmations"]) == (Outcome.PAID, 2)


def test_without_a_card_nothing_is_charged(
    provider: StripePayments, stripe: StripeServer, customer_id: str
) -> None:
    """An account without a card is like one whose card is declined: something to be told, and tried again later."""
    stripe.has_card = False
    with pytest.raises(PushError) as caught:
        provider.charge(customer_id, CHARGE, decline_count=0)

    assert (caught.value.problem, caught.value.is_decline) == ("there is no card on file", True)


@pytest.mark.parametrize("status", ["open", "paid"])
@pytest.mark.parametrize("is_late", [False, True])
def test_a_credit_note_is_made_once(
    provider: StripePayments,
    stripe: StripeServer,
    customer_id: str,
    status: str,
    is_late: bool,  # noqa: FBT001 (a table)
) -> None:
    """A credit note whose answer is lost is made once; of what was paid it becomes the customer's balance."""
    stripe.final_status = status
    invoice = provider.push_invoice(customer_id, invoice_of(), is_repeat=False)
    note = PushedCreditNote(
        number="CN-000001",
        invoice_number="INV-000001",
        invoice_id=invoice.provider_id,
        currency_code="USD",
        amount_cents=2,
        reason="goodwill",
    )
    stripe.faults.lost.add("/v1/credit_notes")
    with pytest.raises(PushError):
        provider.push_credit_note(note, is_repeat=False)
    if is_late:
        stripe.forget_keys()
    pushed = provider.push_credit_note(note, is_repeat=True)

    (made,) = stripe.of_kind("credit_note")
    assert (pushed.provider_id, made["amount"]) == (made["id"], 2)
    assert made["credit_amount"] == ("2" if status == "paid" else None)


def test_an_invoice_is_taken_back(provider: StripePayments, stripe: StripeServer, customer_id: str) -> None:
    """An open invoice becomes void, once; a draft that an attempt has left is deleted; one that is paid stays."""
    invoice = provider.push_invoice(customer_id, invoice_of(), is_repeat=False)
    for _ in range(2):
        assert provider.void_invoice("INV-000001", invoice.provider_id).provider_id == invoice.provider_id
    stripe.faults.refused[f"/v1/invoices/in_{3:06}/finalize"] = RefusalError(500, "api_error", "Sorry")
    with pytest.raises(PushError):
        provider.push_invoice(customer_id, invoice_of(number="INV-000002"), is_repeat=False)
    provider.void_invoice("INV-000002", "")
    stripe.faults.refused.clear()
    nothing = provider.void_invoice("INV-000003", "")
    stripe.final_status = "paid"
    paid = provider.push_invoice(customer_id, invoice_of(number="INV-000004"), is_repeat=False)
    with pytest.raises(PushError) as caught:
        provider.void_invoice("INV-000004", paid.provider_id)

    assert [(found["number"], found["status"]) for found in stripe.of_kind("invoice")] == [
        ("INV-000001", "void"),
        ("INV-000004", "paid"),
    ]
    assert (nothing.provider_id, caught.value.is_final) == ("", True)


@pytest.mark.parametrize(
    ("refusal", "problem", "is_final"),
    [
        (
            RefusalError(401, "invalid_request_error", f"Invalid API Key provided: {STRIPE_KEY}"),
            "does not accept",
            False,
        ),
        (RefusalError(403, "invalid_request_error", f"The key {STRIPE_KEY} lacks"), "does not accept", False),
        (RefusalError(429, "rate_limit_error", "Too many"), "asks to wait", False),
        (RefusalError(409, "idempotency_error", "in progress"), "answered 409", False),
        (RefusalError(500, "api_error", "Sorry"), "answered 500", False),
        (RefusalError(402, "card_error", "declined", "card_declined"), "declined: card_declined", True),
        (RefusalError(400, "invalid_request_error", "No such currency"), "No such currency", True),
    ],
)
def test_what_stripe_refuses_is_told_without_the_key(
    provider: StripePayments,
    stripe: StripeServer,
    refusal: RefusalError,
    problem: str,
    is_final: bool,  # noqa: FBT001
) -> None:
    """Whether it may help to ask again follows from the answer, and no text says the key."""
    customer_id = provider.put_customer(ACME, "")
    stripe.faults.refused["/v1/invoices"] = refusal
    with pytest.raises(PushError) as caught:
        provider.push_invoice(customer_id, invoice_of(), is_repeat=False)

    assert problem in caught.value.problem
    assert STRIPE_KEY not in str(caught.value)
    assert caught.value.is_final is is_final


def event_of(kind: str, subject: Mapping[str, Any]) -> bytes:
    """Return the body of an event."""
    return json.dumps({"id": "evt_1", "object": "event", "type": kind, "data": {"object": subject}}).encode()


def signed(payload: bytes, secret: str = WEBHOOK_SECRET, age_s: int = 0) -> str:
    """Return the header that signs a body, as Stripe's library makes it."""
    made_s = int(time.time()) - age_s  # noqa: TID251 (the library compares with it)
    header: str = stripe_library.WebhookSignature.generate_signature_header(payload.decode(), secret, made_s)
    return header


OURS = {"taximeter_instance": "ledger-1"}
INVOICE = {
    "id": "in_1",
    "hosted_invoice_url": "https://x",
    "metadata": {**OURS, "taximeter_invoice": "INV-1"},
}


@pytest.mark.parametrize(
    ("kind", "subject", "expected"),
    [
        ("invoice.paid", INVOICE, (SubjectKind.INVOICE, "INV-1", Pushed("in_1", Outcome.PAID, "https://x"))),
        (
            "invoice.payment_failed",
            INVOICE,
            (SubjectKind.INVOICE, "INV-1", Pushed("in_1", Outcome.FAILED, "https://x")),
        ),
        (
            "payment_intent.succeeded",
            {"id": "pi_1", "metadata": {**OURS, "taximeter_charge": "acme/auto.1"}},
            (SubjectKind.TOP_UP, "acme/auto.1", Pushed("pi_1", Outcome.PAID)),
        ),
        ("customer.created", {"id": "cus_1"}, None),
        ("invoice.paid", {"id": "in_2", "metadata": {}}, None),
        (
            "invoice.paid",
            {"id": "in_2", "metadata": {"taximeter_instance": "other", "taximeter_invoice": "INV-1"}},
            None,
        ),
    ],
)
def test_events_are_read(
    provider: StripePayments,
    kind: str,
    subject: Mapping[str, Any],
    expected: tuple[SubjectKind, str, Pushed] | None,
) -> None:
    """An event says what it is about; those of other servers, and those that do not matter, say nothing."""
    payload = event_of(kind, subject)
    found = provider.read_event(payload, signed(payload))

    if expected is None:
        assert found is None
    else:
        assert found == PaymentEvent(
            event_id="evt_1", kind=expected[0], subject=expected[1], pushed=expected[2]
        )


def test_only_fresh_good_signatures_are_taken(provider: StripePayments) -> None:
    """Another secret, an old signature, one of another body and none at all are refused alike."""
    payload = event_of("invoice.paid", INVOICE)
    bad = [
        signed(payload, "whsec_other"),
        signed(payload, age_s=400),
        signed(payload + b" "),
        *("", "t=1,v1=00", "nonsense"),
    ]
    for signature in bad:
        with pytest.raises(SignatureError):
            provider.read_event(payload, signature)


def test_bytes_that_are_no_event_are_refused(provider: StripePayments) -> None:
    """What is signed and no event is refused, and nothing breaks."""
    for payload in (b"", b"[]", b"{}", b"null", b'{"type": "invoice.paid"}'):
        with pytest.raises(SignatureError):
            provider.read_event(payload, signed(payload))
