# SPDX-License-Identifier: Apache-2.0
"""TenantService: settings are enforced at once and shown to nobody who may not see them."""

from datetime import timedelta

import grpc
import pytest
from server.api import ADMIN, DENIED, METER, READ, Api, new_tenant, put_tenant, record

from harness.grpc_status import refusal_of
from taximeter.v1 import (
    access_service_pb2,
    metering_service_pb2,
    plan_service_pb2,
    quota_pb2,
    tenant_service_pb2,
    usage_pb2,
)


def test_tenant_settings_are_kept_and_enforced(api: Api) -> None:
    """Limits that were put are shown, and the very next check obeys them."""
    name = new_tenant()
    put = put_tenant(api, name, requests_per_minute=0)
    shown = api.call(api.tenants.GetTenant, tenant_service_pb2.GetTenantRequest(tenant=name)).tenant
    status = api.call(api.tenants.GetQuotaStatus, tenant_service_pb2.GetQuotaStatusRequest(tenant=name))
    check = metering_service_pb2.CheckQuotaRequest(tenant=name)

    assert shown == put
    assert shown.limits.requests_per_minute == 0
    assert not shown.limits.HasField("tokens_per_day")
    assert [(limit.tenant, limit.maximum) for limit in status.limits] == [(name, 0)]
    assert api.call(api.metering.CheckQuota, check).decision == metering_service_pb2.DECISION_DENY
    put_tenant(api, name)
    assert api.call(api.metering.CheckQuota, check).decision == metering_service_pb2.DECISION_ALLOW


def test_all_that_is_wrong_with_settings_is_said_at_once(api: Api) -> None:
    """What cannot be read and what is out of range are named together, with their paths in the request."""
    limits = quota_pb2.Limits(requests_per_minute=-1, shadow=[99])  # type: ignore[list-item]
    settings = tenant_service_pb2.Tenant(
        name="Acme",
        limits=limits,
        temporary_limits=quota_pb2.TemporaryLimits(limits=quota_pb2.Limits(tokens_per_day=-1)),
        fail_open_requests=-1,
    )
    with pytest.raises(grpc.RpcError) as caught:
        api.call(api.tenants.PutTenant, tenant_service_pb2.PutTenantRequest(tenant=settings))
    plan = plan_service_pb2.Plan(
        name="Pro", limits=quota_pb2.Limits(requests_per_minute=-1, tokens_per_day=-1)
    )
    with pytest.raises(grpc.RpcError) as caught_plan:
        api.call(api.plans.PutPlan, plan_service_pb2.PutPlanRequest(plan=plan))

    assert set(refusal_of(caught.value).fields) == {
        *("tenant.name", "tenant.limits.shadow", "tenant.temporary_limits.until_time"),
        *("tenant.temporary_limits.limits.tokens_per_day", "tenant.fail_open_requests"),
    }
    assert refusal_of(caught_plan.value).fields == (
        *("plan.name", "plan.limits.requests_per_minute", "plan.limits.tokens_per_day"),
    )


def test_tenants_are_listed_below_a_parent(api: Api) -> None:
    """ListTenants shows a subtree by name; a bound key sees its own part alone."""
    root = new_tenant()
    for name in (f"{root}/b", root, f"{root}/a", f"{root}x"):
        put_tenant(api, name)
    bound = api.with_new_key(READ, f"{root}/a", f"{root}x")

    def names(caller: Api, parent: str) -> list[str]:
        request = tenant_service_pb2.ListTenantsRequest(parent=parent, page_size=1000)
        return [tenant.name for tenant in caller.call(caller.tenants.ListTenants, request).tenants]

    assert names(api, root) == [root, f"{root}/a", f"{root}/b"]
    assert names(bound, "") == [f"{root}/a", f"{root}x"]
    assert bound.fail(bound.tenants.ListTenants, tenant_service_pb2.ListTenantsRequest(parent=root)) == DENIED


def test_permission_is_checked_before_existence(api: Api) -> None:
    """A foreign tenant looks the same whether it exists or not."""
    existing, missing = new_tenant(), new_tenant()
    put_tenant(api, existing)
    bound = api.with_new_key(READ, new_tenant())
    unbound = api.with_new_key(READ)

    for name in (existing, missing):
        request = tenant_service_pb2.GetTenantRequest(tenant=name)
        assert bound.fail(bound.tenants.GetTenant, request) == DENIED
        quota = tenant_service_pb2.GetQuotaStatusRequest(tenant=name)
        assert bound.fail(bound.tenants.GetQuotaStatus, quota) == DENIED
    assert unbound.fail(unbound.tenants.GetTenant, tenant_service_pb2.GetTenantRequest(tenant=missing)) == (
        grpc.StatusCode.NOT_FOUND,
        "TENANT_UNKNOWN",
    )


def remove(api: Api, name: str, *, revoke_keys: bool = False) -> tenant_service_pb2.RemoveTenantResponse:
    """Remove a tenant."""
    request = tenant_service_pb2.RemoveTenantRequest(tenant=name, revoke_keys=revoke_keys)
    answer: tenant_service_pb2.RemoveTenantResponse = api.call(api.tenants.RemoveTenant, request)
    return answer


