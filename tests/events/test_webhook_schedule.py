# SPDX-License-Identifier: Apache-2.0
"""When a delivery is tried again, and when an endpoint is given up, by values alone."""

from taximeter_server.quota_events import QuotaEvent
from taximeter_server.retry_schedule import JITTER_PERCENT, RETRY_DELAYS_SECONDS
from taximeter_server.webhook_deliveries import Delivery, DeliveryState
from taximeter_server.webhook_endpoints import Endpoint, EndpointSettings
from taximeter_server.webhook_message import PostResult

SECRET = "whsec_c2VjcmV0"  # noqa: S105 (of nobody)

EVENT = QuotaEvent(
    tenant="acme",
    limit="cost_per_day",
    threshold_percent=80,
    maximum=2**63 - 1,
    used=2**63 - 1,
    time_ms=1_780_000_000_000,
    window_start_s=1_779_926_400,
)


def test_delays_grow_and_end() -> None:
    """Each attempt waits longer, by the schedule and within the jitter; after the last one it is given up."""
    delivery, time_ms, waits_s = Delivery(event=EVENT), 0, []
    for number in range(len(RETRY_DELAYS_SECONDS)):
        jitter_percent = JITTER_PERCENT if number % 2 else -JITTER_PERCENT
        delivery = delivery.after_attempt(
            PostResult(0, "timeout"), time_ms=time_ms, jitter_percent=jitter_percent
        )
        assert delivery.next_attempt_time_ms is not None
        waits_s.append((delivery.next_attempt_time_ms - time_ms) * 100 / (100 + jitter_percent) / 1_000)
        time_ms = delivery.next_attempt_time_ms
    last = delivery.after_attempt(PostResult(500, "answered 500"), time_ms=time_ms, jitter_percent=0)

    assert waits_s == list(RETRY_DELAYS_SECONDS) == sorted(RETRY_DELAYS_SECONDS)
    assert (last.state, last.next_attempt_time_ms) == (DeliveryState.FAILED, None)


def test_documents_read_as_they_were_written() -> None:
    """Deliveries and endpoints survive being stored; a secret is in no representation."""
    delivery = Delivery(event=EVENT).after_attempt(PostResult(0, "timeout"), time_ms=5, jitter_percent=0)
    settings = EndpointSettings(
        url="https://example.com/", tenants=("acme",), threshold_percent_min=0, note=""
    )
    endpoint = Endpoint(
        endpoint_id="ep_1", settings=settings, create_time_ms=1, start_time_ms=2, secret=SECRET
    )

    assert Delivery.from_json(delivery.to_json()) == delivery
    assert Endpoint.from_json(endpoint.to_json()) == endpoint
    assert "c2VjcmV0" not in repr(endpoint)
