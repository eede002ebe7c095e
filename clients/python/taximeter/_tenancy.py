# SPDX-License-Identifier: Apache-2.0
"""The part of the client that sets limits and shows what is used of them."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime

from taximeter import _convert, _convert_billing, _convert_tenants
from taximeter._access import Access
from taximeter._session import ADMINISTRATION_PAGE_SIZE, ADMINISTRATION_TIMEOUT_S, Session
from taximeter.billing import PlanTerms
from taximeter.results import LimitStatus
from taximeter.settings import Limits, Plan, PutOutcome, TemporaryLimits, Tenant, TenantRemoval
from taximeter.simulation import QuotaSimulation, SimulatedTenant
from taximeter.v1 import (
    plan_service_pb2,
    plan_service_pb2_grpc,
    tenant_service_pb2,
    tenant_service_pb2_grpc,
)

BULK_TIMEOUT_S = 3_600.0


class Tenancy(Access):
    """Calls of TenantService and PlanService. All raise ServerError."""

    def __init__(self, session: Session) -> None:
        """Takes the session to call through."""
        super().__init__(session)
        self._tenants = tenant_service_pb2_grpc.TenantServiceStub(session.channel)
        self._plans = plan_service_pb2_grpc.PlanServiceStub(session.channel)

    def put_tenant(
        self,
        name: str,
        limits: Limits | None = None,
        *,
        display_name: str = "",
        plan: str = "",
        temporary_limits: TemporaryLimits | None = None,
        fail_open_requests: int = 0,
    ) -> Tenant:
        """Creates or replaces the settings of one level of a tenant's path; what is left out is removed.

        Raises NotFoundError when there is no such plan.
        """
        settings = Tenant(
            name, display_name, limits or Limits(), None, temporary_limits, plan, fail_open_requests
        )
        request = tenant_service_pb2.PutTenantRequest(tenant=_convert_tenants.tenant_message(settings))
        response = self._session.unary(self._tenants.PutTenant, request, ADMINISTRATION_TIMEOUT_S)
        return _convert_tenants.tenant_of(response.tenant)

    def put_tenants(self, tenants: Iterable[Tenant]) -> Iterator[PutOutcome]:
        """Creates or replaces settings of any number of tenants, and yields for each, in order, what came of it.

        The tenants are read as fast as the server takes them. Raises ServerError when the call as a whole fails; then
        those that were not answered may or may not have been put, and may be put again.
        """
        names: deque[str] = deque()

        def requests() -> Iterator[tenant_service_pb2.PutTenantsRequest]:
            for settings in tenants:
                names.append(settings.name)
                yield tenant_service_pb2.PutTenantsRequest(tenant=_convert_tenants.tenant_message(settings))

        for response in self._session.stream_both(self._tenants.PutTenants, requests(), BULK_TIMEOUT_S):
            yield _convert_tenants.put_outcome(names.popleft(), response)

    def remove_tenant(self, name: str, *, revoke_keys: bool = False) -> TenantRemoval:
        """Removes the settings of a tenant and of everything below it; what it used stays counted and recorded.

        From then on only a default plan limits it. With `revoke_keys` its keys are revoked before. Raises
        PreconditionError while keys work that are bound to it, NotFoundError when there is nothing to remove.
        """
        request = tenant_service_pb2.RemoveTenantRequest(tenant=name, revoke_keys=revoke_keys)
        response = self._session.unary(self._tenants.RemoveTenant, request, ADMINISTRATION_TIMEOUT_S)
        return TenantRemoval(tuple(response.removed_tenants), tuple(response.revoked_key_ids))

    def get_tenant(self, name: str) -> Tenant:
        """Returns the settings of a tenant. Raises NotFoundError when it has none."""
        request = tenant_service_pb2.GetTenantRequest(tenant=name)
        response = self._session.unary(self._tenants.GetTenant, request, ADMINISTRATION_TIMEOUT_S)
        return _convert_tenants.tenant_of(response.tenant)

    def list_tenants(self, parent: str = "") -> tuple[Tenant, ...]:
        """Returns the tenants that have settings, by name; with `parent` only it and those below it."""

        def fetch(token: str) -> tenant_service_pb2.ListTenantsResponse:
            request = tenant_service_pb2.ListTenantsRequest(
                parent=parent, page_size=ADMINISTRATION_PAGE_SIZE, page_token=token
            )
            return self._session.unary(self._tenants.ListTenants, request, ADMINISTRATION_TIMEOUT_S)

        return tuple(
            _convert_tenants.tenant_of(t) for page in self._session.pages(fetch) for t in page.tenants
        )

    def quota_status(self, tenant: str) -> tuple[LimitStatus, ...]:
        """Returns every limit of the tenant and its parents with what is used now, consuming nothing."""
        request = tenant_service_pb2.GetQuotaStatusRequest(tenant=tenant)
        response = self._session.unary(self._tenants.GetQuotaStatus, request, ADMINISTRATION_TIMEOUT_S)
        return _convert.limit_statuses(response.limits)

    def simulate_quota(
        self,
        start_time: datetime,
        end_time: datetime,
        *,
        tenant: str = "",
        levels: Mapping[str, Limits] | None = None,
        limits_by_depth: Sequence[Limits] = (),
        with_estimates: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> QuotaSimulation:
        """Replays recorded usage of a tenant and everything below it, or of all, against other limits.

        `levels` are limits of single levels; `limits_by_depth` those of all others, the first for first segments.
        With `with_estimates` each call is decided as if checked with what it then used. `progress` is told how many
        records have been read.
        """
        request = tenant_service_pb2.SimulateQuotaRequest(
            tenant=tenant,
            start_time=_convert.timestamp(start_time),
            end_time=_convert.timestamp(end_time),
            levels=[
                tenant_service_pb2.SimulatedLevel(tenant=name, limits=_convert_tenants.limits_message(limits))
                for name, limits in (levels or {}).items()
            ],
            limits_by_depth=[_convert_tenants.limits_message(limits) for limits in limits_by_depth],
            with_estimates=with_estimates,
        )
        rows: list[SimulatedTenant] = []
        for piece in self._session.stream(self._tenants.SimulateQuota, request, BULK_TIMEOUT_S):
            if progress is not None:
                progress(piece.records_read)
            rows += [_convert_tenants.simulated_tenant(row) for row in piece.rows]
        return QuotaSimulation(
            tuple(rows), _convert_tenants.simulated_tenant(piece.total), _convert.instant(piece.as_of_time)
        )

    def put_plan(
        self, name: str, limits: Limits, *, display_name: str = "", terms: PlanTerms | None = None
    ) -> Plan:
        """Creates or replaces a plan, for all its tenants at once; limits and terms left out are removed.

        Subscriptions keep the terms that they were made with.
        """
        plan = plan_service_pb2.Plan(
            name=name,
            display_name=display_name,
            limits=_convert_tenants.limits_message(limits),
            terms=None if terms is None else _convert_billing.terms_message(terms),
        )
        request = plan_service_pb2.PutPlanRequest(plan=plan)
        response = self._session.unary(self._plans.PutPlan, request, ADMINISTRATION_TIMEOUT_S)
        return _convert_tenants.plan_of(response.plan)

    def put_plan_file(self, yaml: str) -> Plan:
        """Creates or replaces the plan that a YAML file describes.

        Raises InvalidArgumentError with every problem of the file.
        """
        request = plan_service_pb2.PutPlanRequest(yaml=yaml)
        response = self._session.unary(self._plans.PutPlan, request, ADMINISTRATION_TIMEOUT_S)
        return _convert_tenants.plan_of(response.plan)

    def get_plan(self, name: str) -> Plan:
        """Returns a plan. Raises NotFoundError when there is none of this name."""
        request = plan_service_pb2.GetPlanRequest(plan=name)
        response = self._session.unary(self._plans.GetPlan, request, ADMINISTRATION_TIMEOUT_S)
        return _convert_tenants.plan_of(response.plan)

    def list_plans(self) -> tuple[Plan, ...]:
        """Returns the plans, by name."""

        def fetch(token: str) -> plan_service_pb2.ListPlansResponse:
            request = plan_service_pb2.ListPlansRequest(page_size=ADMINISTRATION_PAGE_SIZE, page_token=token)
            return self._session.unary(self._plans.ListPlans, request, ADMINISTRATION_TIMEOUT_S)

        pages = self._session.pages(fetch)
        return tuple(_convert_tenants.plan_of(plan) for page in pages for plan in page.plans)

    def remove_plan(self, name: str) -> None:
        """Removes a plan. Raises PreconditionError when a tenant has it, NotFoundError when there is none."""
        request = plan_service_pb2.RemovePlanRequest(plan=name)
        self._session.unary(self._plans.RemovePlan, request, ADMINISTRATION_TIMEOUT_S)