def limits_of(api: Api, name: str) -> list[tuple[int, int, int]]:
    """Return maximum, used and held of every limit."""
    request = tenant_service_pb2.GetQuotaStatusRequest(tenant=name)
    limits = api.call(api.tenants.GetQuotaStatus, request).limits
    return [(limit.maximum, limit.used, limit.held) for limit in limits]


def test_a_removed_tenant_is_limited_by_nothing_and_keeps_what_it_used(api: Api) -> None:
    """Settings of the whole subtree go, of nothing beside it; what was used and held counts when limits come back."""
    name = new_tenant()
    for each in (name, f"{name}/b", f"{name}/a/x", f"{name}x"):
        put_tenant(api, each, tokens_per_day=2_000_000)
    record(api, f"{name}/b")
    check = metering_service_pb2.CheckQuotaRequest(
        tenant=name, model="gpt-5", estimate=usage_pb2.Usage(uncached_input_tokens=7)
    )
    check.hold_ttl.FromTimedelta(timedelta(minutes=5))
    api.call(api.metering.CheckQuota, check)
    removal = remove(api, name)
    report = metering_service_pb2.CheckQuotaRequest(tenant=f"{name}/b", dry_run=True)

    assert list(removal.removed_tenants) == [name, f"{name}/a/x", f"{name}/b"]
    assert limits_of(api, f"{name}/b") == []
    assert api.call(api.metering.CheckQuota, report).decision == metering_service_pb2.DECISION_ALLOW
    assert limits_of(api, f"{name}x") == [(2_000_000, 0, 0)]
    gone = tenant_service_pb2.GetTenantRequest(tenant=f"{name}/b")
    assert api.fail(api.tenants.GetTenant, gone)[1] == "TENANT_UNKNOWN"
    put_tenant(api, name, tokens_per_day=2_000_000)
    assert limits_of(api, name) == [(2_000_000, 1_000_000, 7)]


def test_a_removed_tenant_has_the_default_plan_again(api: Api) -> None:
    """Settings, also those that limit nothing, keep a default plan away; without them it applies."""
    name = f"{new_tenant()}/a/b/c"
    plan = plan_service_pb2.Plan(name="default-4", limits=quota_pb2.Limits(requests_per_minute=77_777))
    api.call(api.plans.PutPlan, plan_service_pb2.PutPlanRequest(plan=plan))
    try:
        put_tenant(api, name)
        before = limits_of(api, name)
        remove(api, name)
        after = limits_of(api, name)
    finally:
        api.call(api.plans.RemovePlan, plan_service_pb2.RemovePlanRequest(plan="default-4"))

    assert (before, after) == ([], [(77_777, 0, 0)])


def test_keys_hold_up_the_removal_of_their_tenant(api: Api) -> None:
    """A tenant whose keys work is not let off its limits; where it is asked for, they are revoked first."""
    name, other = new_tenant(), new_tenant()
    put_tenant(api, name, requests_per_minute=5)
    key = api.with_new_key(METER, f"{name}/team")
    shared = api.with_new_key(METER, name, other)
    request = tenant_service_pb2.RemoveTenantRequest(tenant=name)
    refused = (grpc.StatusCode.FAILED_PRECONDITION, "TENANT_HAS_KEYS")

    assert api.fail(api.tenants.RemoveTenant, request) == refused
    # A key that reaches other tenants as well is nobody's to revoke here.
    request.revoke_keys = True
    assert api.fail(api.tenants.RemoveTenant, request) == refused
    who = key.call(key.access.WhoAmI, access_service_pb2.WhoAmIRequest())
    shared_id = shared.call(shared.access.WhoAmI, access_service_pb2.WhoAmIRequest()).key_id
    api.call(api.access.RevokeKey, access_service_pb2.RevokeKeyRequest(key_id=shared_id))
    assert list(remove(api, name, revoke_keys=True).revoked_key_ids) == [who.key_id]
    assert key.fail(key.access.WhoAmI, access_service_pb2.WhoAmIRequest())[1] == "CREDENTIALS_REQUIRED"
    assert api.fail(api.tenants.RemoveTenant, request) == (grpc.StatusCode.NOT_FOUND, "TENANT_UNKNOWN")


def test_a_bound_admin_removes_within_its_bounds(api: Api) -> None:
    """An admin of one tenant can remove what is below it, and nothing else."""
    name, other = new_tenant(), new_tenant()
    for each in (f"{name}/team", other):
        put_tenant(api, each, requests_per_minute=5)
    bound = api.with_new_key(ADMIN, name)

    assert (
        bound.fail(bound.tenants.RemoveTenant, tenant_service_pb2.RemoveTenantRequest(tenant=other)) == DENIED
    )
    assert list(remove(bound, f"{name}/team").removed_tenants) == [f"{name}/team"]
