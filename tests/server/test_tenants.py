# SPDX-License-Identifier: Apache-2.0
"""Tenants: what a path is, what a key reaches, and that settings are kept."""

from collections.abc import Sequence

import pytest
from server.stopped_clock import StoppedClock

from taximeter_server.errors import InvalidFieldsError, TenantForbiddenError, TenantUnknownError
from taximeter_server.limits import Limits, TemporaryLimits
from taximeter_server.store import DocumentStore
from taximeter_server.tenant_path import check_tenant, require_reach
from taximeter_server.tenants import Tenant, Tenants


class LimitLog:
    """Keeps what it is told, in order."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Limits]] = []

    def put_limits(self, levels: Sequence[Tenant]) -> None:
        """Note the limits."""
        self.calls += [(level.name, level.limits) for level in levels]

    def remove_limits(self, names: Sequence[str]) -> None:
        """Note that they have none."""
        self.calls += [(name, Limits()) for name in names]


@pytest.fixture
def limit_log() -> LimitLog:
    """What reached the engine's side."""
    return LimitLog()


@pytest.fixture
def tenants(documents: DocumentStore, limit_log: LimitLog, clock: StoppedClock) -> Tenants:
    """The tenants of an empty store."""
    return Tenants(documents, limit_log, clock)


@pytest.mark.parametrize("tenant", ["a", "acme", "acme/research", "a/b/c/d", "a.b/-_/0", "...", "x" * 64])
def test_paths_are_accepted(tenant: str) -> None:
    """One to four segments of the alphabet are a tenant."""
    assert check_tenant(tenant, "tenant") == tenant


@pytest.mark.parametrize(
    "tenant",
    [
        "",
        "A",
        "a b",
        "/a",
        "a/",
        "a//b",
        "a/b/c/d/e",
        ".",
        "..",
        "a/../b",
        "x" * 65,
        "{x}",
        "a\n",
        "\u0430cme",
        "a*",
    ],
)
def test_everything_else_is_refused(tenant: str) -> None:
    """What is no path is refused by the field's name."""
    with pytest.raises(InvalidFieldsError) as caught:
        check_tenant(tenant, "query.tenant")

    assert caught.value.violations[0].field == "query.tenant"


@pytest.mark.parametrize(
    ("tenant", "bounds"),
    [
        ("acme", ()),
        ("acme", ("acme",)),
        ("acme/x", ("acme",)),
        ("beta", ("acme", "beta")),
        ("a/b/c", ("a/b",)),
    ],
)
def test_key_reaches_its_tenants_and_all_below(tenant: str, bounds: tuple[str, ...]) -> None:
    """A bound reaches itself and everything below; no bound reaches all."""
    require_reach(tenant, bounds)


@pytest.mark.parametrize(
    ("tenant", "bounds"),
    [("acme", ("acme/x",)), ("acme2", ("acme",)), ("beta", ("acme",)), ("acme", ("acm",))],
)
def test_key_reaches_nothing_else(tenant: str, bounds: tuple[str, ...]) -> None:
    """Parents, neighbours and names that merely begin alike are out of reach."""
    with pytest.raises(TenantForbiddenError):
        require_reach(tenant, bounds)


def test_settings_are_kept_and_enforced(tenants: Tenants, limit_log: LimitLog, clock: StoppedClock) -> None:
    """What was put is what is shown, and its limits reach the engine; 0 and no limit differ."""
    limits = Limits(requests_per_minute=0, cost_per_day_picos=2**63 - 1)
    put = tenants.put(Tenant(name="acme", display_name="Acme Ltd", limits=limits))

    assert tenants.get("acme") == put
    assert put.update_time_ms == clock.now_ms
    assert limit_log.calls == [("acme", limits)]


def test_settings_are_replaced_as_a_whole(tenants: Tenants) -> None:
    """Limits that are left out are removed."""
    tenants.put(Tenant(name="acme", display_name="Acme", limits=Limits(tokens_per_day=5)))
    tenants.put(Tenant(name="acme", limits=Limits(requests_per_minute=1)))

    assert tenants.get("acme").limits == Limits(requests_per_minute=1)
    assert tenants.get("acme").display_name == ""


def test_temporary_limits_are_shown_until_they_end(tenants: Tenants, clock: StoppedClock) -> None:
    """What has ended by itself is not shown as if it were in force, and what is over is not set."""
    temporary = TemporaryLimits(limits=Limits(tokens_per_day=9), until_ms=clock.now_ms + 1_000)
    put = tenants.put(Tenant(name="acme", limits=Limits(tokens_per_day=5), temporary_limits=temporary))
    assert put.temporary_limits == tenants.get("acme").temporary_limits == temporary

    clock.now_ms += 1_000
    shown = [tenants.get("acme"), *tenants.list(), tenants.put(put)]
    assert [(each.temporary_limits, each.limits.tokens_per_day) for each in shown] == [(None, 5)] * 3


def test_all_that_is_wrong_with_settings_is_said_at_once(tenants: Tenants) -> None:
    """Whoever mends settings sees every field that is out of range."""
    limits = Limits(requests_per_minute=-1, cost_per_day_picos=-1)
    wrong = Tenant(
        name="Acme",
        display_name="x" * 201,
        limits=limits,
        temporary_limits=TemporaryLimits(limits=limits, until_ms=0),
        fail_open_requests=-1,
    )
    with pytest.raises(InvalidFieldsError) as caught:
        tenants.put(wrong)
    assert [violation.field for violation in caught.value.violations] == [
        "tenant.name",
        "tenant.display_name",
        "tenant.limits.requests_per_minute",
        "tenant.limits.cost_per_day_picos",
        "tenant.temporary_limits.limits.requests_per_minute",
        "tenant.temporary_limits.limits.cost_per_day_picos",
        "tenant.temporary_limits.until_time",
        "tenant.fail_open_requests",
    ]


def test_tenants_are_listed_by_name(tenants: Tenants) -> None:
    """list() shows every tenant with settings, in order of name."""
    for name in ("b", "a/x", "a"):
        tenants.put(Tenant(name=name, limits=Limits()))

    assert [tenant.name for tenant in tenants.list()] == ["a", "a/x", "b"]


def test_tenant_without_settings_is_unknown(tenants: Tenants) -> None:
    """A tenant that was never put has no settings to show."""
    with pytest.raises(TenantUnknownError):
        tenants.get("acme")


@pytest.mark.parametrize(
    ("limits", "field"),
    [
        (Limits(requests_per_minute=-1), "tenant.limits.requests_per_minute"),
        (Limits(requests_per_minute=10**9 + 1), "tenant.limits.requests_per_minute"),
        (Limits(tokens_per_day=10**15 + 1), "tenant.limits.tokens_per_day"),
        (Limits(cost_per_day_picos=-1), "tenant.limits.cost_per_day_picos"),
    ],
)
def test_limits_out_of_range_are_refused(
    tenants: Tenants, limit_log: LimitLog, limits: Limits, field: str
) -> None:
    """A limit out of range is refused by name, and nothing changes."""
    with pytest.raises(InvalidFieldsError) as caught:
        tenants.put(Tenant(name="acme", limits=limits))

    assert caught.value.violations[0].field == field
    assert tenants.list() == []
    assert limit_log.calls == []


def test_limits_are_repaired_from_documents(tenants: Tenants, limit_log: LimitLog) -> None:
    """After a kill between a document and its limits, the next start enforces the document."""
    tenants.put(Tenant(name="acme", limits=Limits(tokens_per_day=5)))
    limit_log.calls.clear()
    tenants.enforce_all()

    assert limit_log.calls == [("acme", Limits(tokens_per_day=5))]
