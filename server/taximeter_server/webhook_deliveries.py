# SPDX-License-Identifier: Apache-2.0
"""Deliveries: one event on its way to one endpoint, and when it is tried again."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Self

from taximeter_server.errors import StoreCorruptError
from taximeter_server.quota_events import QuotaEvent
from taximeter_server.webhook_message import PostResult

_MINUTE, _HOUR, _DAY = 60, 3_600, 86_400
RETRY_DELAYS_SECONDS: Sequence[int] = (
    *(1, 5, 30),
    *(2 * _MINUTE, 10 * _MINUTE, 30 * _MINUTE),
    *(_HOUR, 2 * _HOUR, 4 * _HOUR, 8 * _HOUR, 16 * _HOUR),
    *(_DAY, _DAY, _DAY),
)
"""Before each attempt but the first; about four and a half days in all."""
JITTER_PERCENT = 20
"""Delays vary by so much in both directions, so that endpoints that fail together are not tried together."""


class DeliveryState(StrEnum):
    """What became of a delivery."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """Times are milliseconds since 1970 UTC by the store's clock, None for never."""

    event: QuotaEvent
    state: DeliveryState = DeliveryState.PENDING
    attempt_count: int = 0
    last_attempt_time_ms: int | None = None
    last_status: int = 0
    last_problem: str = ""
    next_attempt_time_ms: int | None = None

    def to_json(self) -> str:
        """Return the delivery's document."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, document: str) -> Self:
        """Read a delivery's document. Raises StoreCorruptError."""
        try:
            values = json.loads(document)
            event = QuotaEvent(**values["event"])
            return cls(**{**values, "event": event, "state": DeliveryState(values["state"])})
        except (ValueError, TypeError, KeyError) as error:
            raise StoreCorruptError(f"webhook delivery document: {error}") from error

    def after_attempt(self, result: PostResult, *, time_ms: int, jitter_percent: int) -> Self:
        """Return the delivery after an attempt. jitter_percent: -JITTER_PERCENT to JITTER_PERCENT."""
        delivery = replace(
            self,
            attempt_count=self.attempt_count + 1,
            last_attempt_time_ms=time_ms,
            last_status=result.status,
            last_problem=result.problem,
            next_attempt_time_ms=None,
        )
        if not result.problem:
            return replace(delivery, state=DeliveryState.DELIVERED)
        if delivery.attempt_count > len(RETRY_DELAYS_SECONDS):
            return replace(delivery, state=DeliveryState.FAILED)
        delay_ms = RETRY_DELAYS_SECONDS[delivery.attempt_count - 1] * (100 + jitter_percent) * 10
        return replace(delivery, next_attempt_time_ms=time_ms + delay_ms)

    def given_up(self, problem: str) -> Self:
        """Return the delivery that will not be tried again."""
        return replace(self, state=DeliveryState.FAILED, last_problem=problem, next_attempt_time_ms=None)
