# SPDX-License-Identifier: Apache-2.0
"""What a tenant has agreed to, as segments of time that each have a plan, and the periods that follow from them.

Everything here is computed from the document alone: no clock, no store. What has been stays as it was, since changes
only ever replace segments from their own instant on.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Self

from taximeter_server.billing_calendar import MS_PER_SECOND, Anchor, Span, after, spans
from taximeter_server.errors import StoreCorruptError
from taximeter_server.plan_terms import Cadence, PlanTerms


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """From start_ms on, until the next. terms: None where nothing is subscribed.

    anchor: of the periods from here on; None goes on with those of the segment before.
    """

    start_ms: int
    plan: str = ""
    terms: PlanTerms | None = None
    is_trial: bool = False
    anchor: Anchor | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """The time within one period for which one plan holds; half-open."""

    start_ms: int
    end_ms: int
    plan: str
    terms: PlanTerms
    is_trial: bool


@dataclass(frozen=True, slots=True)
class Period:
    """What one invoice covers. parts: without gaps, at least one."""

    span: Span
    parts: tuple[Part, ...]

    @property
    def start_ms(self) -> int:
        """Its first instant."""
        return self.span.start_ms

    @property
    def end_ms(self) -> int:
        """The first instant after it."""
        return self.span.end_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseSettings:
    """A plan with its terms as they are now. duration: None for the last."""

    plan: str
    terms: PlanTerms
    duration: Cadence | None = None
    is_trial: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """segments: in order of time, at least one. request_sha256: of what put it, so that a retry is known."""

    tenant: str
    time_zone: str
    segments: tuple[Segment, ...]
    revision: int = 1
    request_sha256: str = ""

    def to_json(self) -> str:
        """Return the document."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, document: str) -> Self:
        """Read a document. Raises StoreCorruptError."""
        try:
            values = json.loads(document)
            segments = tuple(
                Segment(
                    **{
                        **segment,
                        "terms": segment["terms"] and PlanTerms.of_document(segment["terms"]),
                        "anchor": segment["anchor"] and Anchor(**segment["anchor"]),
                    }
                )
                for segment in values["segments"]
            )
            return cls(**{**values, "segments": segments})
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise StoreCorruptError(f"subscription document: {error}") from error

    @property
    def start_ms(self) -> int:
        """When it begins."""
        return self.segments[0].start_ms

    @property
    def end_ms(self) -> int | None:
        """When it ends for good; None for one without end."""
        last = self.segments[-1]
        return last.start_ms if last.terms is None else None

    def segment_at(self, time_ms: int) -> Segment | None:
        """Return what holds at an instant; None before the start."""
        return next((one for one in reversed(self.segments) if one.start_ms <= time_ms), None)

    def periods(self, until_ms: int) -> Iterator[Period]:
        """Yield the periods that begin before until_ms, in order."""
        for first, last in self._runs():
            segments = self.segments[first:last]
            anchor, terms = segments[0].anchor, segments[0].terms
            if anchor is None or terms is None:
                continue
            end_ms = self.segments[last].start_ms if last < len(self.segments) else None
            for span in spans(anchor, terms.cadence, self.time_zone, segments[0].start_ms, end_ms):
                if span.start_ms >= until_ms:
                    return
                yield Period(span, tuple(_parts(segments, span)))

    def free_second(self, time_ms: int) -> int:
        """Return the first whole second from time_ms on at which no plan begins: what began then may have granted."""
        starts = {one.start_ms for one in self.segments}
        while time_ms in starts:
            time_ms += MS_PER_SECOND
        return time_ms

    def period_at(self, time_ms: int) -> Period | None:
        """Return the period that holds an instant; the first to come where none does; None after the end."""
        return next((one for one in self._all_periods() if one.end_ms > time_ms), None)

    def _all_periods(self) -> Iterator[Period]:
        # Long after everything that anybody asks for.
        return self.periods(1 << 62)

    def _runs(self) -> Iterator[tuple[int, int]]:
        """Yield positions of the first segment of each run of periods and the one behind its last."""
        begins = [at for at, one in enumerate(self.segments) if one.anchor is not None or one.terms is None]
        yield from zip(begins, [*begins[1:], len(self.segments)], strict=True)

    def with_plan(self, plan: str, terms: PlanTerms, at_ms: int, *, continues: bool) -> "Subscription":
        """Return the subscription with another plan from at_ms on, and nothing planned after it.

        continues: within the periods that are, which needs the cadence that is; else new ones begin at at_ms.
        """
        anchor = self._anchor_at(at_ms, terms.cadence, continues=continues)
        return self._with(Segment(start_ms=at_ms, plan=plan, terms=terms, anchor=anchor))

    def ended(self, at_ms: int) -> "Subscription":
        """Return the subscription with an end, and nothing planned after it."""
        return self._with(Segment(start_ms=at_ms))

    def _with(self, segment: Segment) -> "Subscription":
        kept = tuple(one for one in self.segments if one.start_ms < segment.start_ms)
        return replace(self, segments=(*kept, segment), revision=self.revision + 1)

    def _anchor_at(self, at_ms: int, cadence: Cadence, *, continues: bool) -> Anchor | None:
        replaced = next((one for one in self.segments if one.start_ms == at_ms), None)
        if replaced is not None and replaced.anchor is not None:
            return replaced.anchor
        before = self.segment_at(at_ms - 1)
        is_same = before is not None and before.terms is not None and before.terms.cadence == cadence
        if continues and is_same:
            return None
        return Anchor.at(at_ms, self.time_zone) if before is None else _next_anchor(self, before, at_ms)


