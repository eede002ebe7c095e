# SPDX-License-Identifier: Apache-2.0
"""Between the values of this package and the messages of taximeter.v1, for events and webhooks."""

from taximeter._convert import enum_member, instant
from taximeter.events import (
    QuotaEvent,
    QuotaEvents,
    WebhookDelivery,
    WebhookDeliveryState,
    WebhookEndpoint,
    WebhookState,
)
from taximeter.results import LimitKind
from taximeter.v1 import event_service_pb2, quota_pb2


def quota_events(message: event_service_pb2.ListQuotaEventsResponse) -> QuotaEvents:
    """Converts a page of events."""
    return QuotaEvents(tuple(_quota_event(event) for event in message.events), message.next_cursor)


def _quota_event(message: event_service_pb2.QuotaEvent) -> QuotaEvent:
    return QuotaEvent(
        id=message.id,
        tenant=message.tenant,
        kind=enum_member(LimitKind, quota_pb2.LimitKind.items(), "LIMIT_KIND_", message.kind),
        threshold_percent=message.threshold_percent,
        maximum=message.maximum,
        used=message.used,
        event_time=instant(message.event_time),
        window_start_time=instant(message.window_start_time),
    )


def webhook_endpoint(message: event_service_pb2.WebhookEndpoint) -> WebhookEndpoint:
    """Converts an endpoint."""
    failing, expire = message.failing_since_time, message.old_secret_expire_time
    return WebhookEndpoint(
        id=message.id,
        url=message.url,
        tenants=tuple(message.tenants),
        threshold_percent_min=message.threshold_percent_min,
        note=message.note,
        state=enum_member(
            WebhookState, event_service_pb2.WebhookState.items(), "WEBHOOK_STATE_", message.state
        ),
        create_time=instant(message.create_time),
        failing_since_time=instant(failing) if message.HasField("failing_since_time") else None,
        old_secret_expire_time=instant(expire) if message.HasField("old_secret_expire_time") else None,
    )


def webhook_delivery(message: event_service_pb2.WebhookDelivery) -> WebhookDelivery:
    """Converts a delivery."""
    last, following = message.last_attempt_time, message.next_attempt_time
    return WebhookDelivery(
        event=_quota_event(message.event),
        state=enum_member(
            WebhookDeliveryState,
            event_service_pb2.WebhookDeliveryState.items(),
            "WEBHOOK_DELIVERY_STATE_",
            message.state,
        ),
        attempt_count=message.attempt_count,
        last_attempt_time=instant(last) if message.HasField("last_attempt_time") else None,
        last_status=message.last_status,
        last_problem=message.last_problem,
        next_attempt_time=instant(following) if message.HasField("next_attempt_time") else None,
    )
