# SPDX-License-Identifier: Apache-2.0
"""Who calls. The front has authenticated the key and checked its role; it strips these names from what comes in."""

from collections.abc import Iterable
from dataclasses import dataclass

from taximeter_server.errors import CredentialsRequiredError, TenantForbiddenError
from taximeter_server.subscriptions import check_root_tenant
from taximeter_server.tenant_path import is_reached, require_reach

KEY_ID_NAME = "x-taximeter-key-id"
ROLE_NAME = "x-taximeter-role"
TENANTS_NAME = "x-taximeter-tenants"
PEER_NAME = "x-taximeter-peer"


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated key. tenants empty means that it reaches all; peer is "HOST:PORT" of the connection."""

    key_id: str
    role: str
    tenants: tuple[str, ...]
    peer: str = ""

    def require_reach(self, tenant: str) -> None:
        """Raise TenantForbiddenError unless the key reaches tenant."""
        require_reach(tenant, self.tenants)

    def require_unbound(self) -> None:
        """Raise TenantForbiddenError for a key bound to tenants: what is asked for concerns all of them."""
        if self.tenants:
            raise TenantForbiddenError


NOBODY = Principal("", "", ())
"""Who calls a method that is open to everyone."""


def principal_of(metadata: Iterable[tuple[str, str | bytes]] | None) -> Principal:
    """Return the caller. Raises CredentialsRequiredError for a call that did not come through the front."""
    values = {name: value for name, value in metadata or () if isinstance(value, str)}
    if not values.get(KEY_ID_NAME) or not values.get(ROLE_NAME):
        raise CredentialsRequiredError
    tenants = tuple(tenant for tenant in values.get(TENANTS_NAME, "").split(",") if tenant)
    return Principal(values[KEY_ID_NAME], values[ROLE_NAME], tenants, values.get(PEER_NAME, ""))


def require_account(tenant: str, principal: Principal) -> None:
    """Raise TenantForbiddenError unless the key may see the account; only admins see those that they are not bound to.

    Raises InvalidFieldsError for what is no root tenant.
    """
    check_root_tenant(tenant)
    if principal.role != "admin" and not principal.tenants:
        raise TenantForbiddenError
    if not is_reached(tenant, principal.tenants):
        raise TenantForbiddenError
