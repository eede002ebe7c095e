# SPDX-License-Identifier: Apache-2.0
"""The methods of RateCardService about tenants' own prices: only unbound admins set them, keys see what they reach."""

from collections.abc import Callable, Mapping

from taximeter.v1 import rate_card_service_pb2 as pb
from taximeter_server.errors import InvalidFieldsError
from taximeter_server.pages import PageTokens
from taximeter_server.published_card import tenant_prices_to_publish
from taximeter_server.rate_card_timeline import RateCardTimeline
from taximeter_server.rpc.convert import at_time_ms, to_entry
from taximeter_server.rpc.convert_rate_cards import effective_time_of, expected_version_of, to_problem
from taximeter_server.rpc.principal import Principal
from taximeter_server.rpc.server import Handler
from taximeter_server.tenant_path import check_tenant, is_reached
from taximeter_server.tenant_prices import parse_tenant_prices
from taximeter_server.tenant_prices_warnings import tenant_prices_warnings
from taximeter_server.timeline_entry import EntryKind, prices_in_force


class TenantPricesMethods:
    """Serves PutTenantPrices, RemoveTenantPrices, GetTenantPrices and ListTenantPrices."""

    def __init__(
        self,
        timeline: RateCardTimeline,
        *,
        apply: Callable[[], None],
        page_tokens: PageTokens,
        clock: Callable[[], int],
    ) -> None:
        """apply: brings this instance's engine up to date before an author is answered."""
        self._timeline = timeline
        self._apply = apply
        self._page_tokens = page_tokens
        self._clock = clock

    def tenant_prices_handlers(self) -> Mapping[str, Handler]:
        """Return the handlers of these methods."""
        return {
            "PutTenantPrices": self.put_tenant_prices,
            "RemoveTenantPrices": self.remove_tenant_prices,
            "GetTenantPrices": self.get_tenant_prices,
            "ListTenantPrices": self.list_tenant_prices,
        }

    def put_tenant_prices(
        self, request: pb.PutTenantPricesRequest, principal: Principal
    ) -> pb.PutTenantPricesResponse:
        """Set a tenant's own prices."""
        # Also for a key bound to this very tenant: nobody lowers the prices that they pay.
        principal.require_unbound()
        tenant = check_tenant(request.tenant, "tenant")
        if not request.yaml:
            raise InvalidFieldsError.required("yaml")
        prices = parse_tenant_prices(request.yaml)
        entry, created = self._timeline.put_tenant_prices(
            tenant,
            tenant_prices_to_publish(prices, request.yaml),
            currency=prices.currency,
            author=principal.key_id,
            effective_time_ms=effective_time_of(request),
            expected_version=expected_version_of(request),
            note=request.note,
        )
        self._apply()
        now_ms = self._clock()
        _, card = self._timeline.find(rate_card_id="", time_ms=now_ms)
        return pb.PutTenantPricesResponse(
            entry=to_entry(entry, withdrawn=False),
            created=created,
            warnings=[
                to_problem(warning)
                for warning in tenant_prices_warnings(prices, card.canonical_json, now_ms=now_ms)
            ],
        )

    def remove_tenant_prices(
        self, request: pb.RemoveTenantPricesRequest, principal: Principal
    ) -> pb.RemoveTenantPricesResponse:
        """End a tenant's own prices."""
        principal.require_unbound()
        entry = self._timeline.remove_tenant_prices(
            check_tenant(request.tenant, "tenant"),
            author=principal.key_id,
            effective_time_ms=effective_time_of(request),
            expected_version=expected_version_of(request),
            note=request.note,
        )
        self._apply()
        return pb.RemoveTenantPricesResponse(entry=to_entry(entry, withdrawn=False))

    def get_tenant_prices(
        self, request: pb.GetTenantPricesRequest, principal: Principal
    ) -> pb.GetTenantPricesResponse:
        """Show the own prices that apply to a tenant."""
        tenant = check_tenant(request.tenant, "tenant")
        principal.require_reach(tenant)
        time_ms = at_time_ms(request.at_time) if request.HasField("at_time") else self._clock()
        entry, prices = self._timeline.find_tenant_prices(tenant, time_ms)
        return pb.GetTenantPricesResponse(
            entry=to_entry(entry, withdrawn=False), yaml=prices.yaml, canonical_json=prices.canonical_json
        )

    def list_tenant_prices(
        self, request: pb.ListTenantPricesRequest, principal: Principal
    ) -> pb.ListTenantPricesResponse:
        """List the tenants that have own prices in force."""
        time_ms = at_time_ms(request.at_time) if request.HasField("at_time") else None
        entries = self._timeline.entries()
        tenants = {entry.tenant for entry in entries if entry.kind is EntryKind.TENANT_PRICES}
        found = [
            prices_in_force(entries, tenant, self._clock() if time_ms is None else time_ms)
            for tenant in sorted(tenants)
            if is_reached(tenant, principal.tenants)
        ]
        # A level without own prices is answered with those of a parent, which is listed itself.
        in_force = {entry.tenant: entry for entry in found if entry is not None}
        page, next_page_token = self._page_tokens.page(
            [entry for tenant, entry in sorted(in_force.items()) if is_reached(tenant, principal.tenants)],
            cursor_of=lambda entry: entry.tenant,
            binding=f"ListTenantPrices:{time_ms}:{','.join(principal.tenants)}",
            page_size=request.page_size,
            page_token=request.page_token,
        )
        return pb.ListTenantPricesResponse(
            entries=[to_entry(entry, withdrawn=False) for entry in page], next_page_token=next_page_token
        )
