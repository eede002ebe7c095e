# SPDX-License-Identifier: Apache-2.0
"""What the server tells by itself: events of limits, and the webhook endpoints that they are sent to.

All values are immutable; times are in UTC.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from taximeter.results import LimitKind


@dataclass(frozen=True, slots=True)
class QuotaEvent:
    """The use of a limit came to a threshold."""

    id: str
    """Identifies the event, here and in each delivery."""
    tenant: str
    """Level of a tenant's path that the limit stands at."""
    kind: LimitKind
    """Which limit."""
    threshold_percent: int
    """The threshold, in percent of maximum: 50, 80, 95 or 100."""
    maximum: int
    """Maximum per window then: requests, tokens, or pico-units of the currency."""
    used: int
    """Used in the window then, in the unit of maximum."""
    event_time: datetime
    """When it happened, by the store's clock."""
    window_start_time: datetime
    """Beginning of the window."""


@dataclass(frozen=True, slots=True)
class QuotaEvents:
    """Some events, and where to go on."""

    events: tuple[QuotaEvent, ...]
    """Oldest first."""
    next_cursor: str
    """Place behind them: what comes later is asked for with it."""


class WebhookState(StrEnum):
    """Whether an endpoint is sent to."""

    ENABLED = "ENABLED"
    """Events are sent."""
    DISABLED = "DISABLED"
    """Nothing is sent until the endpoint is put again."""
    UNRECOGNIZED = "UNRECOGNIZED"
    """A state that this client does not know yet."""


@dataclass(frozen=True, slots=True)
class WebhookEndpoint:
    """Where events are sent."""

    id: str
    """Id of the endpoint."""
    url: str
    """Where to POST."""
    tenants: tuple[str, ...]
    """Only events of these tenants and those below. Empty means all."""
    threshold_percent_min: int
    """Only thresholds from this on. 0 means all."""
    note: str
    """What it is for."""
    state: WebhookState
    """Whether it is sent to."""
    create_time: datetime
    """When it was created."""
    failing_since_time: datetime | None
    """Since when all attempts have failed. None while the last one succeeded."""
    old_secret_expire_time: datetime | None
    """When a secret that was rotated away stops signing. None with one secret."""


@dataclass(frozen=True, slots=True)
class WebhookSecret:
    """An endpoint and a new secret of it, which is shown this once."""

    endpoint: WebhookEndpoint
    """The endpoint."""
    secret: str
    """The secret, "whsec_..."; empty where the endpoint had one and was only changed."""

    def __repr__(self) -> str:
        """Leaves the secret out, because representations end up in logs."""
        return f"WebhookSecret(endpoint={self.endpoint!r}, secret=...)"


class WebhookDeliveryState(StrEnum):
    """What became of a delivery."""

    PENDING = "PENDING"
    """To be sent, for the first time or again."""
    DELIVERED = "DELIVERED"
    """The endpoint answered 2xx."""
    FAILED = "FAILED"
    """Given up."""
    UNRECOGNIZED = "UNRECOGNIZED"
    """A state that this client does not know yet."""


@dataclass(frozen=True, slots=True)
class WebhookDelivery:
    """One event on its way to one endpoint."""

    event: QuotaEvent
    """The event; its id is the webhook-id."""
    state: WebhookDeliveryState
    """What became of it."""
    attempt_count: int
    """Attempts so far."""
    last_attempt_time: datetime | None
    """When the last attempt was made. None before the first."""
    last_status: int
    """HTTP status of the last attempt. 0 without an answer."""
    last_problem: str
    """Why the last attempt failed. Empty when it succeeded."""
    next_attempt_time: datetime | None
    """When the next attempt will be made. None when there will be none."""
