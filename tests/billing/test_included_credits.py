# SPDX-License-Identifier: Apache-2.0
"""Credits that subscriptions include, on a real server: granted per period, counted, taken back, and charged beyond."""

import json
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from server.waiting import eventually

from harness.command_line import CommandLine
from harness.server_process import ServerProcess
from taximeter import InvalidArgumentError, Meter, Usage
from taximeter.billing import InvoiceLineKind, NewPhase
from taximeter.clock import system_clock_ms

WAIT_SECONDS = 50
PLAN_YAML = """
name: {name}
price: 30
currency: USD
cadence: 30 days
credits:
  price: {credit}
  included: {included}
  overage: {{price: 0.012, policy: allow}}
"""
COST_PICOS = 5_000_000_000_000
"""Of a million tokens of gpt-5."""


@pytest.fixture
def meter(server: ServerProcess) -> Iterator[Meter]:
    """The client, with the admin key."""
    with Meter(server.address, key=server.admin_key) as found:
        yield found


def put_plan(meter: Meter, *, included: str, credit: str = "0.01") -> str:
    """Put a plan with so many credits."""
    name = f"plan-{secrets.token_hex(6)}"
    meter.put_plan_file(PLAN_YAML.format(name=name, included=included, credit=credit))
    return name


def use(meter: Meter, tenant: str) -> None:
    """Use 500 credits of 0.01 USD."""
    usage = Usage(uncached_input_tokens=1_000_000)
    assert meter.record(f"{tenant}/team", usage, model="gpt-5").cost.picos == COST_PICOS


def counts(meter: Meter, tenant: str) -> tuple[int, int]:
    """Return the subscription's credits, available and used."""
    found = meter.get_subscription(tenant).credits
    assert found is not None
    assert found.additional_available_microcredits == found.additional_used_microcredits == 0
    return found.subscription_available_microcredits, found.subscription_used_microcredits


def test_credits_are_granted_used_and_charged_beyond(server: ServerProcess, meter: Meter) -> None:
    """A period's credits are there at once; usage takes them, and what they do not cover is on the invoice."""
    tenant, plan = f"c{secrets.token_hex(6)}", put_plan(meter, included="800")
    meter.put_subscription(tenant, [NewPhase(plan)])
    assert counts(meter, tenant) == (800_000_000, 0)

    use(meter, tenant)
    assert counts(meter, tenant) == (800_000_000, 500_000_000)
    (draft,) = meter.list_invoices(tenant)
    assert [line.kind for line in draft.lines] == [InvoiceLineKind.PLAN]

    use(meter, tenant)
    assert counts(meter, tenant) == (800_000_000, 1_000_000_000)
    (draft,) = meter.list_invoices(tenant)
    overage = draft.lines[-1]
    assert (overage.kind, overage.quantity, overage.unit) == (
        InvoiceLineKind.OVERAGE,
        200_000_000,
        "microcredits",
    )
    # 200 credits of 0.012 USD.
    assert (overage.amount.picos, draft.total_minor) == (2_400_000_000_000, 3_240)

    taximeter = CommandLine(server.client_environment)
    found = json.loads(taximeter("billing", "subscription", "get", "--tenant", tenant).stdout)
    assert found["subscriptionAvailableCreditsCount"] - found["subscriptionCreditsUsedCount"] == -200
    assert (found["conversionRate"], found["overage"]) == ("0.01", "allow")


def test_a_change_of_plan_adds_what_the_new_one_has_more(meter: Meter) -> None:
    """The rest of the period has its share of the difference; a smaller plan takes nothing until the period ends."""
    tenant = f"c{secrets.token_hex(6)}"
    small, large = put_plan(meter, included="300"), put_plan(meter, included="900")
    begun = datetime.fromtimestamp(system_clock_ms() // 1_000, UTC) - timedelta(days=15)
    meter.put_subscription(tenant, [NewPhase(small)], start_time=begun)
    assert counts(meter, tenant) == (300_000_000, 0)

    changed = meter.change_plan(tenant, large)
    left_s = timedelta(days=30) - (changed.phases[-1].start_time - begun)
    added = 600_000_000 * int(left_s.total_seconds()) // (30 * 86_400)
    assert counts(meter, tenant) == (300_000_000 + added, 0)
    meter.change_plan(tenant, small)
    assert counts(meter, tenant) == (300_000_000 + added, 0)

    meter.cancel_subscription(tenant, at_once=True)
    # What is changed within a second takes force one after the other.
    assert eventually(lambda: counts(meter, tenant) == (0, 0), WAIT_SECONDS)


def test_a_credit_keeps_its_worth(meter: Meter) -> None:
    """A plan whose credits are worth something else is refused."""
    tenant = f"c{secrets.token_hex(6)}"
    meter.put_subscription(tenant, [NewPhase(put_plan(meter, included="1"))])

    with pytest.raises(InvalidArgumentError, match="worth"):
        meter.change_plan(tenant, put_plan(meter, included="1", credit="0.02"))
