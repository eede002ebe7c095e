# SPDX-License-Identifier: Apache-2.0
"""TenantService: settings of tenants and the state of their limits."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import ClassVar

from google.protobuf.descriptor import ServiceDescriptor

from taximeter.v1 import tenant_service_pb2 as pb
from taximeter_server.errors import RequestError, TenantHasKeysError, TenantUnknownError
from taximeter_server.keys import Keys
from taximeter_server.pages import PageTokens
from taximeter_server.rpc.convert_tenants import tenant_of, to_tenant
from taximeter_server.rpc.principal import Principal
from taximeter_server.rpc.server import Handler
from taximeter_server.rpc.simulations import Simulations
from taximeter_server.rpc.status import status_of
from taximeter_server.tenant_path import check_tenant, is_reached, is_within
from taximeter_server.tenants import Tenant, Tenants


class TenantService:
    """Serves taximeter.v1.TenantService. A bound key sees and changes only what it reaches."""

    descriptor: ClassVar[ServiceDescriptor] = pb.DESCRIPTOR.services_by_name["TenantService"]
    serves_without_store: ClassVar[bool] = False

    def __init__(
        self,
        tenants: Tenants,
        keys: Keys,
        simulations: Simulations,
        *,
        quota_status: Callable[[str], bytes],
        apply: Callable[[], None],
        page_tokens: PageTokens,
    ) -> None:
        """quota_status: the engine's, a serialized GetQuotaStatusResponse by tenant. apply: as of AccessService."""
        self._tenants = tenants
        self._keys = keys
        self._apply = apply
        self._simulations = simulations
        self._quota_status = quota_status
        self._page_tokens = page_tokens

    def handlers(self) -> Mapping[str, Handler]:
        """Return the handler of every method."""
        return {
            "PutTenant": self.put_tenant,
            "PutTenants": self.put_tenants,
            "RemoveTenant": self.remove_tenant,
            "GetTenant": self.get_tenant,
            "ListTenants": self.list_tenants,
            "GetQuotaStatus": self.get_quota_status,
            "SimulateQuota": self.simulate_quota,
        }

    def slow_methods(self) -> frozenset[str]:
        """Return the methods that read the ledger."""
        return frozenset({"SimulateQuota"})

    def put_tenant(self, request: pb.PutTenantRequest, principal: Principal) -> pb.PutTenantResponse:
        """Create or replace the settings of one level."""
        settings = tenant_of(request.tenant)
        principal.require_reach(settings.name)
        return pb.PutTenantResponse(tenant=to_tenant(self._tenants.put(settings)))

    def put_tenants(
        self, requests: Sequence[pb.PutTenantsRequest], principal: Principal
    ) -> list[pb.PutTenantsResponse]:
        """Create or replace the settings of some of many tenants."""
        read: list[Tenant | RequestError] = [_read_tenant(request.tenant, principal) for request in requests]
        outcomes = iter(self._tenants.put_all([tenant for tenant in read if isinstance(tenant, Tenant)]))
        return [_put_outcome(next(outcomes) if isinstance(tenant, Tenant) else tenant) for tenant in read]

    def remove_tenant(self, request: pb.RemoveTenantRequest, principal: Principal) -> pb.RemoveTenantResponse:
        """Remove the settings of a tenant and everything below it, with its keys where that is asked for."""
        name = check_tenant(request.tenant, "tenant")
        principal.require_reach(name)
        bound = self._keys.bound_to(name)
        held_by = [
            key.key_id
            for key in bound
            if not request.revoke_keys or not all(is_within(each, name) for each in key.tenants)
        ]
        if held_by:
            raise TenantHasKeysError(name, held_by)
        for key in bound:
            self._keys.revoke(key.key_id)
        if bound:
            self._apply()
        removed = self._tenants.remove(name)
        if not removed and not bound:
            raise TenantUnknownError(name)
        return pb.RemoveTenantResponse(
            removed_tenants=sorted(removed), revoked_key_ids=[key.key_id for key in bound]
        )

    def get_tenant(self, request: pb.GetTenantRequest, principal: Principal) -> pb.GetTenantResponse:
        """Show the settings of one level."""
        name = check_tenant(request.tenant, "tenant")
        principal.require_reach(name)
        return pb.GetTenantResponse(tenant=to_tenant(self._tenants.get(name)))

    def list_tenants(self, request: pb.ListTenantsRequest, principal: Principal) -> pb.ListTenantsResponse:
        """List the tenants that have settings and that the caller reaches."""
        parent = request.parent
        if parent:
            principal.require_reach(check_tenant(parent, "parent"))
        tenants = [
            tenant
            for tenant in self._tenants.list()
            if (not parent or is_within(tenant.name, parent)) and is_reached(tenant.name, principal.tenants)
        ]
        page, next_page_token = self._page_tokens.page(
            tenants,
            cursor_of=lambda tenant: tenant.name,
            binding=f"ListTenants:{parent}:{','.join(principal.tenants)}",
            page_size=request.page_size,
            page_token=request.page_token,
        )
        return pb.ListTenantsResponse(
            tenants=[to_tenant(tenant) for tenant in page], next_page_token=next_page_token
        )

    def get_quota_status(
        self, request: pb.GetQuotaStatusRequest, principal: Principal
    ) -> pb.GetQuotaStatusResponse:
        """Show the limits of a tenant and its parents.

        A key bound to a tenant is told the limits of that tenant's parents too, as CheckQuota tells it: they decide.
        """
        name = check_tenant(request.tenant, "tenant")
        principal.require_reach(name)
        return pb.GetQuotaStatusResponse.FromString(self._quota_status(name))

    def simulate_quota(
        self, request: pb.SimulateQuotaRequest, principal: Principal
    ) -> Iterator[pb.SimulateQuotaResponse]:
        """Replay recorded usage against other limits."""
        return self._simulations.simulate_quota(request, principal)


def _read_tenant(message: pb.Tenant, principal: Principal) -> Tenant | RequestError:
    try:
        settings = tenant_of(message)
        principal.require_reach(settings.name)
    except RequestError as error:
        return error
    return settings


def _put_outcome(outcome: Tenant | RequestError) -> pb.PutTenantsResponse:
    if isinstance(outcome, RequestError):
        return pb.PutTenantsResponse(error=status_of(outcome))
    return pb.PutTenantsResponse(tenant=to_tenant(outcome))
