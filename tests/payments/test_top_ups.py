# SPDX-License-Identifier: Apache-2.0
"""Credits that are bought: the real server, a Stripe behind it, and the card charged once for what is granted once."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from payments.conftest import PayingServer
from payments.stripe_server import RefusalError, StripeServer
from payments.test_kills import start_and_be_killed, wait_until
from payments.test_payments import ACME, post_event
from payments.test_stripe import event_of, signed

from harness.command_line import CommandLine
from harness.server_process import ServerProcess
from harness.store_process import StoreProcess
from taximeter import (
    ConflictError,
    CreditGrant,
    CreditGrantState,
    ForbiddenError,
    InvalidArgumentError,
    Meter,
    PreconditionError,
    Role,
    Usage,
)
from taximeter.billing import NewPhase
from taximeter.top_ups import AutomaticTopUp, AutomaticTopUpState, TopUp, TopUpState

PLAN = """
name: prepaid
price: 0
currency: USD
cadence: month
credits:
  price: 0.01
  included: 1000
  top_up: {{amount: 500, price: 4.50, below: 600, cooldown: {cooldown}, daily_max: {daily_max}}}
"""
TOP_UP_CENTS, TOP_UP_MICROCREDITS = 450, 500_000_000
INTENTS = "/v1/payment_intents"


def subscribe(meter: Meter, *, cooldown: str = "1 hour", daily_max: int = 5) -> None:
    """Subscribe acme to a plan that buys 500 credits when less than 600 are left."""
    meter.put_payment_account(ACME)
    meter.put_plan_file(PLAN.format(cooldown=cooldown, daily_max=daily_max))
    meter.put_subscription("acme", [NewPhase("prepaid")])


def use_half(meter: Meter) -> None:
    """Use 500 credits."""
    assert (
        meter.record("acme/bot", Usage(uncached_input_tokens=1_000_000), model="gpt-5").credit_microcredits
        == 500_000_000
    )


def automatic(meter: Meter) -> AutomaticTopUp:
    """Return what the subscription says."""
    found = meter.get_subscription("acme").automatic_top_up
    assert found is not None
    return found


def charged_cents(stripe: StripeServer) -> Sequence[int]:
    """Return what the card was charged, by charge."""
    return [one["amount"] for one in stripe.of_kind("payment_intent") if one["status"] == "succeeded"]


def granted(meter: Meter) -> dict[str, int]:
    """Return the microcredits of each top-up's grant."""
    return {
        one.grant_id: one.amount_microcredits
        for one in meter.list_credit_grants("acme")
        if one.grant_id.startswith("top-up.")
    }


def done(meter: Meter) -> list[TopUp]:
    """Return the top-ups that are through."""
    return [one for one in meter.list_top_ups("acme") if one.state is TopUpState.DONE]


def test_credits_are_bought_when_few_are_left(paying: PayingServer, stripe: StripeServer) -> None:
    """Below the threshold the card is charged and credits are granted, once; then the cooldown holds."""
    meter = paying.meter
    subscribe(meter)
    assert automatic(meter).state is AutomaticTopUpState.READY
    use_half(meter)
    paying.wait_for(lambda: done(meter) != [])
    for _ in range(2):
        use_half(meter)
    # Whatever is to be bought would be begun by now: another account's is.
    meter.put_payment_account(ACME)
    paying.wait_for(lambda: automatic(meter).state is AutomaticTopUpState.WAITING)

    (top_up,) = meter.list_top_ups("acme")
    assert (top_up.request_id, top_up.price_minor, top_up.grant_id) == (
        "auto.1",
        TOP_UP_CENTS,
        "top-up.auto.1",
    )
    assert charged_cents(stripe) == [TOP_UP_CENTS]
    assert granted(meter) == {"top-up.auto.1": TOP_UP_MICROCREDITS}
    (grant,) = [one for one in meter.list_credit_grants("acme") if one.grant_id == "top-up.auto.1"]
    assert grant.cost_basis_picos == TOP_UP_CENTS * 10**10
    (intent,) = stripe.of_kind("payment_intent")
    assert intent["description"] == "500 credits"
    events = [one.method for one in meter.list_audit_events()]
    assert {"begin a top-up", "grant a top-up"} <= set(events)
    assert (
        CommandLine(paying.process.client_environment).json(
            "billing", "subscription", "get", "--tenant", "acme"
        )["automaticTopUp"]["state"]
        == "waiting"
    )