def _next_anchor(subscription: Subscription, before: Segment, at_ms: int) -> Anchor:
    """Return the anchor of a run behind another: where a period ends anyway, its day of the month goes on."""
    fresh = Anchor.at(at_ms, subscription.time_zone)
    if before.is_trial:
        return fresh
    last = next((one for one in subscription.periods(at_ms) if one.span.whole_end_ms == at_ms), None)
    anchor = next(
        (one.anchor for one in reversed(subscription.segments) if one.anchor and one.start_ms < at_ms), None
    )
    return fresh if last is None or anchor is None else replace(fresh, day=anchor.day)


def _parts(segments: Sequence[Segment], span: Span) -> Iterator[Part]:
    for at, segment in enumerate(segments):
        end_ms = segments[at + 1].start_ms if at + 1 < len(segments) else span.end_ms
        start_ms, end_ms = max(segment.start_ms, span.start_ms), min(end_ms, span.end_ms)
        if start_ms < end_ms and segment.terms is not None:
            yield Part(start_ms, end_ms, segment.plan, segment.terms, segment.is_trial)


def begin(
    *, tenant: str, time_zone: str, start_ms: int, anchor_day: int | None, phases: Sequence[PhaseSettings]
) -> Subscription:
    """Return a new subscription that takes plans one after the other. All phases but the last have a duration."""
    first = phases[0]
    anchor = (
        Anchor.at(start_ms, time_zone)
        if anchor_day is None
        else Anchor.of_day(anchor_day, start_ms, time_zone)
    )
    segment = Segment(
        start_ms=start_ms, plan=first.plan, terms=first.terms, is_trial=first.is_trial, anchor=anchor
    )
    made = Subscription(tenant=tenant, time_zone=time_zone, segments=(segment,))
    at_ms, before = start_ms, first
    for phase in phases[1:]:
        if before.duration is None:
            raise ValueError("all phases but the last have a duration")
        at_ms = _end_of(made, at_ms, before.duration)
        is_boundary = any(one.end_ms == at_ms for one in made.periods(at_ms))
        made = made.with_plan(phase.plan, phase.terms, at_ms, continues=is_boundary and not before.is_trial)
        last = replace(made.segments[-1], is_trial=phase.is_trial)
        if anchor_day is not None and last.anchor is not None:
            last = replace(last, anchor=Anchor.of_day(anchor_day, at_ms, time_zone))
        made = replace(made, segments=(*made.segments[:-1], last))
        before = phase
    if before.duration is not None:
        made = made.ended(_end_of(made, at_ms, before.duration))
    return replace(made, revision=1)


def _end_of(subscription: Subscription, start_ms: int, duration: Cadence) -> int:
    """Return the end of the last phase, on the day of the month of its periods."""
    anchor = next(one.anchor for one in reversed(subscription.segments) if one.anchor is not None)
    return after(start_ms, duration, subscription.time_zone, day=anchor.day)
