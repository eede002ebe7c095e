# SPDX-License-Identifier: Apache-2.0
"""PlanService: named sets of limits, with or without a price."""

from collections.abc import Mapping
from typing import ClassVar

from google.protobuf.descriptor import ServiceDescriptor

from taximeter.v1 import plan_service_pb2 as pb
from taximeter_server.errors import InvalidFieldsError
from taximeter_server.pages import PageTokens
from taximeter_server.plan_yaml import read_plan
from taximeter_server.plans import Plan, Plans
from taximeter_server.rpc.convert import to_timestamp
from taximeter_server.rpc.convert_tenants import limits_of, to_limits
from taximeter_server.rpc.convert_terms import terms_of, to_terms
from taximeter_server.rpc.principal import Principal
from taximeter_server.rpc.server import Handler


class PlanService:
    """Serves taximeter.v1.PlanService. Plans concern all tenants, so only unbound keys change them."""

    descriptor: ClassVar[ServiceDescriptor] = pb.DESCRIPTOR.services_by_name["PlanService"]
    serves_without_store: ClassVar[bool] = False

    def __init__(self, plans: Plans, *, page_tokens: PageTokens) -> None:
        self._plans = plans
        self._page_tokens = page_tokens

    def handlers(self) -> Mapping[str, Handler]:
        """Return the handler of every method."""
        return {
            "PutPlan": self.put_plan,
            "GetPlan": self.get_plan,
            "ListPlans": self.list_plans,
            "RemovePlan": self.remove_plan,
        }

    def slow_methods(self) -> frozenset[str]:
        """Return no methods."""
        return frozenset()

    def put_plan(self, request: pb.PutPlanRequest, principal: Principal) -> pb.PutPlanResponse:
        """Create or replace a plan."""
        principal.require_unbound()
        return pb.PutPlanResponse(plan=_to_plan(self._plans.put(_plan_of(request))))

    def get_plan(self, request: pb.GetPlanRequest, _principal: Principal) -> pb.GetPlanResponse:
        """Show a plan."""
        return pb.GetPlanResponse(plan=_to_plan(self._plans.get(request.plan)))

    def list_plans(self, request: pb.ListPlansRequest, _principal: Principal) -> pb.ListPlansResponse:
        """List plans by name."""
        page, next_page_token = self._page_tokens.page(
            self._plans.list(),
            cursor_of=lambda plan: plan.name,
            binding="ListPlans",
            page_size=request.page_size,
            page_token=request.page_token,
        )
        return pb.ListPlansResponse(plans=[_to_plan(plan) for plan in page], next_page_token=next_page_token)

    def remove_plan(self, request: pb.RemovePlanRequest, principal: Principal) -> pb.RemovePlanResponse:
        """Remove a plan that no tenant has."""
        principal.require_unbound()
        self._plans.remove(request.plan)
        return pb.RemovePlanResponse()


def _plan_of(request: pb.PutPlanRequest) -> Plan:
    if request.yaml:
        if request.HasField("plan"):
            raise InvalidFieldsError.of("plan", "excludes yaml")
        return read_plan(request.yaml)
    message = request.plan
    return Plan(
        name=message.name,
        display_name=message.display_name,
        limits=limits_of(message.limits, "plan.limits"),
        terms=terms_of(message.terms, "plan.terms") if message.HasField("terms") else None,
    )


def _to_plan(plan: Plan) -> pb.Plan:
    return pb.Plan(
        name=plan.name,
        display_name=plan.display_name,
        limits=to_limits(plan.limits),
        update_time=to_timestamp(plan.update_time_ms),
        terms=to_terms(plan.terms) if plan.terms is not None else None,
    )
