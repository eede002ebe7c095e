# SPDX-License-Identifier: Apache-2.0
"""PlanService and PutTenants: limits of many tenants."""

from collections.abc import Iterator, Sequence
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from server.api import ADMIN, DENIED, Api, new_tenant

from taximeter.v1 import (
    metering_service_pb2,
    quota_pb2,
    tenant_service_pb2,
)
from taximeter.v1 import (
    plan_service_pb2 as pb,
)

UNKNOWN = quota_pb2.LIMIT_KIND_UNSPECIFIED
RPM = quota_pb2.LIMIT_KIND_REQUESTS_PER_MINUTE


def put_plan(api: Api, name: str, **limits: Any) -> pb.Plan:
    """Put a plan."""
    plan = pb.Plan(name=name, display_name="D", limits=quota_pb2.Limits(**limits))
    answer: pb.PutPlanResponse = api.call(api.plans.PutPlan, pb.PutPlanRequest(plan=plan))
    return answer.plan


def put_tenants(api: Api, tenants: Sequence[tenant_service_pb2.Tenant]) -> list[str]:
    """Put tenants in one stream. Returns "" or the reason of the refusal for each."""
    requests = iter([tenant_service_pb2.PutTenantsRequest(tenant=tenant) for tenant in tenants])
    reasons = []
    for answer in api.call(api.tenants.PutTenants, requests):
        info = error_details_pb2.ErrorInfo()
        if answer.HasField("error"):
            assert answer.error.details[0].Unpack(info)
        reasons.append(info.reason)
    return reasons


def maxima(api: Api, tenant: str) -> dict[str, int]:
    """Return the requests per minute in force, by level."""
    request = tenant_service_pb2.GetQuotaStatusRequest(tenant=tenant)
    limits = api.call(api.tenants.GetQuotaStatus, request).limits
    return {limit.tenant: limit.maximum for limit in limits if limit.kind == RPM}


@pytest.fixture
def plan() -> str:
    """A plan that no other test uses."""
    return f"plan-{new_tenant()}"


def test_plan_is_in_force_for_its_tenants(api: Api, plan: str) -> None:
    """A plan that was put is shown, holds for tenants that name it, and changes with the next call."""
    name = new_tenant()
    put = put_plan(api, plan, requests_per_minute=3)
    tenant = tenant_service_pb2.Tenant(name=name, plan=plan)
    stored = api.call(api.tenants.PutTenant, tenant_service_pb2.PutTenantRequest(tenant=tenant)).tenant
    assert stored.plan == plan
    assert api.call(api.plans.GetPlan, pb.GetPlanRequest(plan=plan)).plan == put
    assert put in api.call(api.plans.ListPlans, pb.ListPlansRequest(page_size=1000)).plans
    assert maxima(api, name) == {name: 3}

    put_plan(api, plan, requests_per_minute=0)
    check = metering_service_pb2.CheckQuotaRequest(tenant=name)
    assert api.call(api.metering.CheckQuota, check).decision == metering_service_pb2.DECISION_DENY


