# SPDX-License-Identifier: Apache-2.0
"""PlanService and TenantService, made together: what they keep has to be in force before either is served."""

from collections.abc import Callable

from taximeter_server.keys import Keys
from taximeter_server.pages import PageTokens
from taximeter_server.plans import Plans
from taximeter_server.quota_simulation import QuotaSimulator
from taximeter_server.rpc.plans import PlanService
from taximeter_server.rpc.simulations import Simulations
from taximeter_server.rpc.tenants import TenantService
from taximeter_server.tenants import Tenants


def make_limit_services(
    plans: Plans,
    tenants: Tenants,
    keys: Keys,
    simulator: QuotaSimulator,
    *,
    quota_status: Callable[[str], bytes],
    apply: Callable[[], None],
    page_tokens: PageTokens,
    is_exclusive: bool,
) -> tuple[PlanService, TenantService]:
    """Return both. quota_status: as of TenantService. apply: as of AccessService.

    is_exclusive: no other instance changes the store.
    """
    if is_exclusive:
        plans.enforce_all()
        tenants.enforce_all()
    return (
        PlanService(plans, page_tokens=page_tokens),
        TenantService(
            tenants,
            keys,
            Simulations(simulator),
            quota_status=quota_status,
            apply=apply,
            page_tokens=page_tokens,
        ),
    )
