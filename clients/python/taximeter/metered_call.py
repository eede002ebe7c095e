# SPDX-License-Identifier: Apache-2.0
"""One call from the question whether it may go on to the record of what it used."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Self

from taximeter._metering_calls import Call, MeteringCalls
from taximeter.errors import DeadlineError, QuotaDeniedError, ServerError, UnavailableError, UsageMissingError
from taximeter.provider_usage import ProviderUsage, ReportedUsage
from taximeter.record_id import new_record_id
from taximeter.results import HoldState, QuotaDecision, Recorded
from taximeter.usage import Usage, UsageQuality, usage_given

if TYPE_CHECKING:
    from taximeter.aio import AsyncMeter
    from taximeter.client import Meter

HOLD_TTL = timedelta(minutes=5)


@dataclass(slots=True)
class CallPlan:
    """What is known of a call before it happens."""

    tenant: str
    """Path of one to four segments."""
    model: str = ""
    """Model that is asked for; `MeteredCall.used` may name the one that was served."""
    estimate: Usage | ProviderUsage | None = None
    """The most that it may use. With it the call holds the estimate until it is recorded."""
    hold_ttl: timedelta = HOLD_TTL
    """How long it may take, 1 s to 1 h: the hold frees itself then."""
    provider: str = ""
    """Provider name, such as "anthropic"."""
    tier: str = ""
    """Service tier."""
    region: str = ""
    """Region."""
    speed: str = ""
    """Speed."""
    attributes: Mapping[str, str] = field(default_factory=dict)
    """What users group by."""
    durable: bool = False
    """Whether the record goes through the spool."""
    allows_undecided: bool = False
    """Whether the call goes on when nobody could decide. Otherwise UnavailableError or DeadlineError is raised."""


class CallInProgress:
    """What happens to a call, without how it is sent."""

    def __init__(self, calls: MeteringCalls, plan: CallPlan) -> None:
        """Begins before the check."""
        self._calls = calls
        self.plan = plan
        self.record_id = new_record_id()
        """Id under which the usage is recorded."""
        self.decision: QuotaDecision | None = None
        """The answer to the check. None before it, and when nobody could decide."""
        self.recorded: Recorded | None = None
        """The answer to the record, after the end."""
        self.also_recorded: list[Recorded] = []
        """The answers to the records of other models, after the end."""
        self._usage: Usage | ProviderUsage | None = None
        self._quality: UsageQuality | None = None
        self._others: list[tuple[str, str, Usage | ProviderUsage, UsageQuality | None]] = []

    def used(
        self,
        usage: Usage | ProviderUsage | None = None,
        *,
        provider_usage: ReportedUsage | None = None,
        provider: str = "",
        api: str = "",
        model: str = "",
        quality: UsageQuality | None = None,
    ) -> None:
        """Says what the call used; it is recorded at the end. Said again, the last word counts.

        Takes classes, or `provider_usage` such as `response.usage` with provider and api. `model` is the one that
        was served, where it differs.
        """
        self._usage = usage_given(usage, provider_usage, provider=provider or self.plan.provider, api=api)
        self._quality = quality
        self.plan.provider = provider or self.plan.provider
        self.plan.model = model or self.plan.model

    def also_used(
        self,
        model: str,
        usage: Usage | ProviderUsage,
        *,
        quality: UsageQuality | None = None,
    ) -> None:
        """Says what another model used within the call, such as an advisor: it is recorded on its own, at the end."""
        self._others.append((new_record_id(), model, usage, quality))

    def _check(self) -> Call[QuotaDecision]:
        plan = self.plan
        return self._calls.check_quota(
            plan.tenant,
            model=plan.model,
            estimate=plan.estimate,
            hold_ttl=None if plan.estimate is None else plan.hold_ttl,
            provider=plan.provider,
            tier=plan.tier,
            region=plan.region,
            speed=plan.speed,
        )

    def _decided(self, decision: QuotaDecision) -> None:
        self.decision = decision
        if not decision.allowed:
            raise QuotaDeniedError(decision)

    def _undecided(self, error: ServerError) -> None:
        if not self.plan.allows_undecided:
            raise error

    @property
    def _hold_id(self) -> str:
        return "" if self.decision is None else self.decision.hold_id

    def _records(self) -> list[Call[Recorded]]:
        """The records of what was used, that which settles the hold first. None when nobody said anything."""
        said = [] if self._usage is None else [(self.record_id, self.plan.model, self._usage, self._quality)]
        plan = self.plan
        return [
            self._calls.record(
                plan.tenant,
                usage,
                model=model,
                record_id=record_id,
                provider=plan.provider,
                tier=plan.tier,
                region=plan.region,
                speed=plan.speed,
                attributes=plan.attributes,
                quality=quality,
                hold_id=self._hold_id if record_id == self.record_id else "",
                durable=plan.durable,
            )
            for record_id, model, usage, quality in [*said, *self._others]
        ]

    def _note(self, recorded: Recorded) -> None:
        if recorded.record_id == self.record_id:
            self.recorded = recorded
        else:
            self.also_recorded.append(recorded)

    def _release(self) -> Call[HoldState] | None:
        """Frees what is held. None when nothing is."""
        return self._calls.release_hold(self.plan.tenant, self._hold_id) if self._hold_id else None

    def _finished(
        self, failures: Sequence[ServerError], body_error: BaseException | None, *, is_charged: bool
    ) -> None:
        """Raises the first of what failed. A record that failed does not hide why the call itself did."""
        if body_error is not None:
            for failure in failures:
                body_error.add_note(f"Its usage could not be recorded either: {failure}")
        elif failures:
            raise failures[0]
        elif not is_charged:
            raise UsageMissingError


class MeteredCall(CallInProgress):
    """Context of a call: asks at the beginning, records at the end; on an error without usage it frees the hold.

    Raises QuotaDeniedError at the beginning, UsageMissingError where the body ends without `used`.
    """

    def __init__(self, meter: "Meter", plan: CallPlan) -> None:
        """Begins before the check."""
        super().__init__(meter.calls, plan)
        self._meter = meter

    def __enter__(self) -> Self:
        """Asks whether the call may go on."""
        try:
            self._decided(self._meter.run(self._check()))
        except (UnavailableError, DeadlineError) as error:
            self._undecided(error)
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Records what was used, or frees what was held."""
        failures: list[ServerError] = []
        records = self._records()
        for record in records:
            try:
                self._note(self._meter.run(record))
            except ServerError as failure:
                failures.append(failure)
        try:
            if self._usage is None and (release := self._release()) is not None:
                self._meter.run(release)
        except ServerError as failure:
            failures.append(failure)
        self._finished(failures, error, is_charged=bool(records))


class AsyncMeteredCall(CallInProgress):
    """As MeteredCall, for `async with`."""

    def __init__(self, meter: "AsyncMeter", plan: CallPlan) -> None:
        """Begins before the check."""
        super().__init__(meter.calls, plan)
        self._meter = meter

    async def __aenter__(self) -> Self:
        """Asks whether the call may go on."""
        try:
            self._decided(await self._meter.run(self._check()))
        except (UnavailableError, DeadlineError) as error:
            self._undecided(error)
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Records what was used, or frees what was held."""
        failures: list[ServerError] = []
        records = self._records()
        for record in records:
            try:
                self._note(await self._meter.run(record))
            except ServerError as failure:
                failures.append(failure)
        try:
            if self._usage is None and (release := self._release()) is not None:
                await self._meter.run(release)
        except ServerError as failure:
            failures.append(failure)
        self._finished(failures, error, is_charged=bool(records))
