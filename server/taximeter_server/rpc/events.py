# SPDX-License-Identifier: Apache-2.0
"""EventService: thresholds that were reached, and the webhook endpoints that are told."""

from collections.abc import Callable, Mapping
from typing import ClassVar

from google.protobuf.descriptor import ServiceDescriptor

from taximeter.v1 import event_service_pb2 as pb
from taximeter.v1 import quota_pb2
from taximeter_server.errors import InvalidFieldsError, WebhookUnknownError
from taximeter_server.event_store import EventStore
from taximeter_server.pages import PageTokens
from taximeter_server.quota_events import QuotaEvent, QuotaEvents
from taximeter_server.rpc.convert import to_timestamp
from taximeter_server.rpc.principal import Principal
from taximeter_server.rpc.server import Handler
from taximeter_server.tenant_path import check_tenant, is_reached
from taximeter_server.webhook_deliveries import Delivery, DeliveryState
from taximeter_server.webhook_endpoints import (
    OVERLAP_MS_DEFAULT,
    Endpoint,
    EndpointHealth,
    EndpointSettings,
    WebhookEndpoints,
)

_MS_PER_SECOND = 1_000
_STATES = {
    DeliveryState.PENDING: pb.WEBHOOK_DELIVERY_STATE_PENDING,
    DeliveryState.DELIVERED: pb.WEBHOOK_DELIVERY_STATE_DELIVERED,
    DeliveryState.FAILED: pb.WEBHOOK_DELIVERY_STATE_FAILED,
}


class EventService:
    """Serves taximeter.v1.EventService. A bound key sees the events, and keeps the endpoints, of what it reaches."""

    descriptor: ClassVar[ServiceDescriptor] = pb.DESCRIPTOR.services_by_name["EventService"]
    serves_without_store: ClassVar[bool] = False

    def __init__(
        self, store: EventStore, *, page_tokens: PageTokens, clock: Callable[[], int], allow_plaintext: bool
    ) -> None:
        """clock: the store's, in milliseconds. allow_plaintext: endpoints elsewhere may be http, too."""
        self._events = QuotaEvents(store, page_tokens)
        self._endpoints = WebhookEndpoints(store, clock=clock, allow_plaintext=allow_plaintext)
        self._store = store
        self._page_tokens = page_tokens

    def handlers(self) -> Mapping[str, Handler]:
        """Return the handler of every method."""
        return {
            "ListQuotaEvents": self.list_quota_events,
            "PutWebhookEndpoint": self.put_webhook_endpoint,
            "ListWebhookEndpoints": self.list_webhook_endpoints,
            "RotateWebhookSecret": self.rotate_webhook_secret,
            "RemoveWebhookEndpoint": self.remove_webhook_endpoint,
            "ListWebhookDeliveries": self.list_webhook_deliveries,
        }

    def slow_methods(self) -> frozenset[str]:
        """Return no methods."""
        return frozenset()

    def list_quota_events(
        self, request: pb.ListQuotaEventsRequest, principal: Principal
    ) -> pb.ListQuotaEventsResponse:
        """List events from a cursor on."""
        if request.tenant:
            principal.require_reach(check_tenant(request.tenant, "tenant"))
        events, next_cursor = self._events.list(
            tenant=request.tenant,
            bounds=principal.tenants,
            page_size=request.page_size,
            after_cursor=request.after_cursor,
        )
        return pb.ListQuotaEventsResponse(
            events=[_to_event(event) for event in events], next_cursor=next_cursor
        )

    def put_webhook_endpoint(
        self, request: pb.PutWebhookEndpointRequest, principal: Principal
    ) -> pb.PutWebhookEndpointResponse:
        """Create or change an endpoint. A bound key has to name tenants that it reaches."""
        wanted = request.endpoint
        if principal.tenants and not wanted.tenants:
            raise InvalidFieldsError.required("endpoint.tenants")
        for tenant in wanted.tenants:
            principal.require_reach(tenant)
        settings = EndpointSettings(
            url=wanted.url,
            tenants=tuple(wanted.tenants),
            threshold_percent_min=wanted.threshold_percent_min,
            note=wanted.note,
        )
        if wanted.id:
            endpoint = self._endpoints.change(self._own(wanted.id, principal), settings)
            return pb.PutWebhookEndpointResponse(endpoint=self._to_endpoint(endpoint))
        endpoint = self._endpoints.create(settings)
        return pb.PutWebhookEndpointResponse(endpoint=self._to_endpoint(endpoint), secret=endpoint.secret)

    def list_webhook_endpoints(
        self, request: pb.ListWebhookEndpointsRequest, principal: Principal
    ) -> pb.ListWebhookEndpointsResponse:
        """List the endpoints whose tenants the caller reaches."""
        page, next_page_token = self._page_tokens.page(
            [endpoint for endpoint in self._endpoints.list() if _is_own(endpoint, principal)],
            cursor_of=lambda endpoint: endpoint.endpoint_id,
            binding=f"ListWebhookEndpoints:{','.join(principal.tenants)}",
            page_size=request.page_size,
            page_token=request.page_token,
        )
        health, now_ms = self._endpoints.health(), self._endpoints.now_ms()
        return pb.ListWebhookEndpointsResponse(
            endpoints=[_to_endpoint(endpoint, health(endpoint.endpoint_id), now_ms) for endpoint in page],
            next_page_token=next_page_token,
        )

    def rotate_webhook_secret(
        self, request: pb.RotateWebhookSecretRequest, principal: Principal
    ) -> pb.RotateWebhookSecretResponse:
        """Give an endpoint another secret."""
        overlap_ms = OVERLAP_MS_DEFAULT
        if request.HasField("overlap"):
            overlap_ms = request.overlap.seconds * _MS_PER_SECOND
        endpoint = self._endpoints.rotate(self._own(request.endpoint_id, principal), overlap_ms)
        return pb.RotateWebhookSecretResponse(endpoint=self._to_endpoint(endpoint), secret=endpoint.secret)

    def remove_webhook_endpoint(
        self, request: pb.RemoveWebhookEndpointRequest, principal: Principal
    ) -> pb.RemoveWebhookEndpointResponse:
        """Remove an endpoint."""
        self._endpoints.remove(self._own(request.endpoint_id, principal).endpoint_id)
        return pb.RemoveWebhookEndpointResponse()

    def list_webhook_deliveries(
        self, request: pb.ListWebhookDeliveriesRequest, principal: Principal
    ) -> pb.ListWebhookDeliveriesResponse:
        """List what was sent, and what is to be."""
        endpoint_id = self._own(request.endpoint_id, principal).endpoint_id
        event_ids, next_page_token = self._page_tokens.page(
            self._store.delivery_ids(endpoint_id),
            cursor_of=str,
            binding=f"ListWebhookDeliveries:{endpoint_id}",
            page_size=request.page_size,
            page_token=request.page_token,
        )
        documents = self._store.deliveries(endpoint_id, event_ids)
        return pb.ListWebhookDeliveriesResponse(
            deliveries=[_to_delivery(Delivery.from_json(document)) for document in documents],
            next_page_token=next_page_token,
        )

    def _own(self, endpoint_id: str, principal: Principal) -> Endpoint:
        """Return an endpoint that the caller may change. Raises WebhookUnknownError for one of others, too."""
        if not endpoint_id:
            raise InvalidFieldsError.required("endpoint_id")
        endpoint = self._endpoints.get(endpoint_id)
        if not _is_own(endpoint, principal):
            raise WebhookUnknownError
        return endpoint

    def _to_endpoint(self, endpoint: Endpoint) -> pb.WebhookEndpoint:
        health = self._endpoints.health()(endpoint.endpoint_id)
        return _to_endpoint(endpoint, health, self._endpoints.now_ms())