def test_plan_of_a_tenant_cannot_be_removed(api: Api, plan: str) -> None:
    """Removing is refused while a tenant has the plan; afterwards the plan is unknown."""
    name = new_tenant()
    put_plan(api, plan)
    assert put_tenants(api, [tenant_service_pb2.Tenant(name=name, plan=plan)]) == [""]
    remove = pb.RemovePlanRequest(plan=plan)
    assert api.fail(api.plans.RemovePlan, remove) == (grpc.StatusCode.FAILED_PRECONDITION, "PLAN_IN_USE")

    assert put_tenants(api, [tenant_service_pb2.Tenant(name=name)]) == [""]
    api.call(api.plans.RemovePlan, remove)
    unknown = (grpc.StatusCode.NOT_FOUND, "PLAN_UNKNOWN")
    assert api.fail(api.plans.RemovePlan, remove) == unknown
    assert api.fail(api.plans.GetPlan, pb.GetPlanRequest(plan=plan)) == unknown
    tenant = tenant_service_pb2.Tenant(name=name, plan=plan)
    request = tenant_service_pb2.PutTenantRequest(tenant=tenant)
    assert api.fail(api.tenants.PutTenant, request) == unknown


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        pytest.param({}, "FIELD_REQUIRED", id="no name"),
        pytest.param({"name": "Pro"}, "FIELD_INVALID", id="a capital"),
        pytest.param({"name": "p" * 65}, "FIELD_INVALID", id="a long name"),
        pytest.param({"name": "p", "display_name": "d" * 201}, "FIELD_INVALID", id="a long display name"),
        pytest.param({"name": "p", "limits": {"tokens_per_day": -1}}, "FIELD_INVALID", id="a negative limit"),
        pytest.param({"name": "p", "limits": {"shadow": [UNKNOWN]}}, "FIELD_INVALID", id="no kind of limit"),
    ],
)
def test_what_is_no_plan_is_refused(api: Api, fields: dict[str, Any], reason: str) -> None:
    """A plan without a name, or with fields out of range, is not kept."""
    refused = api.fail(api.plans.PutPlan, pb.PutPlanRequest(plan=pb.Plan(**fields)))

    assert refused == (grpc.StatusCode.INVALID_ARGUMENT, reason)


def test_bound_admin_changes_no_plan(api: Api, plan: str) -> None:
    """Plans concern all tenants, so a key bound to some may only read them."""
    bound = api.with_new_key(ADMIN, new_tenant())
    put_plan(api, plan)

    request = pb.PutPlanRequest(plan=pb.Plan(name=plan))
    assert bound.fail(bound.plans.PutPlan, request) == DENIED
    assert bound.fail(bound.plans.RemovePlan, pb.RemovePlanRequest(plan=plan)) == DENIED
    assert bound.call(bound.plans.GetPlan, pb.GetPlanRequest(plan=plan)).plan.name == plan


def test_many_tenants_are_put_each_alone(api: Api) -> None:
    """Answers come in the order of the requests; one that is refused holds up no other; the later settings stay."""
    root = new_tenant()
    bound = api.with_new_key(ADMIN, root)
    tenants = [
        tenant_service_pb2.Tenant(
            name=f"{root}/{number}", limits=quota_pb2.Limits(requests_per_minute=number)
        )
        for number in range(450)
    ]
    tenants[7].plan = "no-such-plan"
    tenants[8].limits.requests_per_minute = -1
    tenants[300].name = "A"
    tenants[301].name = new_tenant()
    tenants[449].name = f"{root}/1"
    reasons = put_tenants(bound, tenants)

    assert {at: reason for at, reason in enumerate(reasons) if reason} == {
        7: "PLAN_UNKNOWN",
        8: "FIELD_INVALID",
        300: "FIELD_INVALID",
        301: "TENANT_FORBIDDEN",
    }
    assert len(reasons) == 450
    assert maxima(api, f"{root}/448") == {f"{root}/448": 448}
    assert maxima(api, f"{root}/1") == {f"{root}/1": 449}
    assert maxima(api, f"{root}/7") == {}


def test_a_stream_is_answered_as_it_goes(api: Api) -> None:
    """Each answer comes without the next request, and the settings are in force by then."""
    root = new_tenant()
    seen: list[str] = []

    def requests() -> Iterator[tenant_service_pb2.PutTenantsRequest]:
        for number in range(3):
            name = f"{root}/{number}"
            yield tenant_service_pb2.PutTenantsRequest(
                tenant=tenant_service_pb2.Tenant(name=name, limits=quota_pb2.Limits(requests_per_minute=1))
            )

    for answer in api.call(api.tenants.PutTenants, requests()):
        seen.append(answer.tenant.name)
        assert maxima(api, answer.tenant.name) == {answer.tenant.name: 1}
    assert seen == [f"{root}/{number}" for number in range(3)]
