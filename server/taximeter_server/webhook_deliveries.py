# SPDX-License-Identifier: Apache-2.0
"""Deliveries: one event on its way to one endpoint, and when it is tried again."""

import json
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Self

from taximeter_server.errors import StoreCorruptError
from taximeter_server.quota_events import QuotaEvent
from taximeter_server.retry_schedule import delay_ms
from taximeter_server.webhook_message import PostResult


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
        wait_ms = delay_ms(delivery.attempt_count, jitter_percent)
        if wait_ms is None:
            return replace(delivery, state=DeliveryState.FAILED)
        return replace(delivery, next_attempt_time_ms=time_ms + wait_ms)

    def given_up(self, problem: str) -> Self:
        """Return the delivery that will not be tried again."""
        return replace(self, state=DeliveryState.FAILED, last_problem=problem, next_attempt_time_ms=None)
