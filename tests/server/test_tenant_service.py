# SPDX-License-Identifier: Apache-2.0
"""TenantService: settings are enforced at once and shown to nobody who may not see them."""

import grpc
from server.api import DENIED, READ, Api, new_tenant, put_tenant

from taximeter.v1 import (
    metering_service_pb2,
    tenant_service_pb2,
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