def test_credits_are_bought_by_hand(paying: PayingServer, stripe: StripeServer) -> None:
    """The same request again shows what became of it; the same id for another amount is refused."""
    meter, run = paying.meter, CommandLine(paying.process.client_environment)
    subscribe(meter)
    command = ("billing", "credits", "top-up", "acme", "1000", "--request-id", "order-7")
    first = run.json(*command)
    paying.wait_for(lambda: done(meter) != [])
    again = run.json(*command)
    with pytest.raises(ConflictError):
        meter.top_up_credits("acme", 7, request_id="order-7")
    (listed,) = run.json("billing", "credits", "top-ups", "acme")["topUps"]

    assert (first["price"], first["grant_id"]) == ("9.00", "top-up.order-7")
    assert again == listed
    assert (again["state"], again["payment_id"]) == ("done", "top-up/acme/order-7")
    assert charged_cents(stripe) == [900]
    assert granted(meter) == {"top-up.order-7": 1_000_000_000}
    (payment,) = run.json("billing", "payments", "list", "--tenant", "acme")["payments"]
    assert (payment["id"], payment["kind"], payment["state"]) == ("top-up/acme/order-7", "top_up", "done")


def test_nobody_grants_in_the_name_of_a_top_up(paying: PayingServer) -> None:
    """A grant of a top-up's name would let the card be charged and nothing be granted: it is refused."""
    subscribe(paying.meter)
    with pytest.raises(InvalidArgumentError) as caught:
        paying.meter.grant_credits("acme", CreditGrant("top-up.order-8", 1))
    assert [violation.field for violation in caught.value.field_violations] == ["grant.grant_id"]


def test_without_a_provider_nothing_is_bought(server: ServerProcess) -> None:
    """By hand the call says what to configure; by itself the subscription says so."""
    with Meter(server.address, key=server.admin_key) as meter:
        subscribe(meter)
        with pytest.raises(PreconditionError) as caught:
            meter.top_up_credits("acme", 1_000_000, request_id="order-1")
        found = automatic(meter)
        meter.cancel_subscription("acme", at_once=True)

    assert caught.value.reason == "PAYMENT_NOT_CONFIGURED"
    assert (found.state, "stripe_key_file" in found.problem) == (AutomaticTopUpState.NOT_CONFIGURED, True)


@pytest.mark.parametrize("request_id", ["", "auto.1", "a b"])
def test_all_that_is_wrong_with_a_top_up_is_said(server: ServerProcess, request_id: str) -> None:
    """A request with a bad name and a bad amount names both fields."""
    with (
        Meter(server.address, key=server.admin_key) as meter,
        pytest.raises(InvalidArgumentError) as caught,
    ):
        meter.top_up_credits("acme", 0, request_id=request_id)
    assert [one.field for one in caught.value.field_violations] == ["request_id", "amount_microcredits"]


def test_a_declined_card_is_told_and_holds_further_ones(paying: PayingServer, stripe: StripeServer) -> None:
    """A decline shows with its reason and when the card is charged again; nothing else is bought; retried it works."""
    meter, run = paying.meter, CommandLine(paying.process.client_environment)
    subscribe(meter)
    stripe.declines = 1
    use_half(meter)
    paying.wait_for(lambda: automatic(meter).state is AutomaticTopUpState.DECLINED)
    shown = run.json("billing", "subscription", "get", "--tenant", "acme")["automaticTopUp"]
    (top_up,) = meter.list_top_ups("acme")
    other = meter.top_up_credits("acme", 1_000_000, request_id="order-1")
    assert (shown["problem"], shown["lastState"], shown["nextDate"] is None) == (
        "the card was declined: card_declined",
        "pending",
        False,
    )
    assert (top_up.decline_count, other.request_id, granted(meter)) == (1, "auto.1", {})
    bought = run("billing", "credits", "top-up", "acme", "1", "--request-id", "order-1", status=1)
    assert "auto.1" in bought.stdout
    assert bought.stderr == "Nothing was bought: auto.1 is pending. Buy again when it is done.\n"

    run("billing", "payments", "retry", top_up.payment_id)
    paying.wait_for(lambda: done(meter) != [])
    assert charged_cents(stripe) == [TOP_UP_CENTS]
    assert granted(meter) == {"top-up.auto.1": TOP_UP_MICROCREDITS}


