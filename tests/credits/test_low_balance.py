# SPDX-License-Identifier: Apache-2.0
"""Events that say that few credits are left: shares of the balance that there was when credits came in last."""

import pytest
from credits.test_credit_service import CALL, CREDIT, INPUT, OUTPUT, now

from taximeter import CreditGrant, LimitKind, Meter

COST = INPUT + OUTPUT
"""12.5 credits."""


def told(meter: Meter, tenant: str) -> list[tuple[int, int, int]]:
    """Return percent, maximum and used of each event, oldest first."""
    events = meter.list_quota_events(tenant).events
    assert {event.kind for event in events} <= {LimitKind.CREDITS}
    return [(event.threshold_percent, event.maximum, event.used) for event in events]


@pytest.fixture
def account(meter: Meter, tenant: str) -> str:
    """A root tenant with 20 credits."""
    meter.put_credit_account(tenant, 10_000)
    meter.grant_credits(tenant, CreditGrant("first", 20 * CREDIT))
    return tenant


def test_each_share_is_told_once_until_credits_come_in(meter: Meter, account: str) -> None:
    """Usage tells the shares that it comes to; what comes in, less what was owed, is the next measure."""
    meter.record(f"{account}/bot", CALL, model="gpt-5")
    first = [(50, 20 * CREDIT, COST)]
    assert told(meter, account) == first
    for _ in range(2):
        meter.record(f"{account}/bot", CALL, model="gpt-5")
    second = [*first, *((percent, 20 * CREDIT, 2 * COST) for percent in (80, 95, 100))]
    assert told(meter, account) == second

    # 17.5 are owed.
    meter.grant_credits(account, CreditGrant("second", 117 * CREDIT + CREDIT // 2))
    for _ in range(4):
        meter.record(account, CALL, model="gpt-5")
    assert told(meter, account) == [*second, (50, 100 * CREDIT, 4 * COST)]


def test_what_is_taken_back_is_gone_too(meter: Meter, account: str) -> None:
    """A void is told like usage; grants for later count when they take effect, and not before."""
    later = CreditGrant("later", 1_000 * CREDIT, effective_time=now().replace(year=2_100))
    meter.grant_credits(account, later)
    meter.grant_credits(account, CreditGrant("more", 80 * CREDIT))
    meter.void_credit_grant(account, "more", reason="wrong")

    assert told(meter, account) == [(50, 100 * CREDIT, 80 * CREDIT), (80, 100 * CREDIT, 80 * CREDIT)]


def test_an_account_that_never_had_credits_tells_nothing(meter: Meter, tenant: str) -> None:
    """There is no share of nothing."""
    meter.put_credit_account(tenant, 10_000)
    meter.record(tenant, CALL, model="gpt-5")

    assert told(meter, tenant) == []