def _is_own(endpoint: Endpoint, principal: Principal) -> bool:
    if not principal.tenants:
        return True
    return bool(endpoint.settings.tenants) and all(
        is_reached(tenant, principal.tenants) for tenant in endpoint.settings.tenants
    )


def _to_event(event: QuotaEvent) -> pb.QuotaEvent:
    return pb.QuotaEvent(
        id=event.event_id,
        tenant=event.tenant,
        kind=quota_pb2.LimitKind.Value(f"LIMIT_KIND_{event.limit.upper()}"),
        threshold_percent=event.threshold_percent,
        maximum=event.maximum,
        used=event.used,
        event_time=to_timestamp(event.time_ms),
        window_start_time=to_timestamp(event.window_start_s * _MS_PER_SECOND),
    )


def _to_endpoint(endpoint: Endpoint, health: EndpointHealth, now_ms: int) -> pb.WebhookEndpoint:
    """Return an endpoint as a message, without what could sign."""
    message = pb.WebhookEndpoint(
        id=endpoint.endpoint_id,
        url=endpoint.settings.url,
        tenants=endpoint.settings.tenants,
        threshold_percent_min=endpoint.settings.threshold_percent_min,
        note=endpoint.settings.note,
        state=pb.WEBHOOK_STATE_DISABLED if health.is_disabled else pb.WEBHOOK_STATE_ENABLED,
        create_time=to_timestamp(endpoint.create_time_ms),
    )
    if health.failing_since_ms is not None:
        message.failing_since_time.CopyFrom(to_timestamp(health.failing_since_ms))
    if len(endpoint.live_secrets(now_ms)) > 1:
        message.old_secret_expire_time.CopyFrom(to_timestamp(endpoint.old_secret_expire_time_ms))
    return message


def _to_delivery(delivery: Delivery) -> pb.WebhookDelivery:
    message = pb.WebhookDelivery(
        event=_to_event(delivery.event),
        state=_STATES[delivery.state],
        attempt_count=delivery.attempt_count,
        last_status=delivery.last_status,
        last_problem=delivery.last_problem,
    )
    if delivery.last_attempt_time_ms is not None:
        message.last_attempt_time.CopyFrom(to_timestamp(delivery.last_attempt_time_ms))
    if delivery.next_attempt_time_ms is not None:
        message.next_attempt_time.CopyFrom(to_timestamp(delivery.next_attempt_time_ms))
    return message
