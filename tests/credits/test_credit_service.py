# SPDX-License-Identifier: Apache-2.0
"""Credits through the API: accounts, grants, debits, the fourth limit, corrections, reports."""

import threading
from datetime import UTC, datetime, timedelta

import pytest
from credits.conftest import RATE
from surface.forward_probe import wait_until

from harness.server_process import ServerProcess
from taximeter import (
    ConflictError,
    CreditGrant,
    CreditGrantKind,
    CreditGrantState,
    CreditPolicy,
    ForbiddenError,
    InvalidArgumentError,
    LimitKind,
    Meter,
    NotFoundError,
    PreconditionError,
    Role,
    Usage,
    new_record_id,
)
from taximeter.clock import system_clock_ms

CREDIT = 1_000_000
CALL = Usage(uncached_input_tokens=20_000, visible_output_tokens=1_000)
"""10 credits of input and 2.5 of output."""
INPUT, OUTPUT = 10 * CREDIT, 2_500_000


def now() -> datetime:
    """The present, to the millisecond."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=system_clock_ms())


@pytest.fixture
def account(meter: Meter, tenant: str) -> str:
    """A root tenant with an account that blocks, and 20 credits."""
    meter.put_credit_account(tenant, RATE)
    meter.grant_credits(tenant, CreditGrant("first", 20 * CREDIT, cost_basis_picos=200_000_000_000))
    return tenant


def left(meter: Meter, tenant: str) -> dict[str, int]:
    """Return what is left of each grant."""
    return {grant.grant_id: grant.remaining_microcredits for grant in meter.list_credit_grants(tenant)}


def test_usage_takes_credits_and_is_never_refused(meter: Meter, account: str) -> None:
    """Each line is debited, a record sent twice once; what no grant covers is owed, and the next grant pays it."""
    record_id = new_record_id()
    first = meter.record(f"{account}/bot", CALL, model="gpt-5", record_id=record_id)
    again = meter.record(f"{account}/bot", CALL, model="gpt-5", record_id=record_id)
    assert (first.credit_microcredits, first.overdrawn_microcredits) == (INPUT + OUTPUT, 0)
    assert (again.credit_microcredits, again.duplicate) == (INPUT + OUTPUT, True)

    second = meter.record(account, CALL, model="gpt-5")
    assert (second.credit_microcredits, second.overdrawn_microcredits) == (INPUT + OUTPUT, 5 * CREDIT)
    found = meter.get_credit_account(account)
    assert (found.available_microcredits, found.used_microcredits) == (20 * CREDIT, 25 * CREDIT)
    assert (found.balance_microcredits, found.overdrawn_microcredits) == (-5 * CREDIT, 5 * CREDIT)

    meter.grant_credits(account, CreditGrant("second", 8 * CREDIT))
    assert left(meter, account) == {"first": 0, "second": 3 * CREDIT}
    assert meter.get_credit_account(account).overdrawn_microcredits == 0


def test_credits_are_the_fourth_limit(meter: Meter, account: str) -> None:
    """A check that the balance has no room for is denied, names credits, and consumes nothing."""
    fits = meter.check_quota(account, model="gpt-5", estimate=CALL)
    larger = Usage(uncached_input_tokens=40_001)
    denied = meter.check_quota(account, model="gpt-5", estimate=larger)

    assert (fits.allowed, denied.allowed) == (True, False)
    (limit,) = denied.limits
    assert (limit.kind, limit.tenant, limit.exceeded, limit.reset_time) == (
        LimitKind.CREDITS,
        account,
        True,
        None,
    )
    assert (limit.maximum, limit.used, limit.held, limit.remaining) == (20 * CREDIT, 0, 0, 20 * CREDIT)
    assert denied.retry_after is None
    assert meter.quota_status(f"{account}/bot")[0].kind is LimitKind.CREDITS

    meter.put_credit_account(account, RATE, policy=CreditPolicy.OVERDRAFT, overdraft_microcredits=CREDIT)
    assert meter.check_quota(account, model="gpt-5", estimate=larger).allowed
    meter.put_credit_account(account, RATE, policy=CreditPolicy.ALLOW)
    free = meter.check_quota(account, model="gpt-5", estimate=Usage(uncached_input_tokens=10**9))
    assert free.allowed
    assert (free.limits[0].shadow, free.limits[0].exceeded) == (True, False)


def test_holds_reserve_credits(meter: Meter, account: str) -> None:
    """What one call holds no other has, until it is recorded or released."""
    hold = meter.check_quota(account, model="gpt-5", estimate=CALL, hold_ttl=timedelta(minutes=1))
    assert hold.allowed
    assert meter.get_credit_account(account).held_microcredits == INPUT + OUTPUT
    assert not meter.check_quota(account, model="gpt-5", estimate=CALL).allowed

    meter.release_hold(account, hold.hold_id)
    again = meter.check_quota(account, model="gpt-5", estimate=CALL, hold_ttl=timedelta(minutes=1))
    recorded = meter.record(account, CALL, model="gpt-5", hold_id=again.hold_id)
    found = meter.get_credit_account(account)
    assert (recorded.overdrawn_microcredits, found.held_microcredits) == (0, 0)
    assert found.balance_microcredits == 20 * CREDIT - INPUT - OUTPUT


def test_callers_at_once_never_overspend(meter: Meter, server: ServerProcess, account: str) -> None:
    """Of 64 callers that hold and record, no more pass than the credits cover: nothing is overdrawn."""
    passed: list[int] = []

    def call() -> None:
        with Meter(f"http://{server.address}", key=server.admin_key) as client:
            small = Usage(uncached_input_tokens=2_000)
            answer = client.check_quota(account, model="gpt-5", estimate=small, hold_ttl=timedelta(minutes=5))
            if answer.allowed:
                recorded = client.record(account, small, model="gpt-5", hold_id=answer.hold_id)
                passed.append(recorded.overdrawn_microcredits)

    callers = [threading.Thread(target=call) for _ in range(64)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()

    # A call takes one credit of twenty.
    assert passed == [0] * 20
    found = meter.get_credit_account(account)
    assert (found.balance_microcredits, found.overdrawn_microcredits, found.held_microcredits) == (0, 0, 0)


def test_a_grant_is_made_once(meter: Meter, account: str) -> None:
    """The same grant again changes nothing; another one of its id is a conflict, and so is another rate."""
    grant = CreditGrant(
        "promo", 5 * CREDIT, CreditGrantKind.PROMO, priority=0, models=("gpt-5",), note="hello"
    )
    first, again = meter.grant_credits(account, grant), meter.grant_credits(account, grant)
    assert first == again
    assert first.state is CreditGrantState.ACTIVE
    assert left(meter, account) == {"first": 20 * CREDIT, "promo": 5 * CREDIT}

    with pytest.raises(ConflictError, match="promo"):
        meter.grant_credits(account, CreditGrant("promo", 6 * CREDIT))
    with pytest.raises(PreconditionError):
        meter.put_credit_account(account, RATE + 1)
    with pytest.raises(NotFoundError):
        meter.grant_credits(f"{account}x", grant)
    with pytest.raises(NotFoundError):
        meter.void_credit_grant(account, "none", reason="a test")


def test_what_is_wrong_is_all_named(meter: Meter, tenant: str) -> None:
    """Fields out of range are refused together, each with its name."""
    with pytest.raises(InvalidArgumentError) as refused:
        meter.grant_credits(tenant, CreditGrant("a b", 0, priority=-1, models=("",)))
    assert {violation.field for violation in refused.value.field_violations} == {
        "grant.grant_id",
        "grant.amount_microcredits",
        "grant.priority",
        "grant.models",
    }
    with pytest.raises(InvalidArgumentError) as refused:
        meter.put_credit_account(tenant, 0, overdraft_microcredits=1)
    assert [violation.field for violation in refused.value.field_violations] == [
        "account.picos_per_microcredit",
        "account.overdraft_microcredits",
    ]
    with pytest.raises(InvalidArgumentError, match="first segment"):
        meter.put_credit_account(f"{tenant}/below", RATE)


def test_a_void_takes_what_is_left(meter: Meter, account: str) -> None:
    """Of a grant that is voided, what was used stays used; again it changes nothing."""
    meter.record(account, CALL, model="gpt-5")
    voided = meter.void_credit_grant(account, "first", reason="refunded")
    again = meter.void_credit_grant(account, "first", reason="refunded")

    assert voided == again
    assert (voided.state, voided.remaining_microcredits, voided.void_reason) == (
        CreditGrantState.VOIDED,
        0,
        "refunded",
    )
    found = meter.get_credit_account(account)
    assert (found.available_microcredits, found.balance_microcredits) == (INPUT + OUTPUT, 0)


def test_a_grant_expires_by_itself(meter: Meter, account: str) -> None:
    """When its time has come, what is left of a grant is gone, and the balance says so."""
    meter.grant_credits(account, CreditGrant("short", 5 * CREDIT, expire_time=now() + timedelta(seconds=2)))
    wait_until(lambda: left(meter, account)["short"] == 0)

    found = {grant.grant_id: grant.state for grant in meter.list_credit_grants(account)}
    assert found == {"first": CreditGrantState.ACTIVE, "short": CreditGrantState.EXPIRED}
    assert meter.get_credit_account(account).balance_microcredits == 20 * CREDIT


def test_corrections_give_back(meter: Meter, account: str) -> None:
    """A void gives back what its record took, to the same grants; an amendment is debited like new usage."""
    meter.grant_credits(account, CreditGrant("promo", 5 * CREDIT, CreditGrantKind.PROMO, priority=0))
    at = now() - timedelta(minutes=5)
    ids = [new_record_id(), new_record_id()]
    for record_id in ids:
        meter.record(account, CALL, model="gpt-5", record_id=record_id, occur_time=at)
    assert left(meter, account) == {"first": 0, "promo": 0}
    assert meter.get_credit_account(account).balance_microcredits == 0

    meter.void_record(account, ids[0], reason="never happened")
    assert left(meter, account) == {"first": 7_500_000, "promo": 5 * CREDIT}
    meter.amend_record(account, ids[1], Usage(uncached_input_tokens=2_000), reason="counted wrong")
    # All 12.5 of the second came from the first grant; one credit of the promotion pays what it is now.
    assert left(meter, account) == {"first": 20 * CREDIT, "promo": 4 * CREDIT}

    day = at.replace(hour=0, minute=0, second=0, microsecond=0)
    report = meter.report(day, day + timedelta(days=1), tenant=account)
    assert (report.total.credit_microcredits, report.total.overdrawn_microcredits) == (CREDIT, 0)


def test_reports_sum_credits(meter: Meter, account: str) -> None:
    """Reports and metrics have the credits of each class, and they add up to what was used."""
    for _ in range(2):
        meter.record(account, CALL, model="gpt-5")
    day = now().replace(hour=0, minute=0, second=0, microsecond=0)
    # Midnight may lie between the records and now.
    report = meter.report(
        day - timedelta(days=1), day + timedelta(days=1), tenant=account, group_by=["usage_class"]
    )

    assert {row.group["usage_class"]: row.measures.credit_microcredits for row in report.rows} == {
        "input": 2 * INPUT,
        "output": 2 * OUTPUT,
    }
    assert report.total.credit_microcredits == meter.get_credit_account(account).used_microcredits
    assert report.total.overdrawn_microcredits == 5 * CREDIT


def test_an_estimate_says_whether_credits_last(meter: Meter, account: str) -> None:
    """The credits of a batch, what remains, and the call that they stop."""
    found = meter.estimate(CALL, model="gpt-5", call_count=3, limits_tenant=account)

    assert found.credit_microcredits == 3 * (INPUT + OUTPUT)
    (limit,) = found.limits
    assert (limit.status.kind, limit.stops, limit.passed_count) == (LimitKind.CREDITS, True, 1)
    assert (limit.needed, limit.status.remaining) == (3 * (INPUT + OUTPUT), 20 * CREDIT)


SCOPES = {
    "another model": [CreditGrant("mini", 500 * CREDIT, models=("gpt-5-mini",))],
    "this model": [CreditGrant("mine", 7 * CREDIT, models=("gpt-5",), priority=5)],
    "one class": [CreditGrant("outputs", 11 * CREDIT, usage_classes=("output",))],
    "one after the other": [
        CreditGrant("any", 9 * CREDIT, priority=1),
        CreditGrant("inputs", 31 * CREDIT, usage_classes=("input",), priority=2),
        CreditGrant("outputs", 4 * CREDIT, usage_classes=("output",), models=("gpt-5",), priority=3),
        CreditGrant("later", 90 * CREDIT, effective_time=now().replace(year=2_100)),
    ],
}


@pytest.mark.parametrize("case", SCOPES)
def test_an_estimate_knows_what_grants_are_for(meter: Meter, account: str, case: str) -> None:
    """As many calls pass as are let through then, and what remains is what calls like these could still use."""
    for grant in SCOPES[case]:
        meter.grant_credits(account, grant)
    (limit,) = meter.estimate(CALL, model="gpt-5", call_count=100, limits_tenant=account).limits
    passed = 0
    while meter.check_quota(account, model="gpt-5", estimate=CALL).allowed:
        meter.record(account, CALL, model="gpt-5")
        passed += 1
    scopes = {grant.grant_id: grant.models or () for grant in SCOPES[case]}
    usable = {name: found for name, found in left(meter, account).items() if name != "later"}
    usable = {name: found for name, found in usable.items() if scopes.get(name, ()) in {(), ("gpt-5",)}}

    assert (limit.stops, limit.passed_count, limit.remaining_after) == (True, passed, sum(usable.values()))


def test_who_may_see_credits(meter: Meter, server: ServerProcess, account: str) -> None:
    """A read key bound to the tenant may look; it changes nothing, and others, unbound ones too, see nothing."""
    read = meter.create_key(Role.READ, tenants=[account])
    others = [meter.create_key(Role.READ, tenants=bound) for bound in ([f"{account}x"], [f"{account}/x"], [])]
    with Meter(f"http://{server.address}", key=read.secret) as reader:
        assert reader.get_credit_account(account).balance_microcredits == 20 * CREDIT
        assert [grant.grant_id for grant in reader.list_credit_grants(account)] == ["first"]
        for change in (
            lambda: reader.grant_credits(account, CreditGrant("mine", CREDIT)),
            lambda: reader.void_credit_grant(account, "first", reason="mine"),
            lambda: reader.put_credit_account(account, RATE, policy=CreditPolicy.ALLOW),
        ):
            with pytest.raises(ForbiddenError):
                change()
    for other in others:
        with Meter(f"http://{server.address}", key=other.secret) as stranger:
            for look in (
                stranger.get_credit_account,
                stranger.list_credit_grants,
                stranger.list_credit_entries,
            ):
                with pytest.raises(ForbiddenError):
                    look(account)


def test_changes_are_audited(meter: Meter, account: str) -> None:
    """The audit log has each change of an account, with what it changed."""
    meter.void_credit_grant(account, "first", reason="a test")
    events = [event for event in meter.list_audit_events() if account in event.tenants]
    changed = {
        (event.method.rpartition("/")[2], change.document) for event in events for change in event.changes
    }
    assert {name for name, _ in changed} == {"PutCreditAccount", "GrantCredits", "VoidCreditGrant"}
    assert ("GrantCredits", f"credits/{account}/credit-grant:first") in changed


def test_entries_add_up_to_the_balance(meter: Meter, account: str) -> None:
    """Every debit is found with its record, line and grant; the sum of all entries is the balance."""
    record_id = new_record_id()
    meter.record(f"{account}/bot", CALL, model="gpt-5", record_id=record_id)
    meter.record(account, CALL, model="gpt-5")
    meter.void_record(f"{account}/bot", record_id, reason="sent twice")
    meter.void_credit_grant(account, "first", reason="refunded")

    found = meter.list_credit_entries(account)
    assert [entry.kind.value for entry in found] == [
        "ACCOUNT",
        "GRANT",
        "USAGE",
        "USAGE",
        "VOID",
        "GRANT_VOID",
    ]
    assert found[2].record_id == record_id
    assert [(one.usage_class, one.grant_id, one.microcredits) for one in found[2].moves] == [
        ("input", "first", -INPUT),
        ("output", "first", -OUTPUT),
    ]
    assert (found[4].microcredits, found[4].note) == (INPUT + OUTPUT, "sent twice")
    assert (
        sum(entry.microcredits for entry in found) == meter.get_credit_account(account).balance_microcredits
    )
    assert meter.list_credit_entries(account, grant_id="none") == ()
