# SPDX-License-Identifier: Apache-2.0
"""The part of the client for events of limits and for webhooks."""

from collections.abc import Iterable
from datetime import timedelta

from taximeter import _convert_events
from taximeter._convert_quota import duration
from taximeter._session import ADMINISTRATION_PAGE_SIZE, ADMINISTRATION_TIMEOUT_S, Session
from taximeter._tenancy import Tenancy
from taximeter.events import QuotaEvents, WebhookDelivery, WebhookEndpoint, WebhookSecret
from taximeter.v1 import event_service_pb2, event_service_pb2_grpc


class Eventing(Tenancy):
    """Calls of EventService. All raise ServerError."""

    def __init__(self, session: Session) -> None:
        """Takes the session to call through."""
        super().__init__(session)
        self._events = event_service_pb2_grpc.EventServiceStub(session.channel)

    def list_quota_events(
        self, tenant: str = "", *, after_cursor: str = "", page_size: int = 0
    ) -> QuotaEvents:
        """Returns events behind a cursor, from the oldest without one; with `tenant` only of it and those below.

        At most `page_size`, by default 100. An answer with fewer has reached the present.
        """
        request = event_service_pb2.ListQuotaEventsRequest(
            tenant=tenant, after_cursor=after_cursor, page_size=page_size
        )
        response = self._session.unary(self._events.ListQuotaEvents, request, ADMINISTRATION_TIMEOUT_S)
        return _convert_events.quota_events(response)

    def put_webhook(
        self,
        url: str,
        *,
        endpoint_id: str = "",
        tenants: Iterable[str] = (),
        threshold_percent_min: int = 0,
        note: str = "",
    ) -> WebhookSecret:
        """Creates an endpoint, or with `endpoint_id` changes one and enables it; the secret is never shown again.

        Creating is not retried: each call makes another endpoint. Raises InvalidArgumentError, NotFoundError.
        """
        endpoint = event_service_pb2.WebhookEndpoint(
            id=endpoint_id, url=url, tenants=tenants, threshold_percent_min=threshold_percent_min, note=note
        )
        request = event_service_pb2.PutWebhookEndpointRequest(endpoint=endpoint)
        response = self._session.unary(self._events.PutWebhookEndpoint, request, ADMINISTRATION_TIMEOUT_S)
        return WebhookSecret(_convert_events.webhook_endpoint(response.endpoint), response.secret)

    def list_webhooks(self) -> tuple[WebhookEndpoint, ...]:
        """Returns the endpoints without their secrets, oldest first."""

        def fetch(token: str) -> event_service_pb2.ListWebhookEndpointsResponse:
            request = event_service_pb2.ListWebhookEndpointsRequest(
                page_size=ADMINISTRATION_PAGE_SIZE, page_token=token
            )
            return self._session.unary(self._events.ListWebhookEndpoints, request, ADMINISTRATION_TIMEOUT_S)

        pages = self._session.pages(fetch)
        return tuple(_convert_events.webhook_endpoint(found) for page in pages for found in page.endpoints)

    def rotate_webhook_secret(self, endpoint_id: str, *, overlap: timedelta | None = None) -> WebhookSecret:
        """Gives an endpoint another secret; the present one signs too for `overlap`, by default a day.

        Not retried: each call makes another secret. Raises NotFoundError.
        """
        request = event_service_pb2.RotateWebhookSecretRequest(
            endpoint_id=endpoint_id, overlap=duration(overlap)
        )
        response = self._session.unary(self._events.RotateWebhookSecret, request, ADMINISTRATION_TIMEOUT_S)
        return WebhookSecret(_convert_events.webhook_endpoint(response.endpoint), response.secret)

    def remove_webhook(self, endpoint_id: str) -> None:
        """Removes an endpoint with its deliveries. Raises NotFoundError."""
        request = event_service_pb2.RemoveWebhookEndpointRequest(endpoint_id=endpoint_id)
        self._session.unary(self._events.RemoveWebhookEndpoint, request, ADMINISTRATION_TIMEOUT_S)

    def list_webhook_deliveries(self, endpoint_id: str) -> tuple[WebhookDelivery, ...]:
        """Returns what was sent to an endpoint and what is to be, newest first. Raises NotFoundError."""

        def fetch(token: str) -> event_service_pb2.ListWebhookDeliveriesResponse:
            request = event_service_pb2.ListWebhookDeliveriesRequest(
                endpoint_id=endpoint_id, page_size=ADMINISTRATION_PAGE_SIZE, page_token=token
            )
            return self._session.unary(self._events.ListWebhookDeliveries, request, ADMINISTRATION_TIMEOUT_S)

        pages = self._session.pages(fetch)
        return tuple(_convert_events.webhook_delivery(found) for page in pages for found in page.deliveries)
