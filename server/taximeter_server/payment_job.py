# SPDX-License-Identifier: Apache-2.0
"""One document on its way to the payment provider: what it is, and how far it is."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any, Self

from taximeter_server.errors import StoreCorruptError
from taximeter_server.payment_provider import PushError
from taximeter_server.retry_schedule import DECLINE_DELAYS_SECONDS, delay_ms


class JobKind(StrEnum):
    """What is pushed."""

    INVOICE = "invoice"
    USAGE = "usage"
    TOP_UP = "top_up"
    CREDIT_NOTE = "credit_note"
    VOID = "void"


class JobState(StrEnum):
    """How far it is."""

    PENDING = "pending"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentJob:
    """Times are milliseconds since 1970 UTC by the store's clock, None for never. payload: frozen when queued.

    decline_count: times that a card was declined.
    """

    job_id: str
    kind: JobKind
    tenant: str
    payload: Mapping[str, Any] = field(default_factory=dict)
    state: JobState = JobState.PENDING
    attempt_count: int = 0
    decline_count: int = 0
    last_problem: str = ""
    provider_id: str = ""
    url: str = ""
    create_time_ms: int
    last_attempt_time_ms: int | None = None
    next_attempt_time_ms: int | None = None

    def to_json(self) -> str:
        """Return the job's document."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, document: str) -> Self:
        """Read a job's document. Raises StoreCorruptError."""
        try:
            values = json.loads(document)
            return cls(**{**values, "kind": JobKind(values["kind"]), "state": JobState(values["state"])})
        except (ValueError, TypeError, KeyError) as error:
            raise StoreCorruptError(f"payment job document: {error}") from error

    def begun(self, time_ms: int) -> Self:
        """Return the job with an attempt more, as it is kept before the attempt is made."""
        return replace(self, attempt_count=self.attempt_count + 1, last_attempt_time_ms=time_ms)

    def done(self, provider_id: str, url: str) -> Self:
        """Return the job that the provider has."""
        return replace(
            self,
            state=JobState.DONE,
            provider_id=provider_id,
            url=url,
            last_problem="",
            next_attempt_time_ms=None,
        )

    def failed(self, error: PushError, *, time_ms: int, jitter_percent: int) -> Self:
        """Return the job after an attempt that failed: to be tried again, or given up."""
        decline_count = self.decline_count + error.is_decline
        if error.is_final:
            wait_ms = None
        elif error.is_decline:
            wait_ms = delay_ms(decline_count, jitter_percent, DECLINE_DELAYS_SECONDS)
        else:
            wait_ms = delay_ms(self.attempt_count, jitter_percent)
        return replace(
            self,
            state=JobState.FAILED if wait_ms is None else JobState.PENDING,
            decline_count=decline_count,
            last_problem=error.problem,
            next_attempt_time_ms=None if wait_ms is None else time_ms + wait_ms,
        )

    def again(self, time_ms: int) -> Self:
        """Return the job to be tried at once, with all attempts before it. One that is done stays so."""
        if self.state == JobState.DONE:
            return self
        # Not zero: what an earlier attempt may have made is looked for.
        count = min(self.attempt_count, 1)
        return replace(
            self, state=JobState.PENDING, attempt_count=count, next_attempt_time_ms=time_ms, last_problem=""
        )
