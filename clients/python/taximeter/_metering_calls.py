# SPDX-License-Identifier: Apache-2.0
"""What is asked of the server before, during and after a call, however it is sent: blocking, awaited or spooled."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, TypeVar

from google.protobuf.message import Message

from taximeter import _convert, _convert_quota
from taximeter._retry import Repeating
from taximeter.clock import system_clock_ms
from taximeter.money import Money
from taximeter.provider_usage import ProviderUsage, ReportedUsage
from taximeter.record_id import RecordIds
from taximeter.results import (
    Durability,
    HoldExtension,
    HoldState,
    LevelRecorded,
    PricingState,
    QuotaDecision,
    Recorded,
)
from taximeter.usage import NO_ATTRIBUTES, Usage, UsageQuality, UsageRecord, usage_given
from taximeter.v1 import metering_service_pb2

CHECK_TIMEOUT_S = 1.0
RECORD_TIMEOUT_S = 10.0

AnswerT = TypeVar("AnswerT")


@dataclass(frozen=True, slots=True)
class Call(Generic[AnswerT]):
    """One call: what to send, and how to read the answer."""

    method: str
    """Name within the service."""
    request: Message
    """What to send."""
    read: Callable[[Any], AnswerT]
    """Reads the answer."""
    timeout_s: float
    """Time for all attempts."""
    repeating: Repeating = Repeating.WHEN_UNAVAILABLE
    """When it is sent again."""
    spooled: AnswerT | None = None
    """For a call that goes through the spool: the answer while the server's is not there."""