def test_events_of_charges_grant_once(paying: PayingServer, stripe: StripeServer) -> None:
    """A charge that was given up is granted when Stripe tells later that it succeeded; told again nothing happens."""
    meter = paying.meter
    subscribe(meter)
    stripe.faults.refused[INTENTS] = RefusalError(400, "invalid_request_error", "amount too small")
    use_half(meter)
    paying.wait_for(lambda: automatic(meter).state is AutomaticTopUpState.SUSPENDED)
    (failed,) = meter.list_top_ups("acme")
    assert (failed.state, "amount too small" in failed.problem, granted(meter)) == (
        TopUpState.FAILED,
        True,
        {},
    )

    instance = next(one["metadata"] for one in stripe.of_kind("customer"))["taximeter_instance"]
    metadata = {"taximeter_instance": instance, "taximeter_charge": "acme/auto.1"}
    for event_id in ("evt_1", "evt_1", "evt_2"):
        payload = event_of("payment_intent.succeeded", {"id": "pi_9", "metadata": metadata}).replace(
            b"evt_1", event_id.encode()
        )
        assert post_event(paying.process, payload, signed(payload)) == (200, b"{}")

    (top_up,) = done(meter)
    assert (top_up.external_id, granted(meter)) == ("pi_9", {"top-up.auto.1": TOP_UP_MICROCREDITS})
    assert {one.state.value for one in meter.list_payments("acme")} == {"DONE"}
    (grant,) = [one for one in meter.list_credit_grants("acme") if one.grant_id == "top-up.auto.1"]
    assert grant.state is CreditGrantState.ACTIVE


def test_who_may_buy_and_look(paying: PayingServer) -> None:
    """Only admins of the tenant buy; a read key that is bound to it may look, others may not."""
    subscribe(paying.meter)

    def with_key(role: Role, *tenants: str) -> Meter:
        return Meter(
            f"http://{paying.process.address}", key=paying.meter.create_key(role, tenants=tenants).secret
        )

    with with_key(Role.READ, "acme") as meter:
        assert meter.list_top_ups() == ()
        with pytest.raises(ForbiddenError):
            meter.top_up_credits("acme", 1_000_000, request_id="order-1")
    for role, tenants in [(Role.READ, ()), (Role.READ, ("zeta",)), (Role.METER, ())]:
        with with_key(role, *tenants) as meter, pytest.raises(ForbiddenError):
            meter.list_top_ups("acme")
    with with_key(Role.ADMIN, "zeta") as meter, pytest.raises(ForbiddenError):
        meter.top_up_credits("acme", 1_000_000, request_id="order-1")


@pytest.mark.timeout(300)
def test_a_kill_within_a_charge_charges_and_grants_once(
    fresh_server: Callable[..., ServerProcess],
    stripe: StripeServer,
    stripe_arguments: list[str],
    tmp_path: Path,
) -> None:
    """A server dies while Stripe makes the charge, the next while it takes the money: one charge, and one grant."""
    data = tmp_path / "data"
    with (
        fresh_server(data, arguments=stripe_arguments) as first,
        Meter(first.address, key=first.admin_key) as meter,
    ):
        subscribe(meter)
    plain = fresh_server(data)
    with Meter(plain.address, key=plain.admin_key) as meter:
        use_half(meter)
    plain.stop()
    paying = ServerProcess(data, arguments=stripe_arguments)
    start_and_be_killed(paying, stripe, is_after=False, path=INTENTS)
    start_and_be_killed(paying, stripe, is_after=True, path=f"{INTENTS}/pi_000002/confirm")
    with paying, Meter(paying.address, key=paying.admin_key) as meter:
        wait_until(lambda: done(meter) != [], paying)
        assert granted(meter) == {"top-up.auto.1": TOP_UP_MICROCREDITS}

    assert charged_cents(stripe) == [TOP_UP_CENTS]
    assert len(stripe.of_kind("payment_intent")) == 1


@pytest.mark.timeout(300)
def test_two_servers_on_one_store_buy_once(
    fresh_server: Callable[..., ServerProcess],
    stripe: StripeServer,
    stripe_arguments: list[str],
    tmp_path: Path,
) -> None:
    """Servers that share a store buy between them what one plan asks for, and as often as the day allows."""
    with tempfile.TemporaryDirectory(prefix="tx") as short, StoreProcess(Path(short) / "store") as store:
        buy_on(store, fresh_server, [*stripe_arguments, "--ledger", str(tmp_path / "ledger")])

    assert charged_cents(stripe) == [TOP_UP_CENTS] * 2


def buy_on(store: StoreProcess, fresh_server: Callable[..., ServerProcess], arguments: Sequence[str]) -> None:
    """Have two servers of one store buy twice."""
    shared = ["--store", store.url, *arguments]
    servers = [fresh_server(arguments=shared) for _ in range(2)]
    with Meter(servers[0].address, key=servers[0].admin_key) as meter:
        subscribe(meter, cooldown="0 seconds", daily_max=2)
        for _ in range(4):
            use_half(meter)
        wait_until(lambda: len(done(meter)) == 2, servers[0])
        wait_until(lambda: automatic(meter).state is AutomaticTopUpState.WAITING, servers[0])
        assert granted(meter) == {f"top-up.auto.{one}": TOP_UP_MICROCREDITS for one in (1, 2)}
    for server in servers:
        server.stop()