class MeteringCalls:
    """Makes the calls. Safe to share between threads."""

    def __init__(self, record_ids: RecordIds, clock: Callable[[], int] = system_clock_ms) -> None:
        """Takes what makes ids, and the clock in Unix milliseconds."""
        self._record_ids = record_ids
        self._clock = clock

    def check_quota(  # noqa: PLR0913 - by name, one per field of the request
        self,
        tenant: str,
        *,
        model: str = "",
        estimate: Usage | ProviderUsage | None = None,
        hold_ttl: timedelta | None = None,
        requests: int = 1,
        dry_run: bool = False,
        request_id: str = "",
        provider: str = "",
        tier: str = "",
        region: str = "",
        speed: str = "",
        timeout_s: float = CHECK_TIMEOUT_S,
    ) -> Call[QuotaDecision]:
        """Decides whether a call may go on, by all limits of the tenant and its parents together.

        A denial is an answer. UnavailableError and DeadlineError mean that nothing was decided: whether to go
        on then is the caller's choice.

        `estimate` is what it may use, in classes or as a provider reported it of another call.

        With `hold_ttl` (1 s to 1 h) an allowed call holds its estimate: tokens and cost count against the limits
        until `record(..., hold_id=decision.hold_id)` settles them, `release_hold` frees them, or the time is
        over. Such a check is named, here or by `request_id`, so that one that is sent twice holds once.
        """
        if hold_ttl is not None and not request_id:
            request_id = self._record_ids.new()
        request = metering_service_pb2.CheckQuotaRequest(
            tenant=tenant,
            request_id=request_id,
            model=model,
            estimate=_convert.expected_usage(estimate),
            provider_usage=_convert.expected_provider_usage(estimate),
            requests=requests,
            hold_ttl=_convert_quota.duration(hold_ttl),
            dry_run=dry_run,
            provider=provider,
            tier=tier,
            region=region,
            speed=speed,
        )
        return Call("CheckQuota", request, _convert_quota.quota_decision, timeout_s)

    def extend_hold(  # noqa: PLR0913 - by name, one per field of the request
        self,
        tenant: str,
        hold_id: str,
        hold_ttl: timedelta,
        *,
        model: str = "",
        estimate: Usage | ProviderUsage | None = None,
        provider: str = "",
        tier: str = "",
        region: str = "",
        speed: str = "",
        timeout_s: float = CHECK_TIMEOUT_S,
    ) -> Call[HoldExtension]:
        """Lets a hold live for `hold_ttl` from now, and hold what `estimate` says of the whole call.

        When the limits have no room for it the extension is not allowed, and the hold stays as it was. Raises
        PreconditionError for a hold that has ended, NotFoundError for one that is not known.
        """
        request = metering_service_pb2.ExtendHoldRequest(
            tenant=tenant,
            hold_id=hold_id,
            hold_ttl=_convert_quota.duration(hold_ttl),
            model=model,
            estimate=_convert.expected_usage(estimate),
            provider_usage=_convert.expected_provider_usage(estimate),
            provider=provider,
            tier=tier,
            region=region,
            speed=speed,
        )
        return Call("ExtendHold", request, _convert_quota.hold_extension, timeout_s)

    def release_hold(
        self, tenant: str, hold_id: str, *, timeout_s: float = CHECK_TIMEOUT_S
    ) -> Call[HoldState]:
        """Frees the hold of a call that did not happen; returns RELEASED, or how it had ended before."""
        request = metering_service_pb2.ReleaseHoldRequest(tenant=tenant, hold_id=hold_id)
        return Call("ReleaseHold", request, lambda answer: _convert.hold_state(answer.state), timeout_s)

    def record(  # noqa: PLR0913 - by name, one per field of the request
        self,
        tenant: str,
        usage: Usage | ProviderUsage | None = None,
        *,
        provider_usage: ReportedUsage | None = None,
        api: str = "",
        iteration_model: str = "",
        model: str = "",
        record_id: str | None = None,
        provider: str = "",
        occur_time: datetime | None = None,
        tier: str = "",
        region: str = "",
        speed: str = "",
        attributes: Mapping[str, str] = NO_ATTRIBUTES,
        quality: UsageQuality | None = None,
        hold_id: str = "",
        durable: bool = False,
        timeout_s: float = RECORD_TIMEOUT_S,
    ) -> Call[Recorded]:
        """Records what one call used and returns once the record is durable; settles `hold_id` where there is one.

        The id is made before the first attempt and sent again with every retry, so that a record counts once
        whatever happens on the way. Where the error's `not_recorded` is false the outcome is unknown: record
        again with the same `record_id`, which is why a caller that wants to do so makes it itself.

        What was used is `usage`, or `provider_usage`: the usage object of a provider's answer, such as
        `response.usage`, with the names of `provider` and `api`, which decide how its numbers are meant. Where one
        answer bills several models, `iteration_model` names another than its own. Raises ValueError for both or
        neither.

        With `durable` the record is on this machine's disk, in the client's spool, before it is sent. Where the server
        does not answer within `timeout_s` the answer says SPOOLED, and the spool goes on sending it; the cost is not
        known then. Raises SpoolError where it could not be kept either.
        """
        record = UsageRecord(
            record_id=record_id or self._record_ids.new(),
            tenant=tenant,
            usage=usage_given(
                usage, provider_usage, provider=provider, api=api, iteration_model=iteration_model
            ),
            model=model,
            provider=provider,
            # What waits in a spool happened before the server hears of it.
            occur_time=self._now() if durable and occur_time is None else occur_time,
            tier=tier,
            region=region,
            speed=speed,
            attributes=attributes,
            quality=quality,
            hold_id=hold_id,
        )
        request = metering_service_pb2.RecordRequest(record=_convert.record_message(record))
        return Call(
            "Record",
            request,
            lambda answer: _convert.recorded(record.record_id, answer),
            timeout_s,
            repeating=Repeating.WHEN_UNKNOWN,
            spooled=_spooled(record.record_id) if durable else None,
        )

    def record_level(
        self,
        tenant: str,
        series: str,
        level_bytes: int,
        *,
        occur_time: datetime,
        attributes: Mapping[str, str] = NO_ATTRIBUTES,
        timeout_s: float = RECORD_TIMEOUT_S,
    ) -> Call[LevelRecorded]:
        """Records a reading of a level that lasts, such as bytes stored; returns what the level before came to.

        The level holds until the next reading of its series, whose byte-hours are recorded hour by hour. Readings of
        a series come in the order of their times; the same one again changes nothing.
        """
        request = metering_service_pb2.RecordLevelRequest(
            tenant=tenant,
            series=series,
            level_bytes=level_bytes,
            occur_time=_convert.timestamp(occur_time),
            attributes=attributes,
        )
        return Call("RecordLevel", request, _level_recorded, timeout_s, Repeating.WHEN_UNKNOWN)

    def _now(self) -> datetime:
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=self._clock())


def _level_recorded(response: metering_service_pb2.RecordLevelResponse) -> LevelRecorded:
    return LevelRecorded(
        duplicate=response.duplicate,
        byte_hours=response.byte_hours,
        cost=_convert.money(response.cost),
        unrecorded=_convert.span(response.unrecorded),
    )


def _spooled(record_id: str) -> Recorded:
    """Returns the answer for a record that is in the spool."""
    return Recorded(
        record_id=record_id,
        duplicate=False,
        cost=Money("", 0),
        lines=(),
        rate_card_id="",
        rate_card_row="",
        pricing_state=PricingState.NONE,
        limits=(),
        durability=Durability.SPOOLED,
    )
