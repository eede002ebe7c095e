# SPDX-License-Identifier: Apache-2.0
"""Where periods begin: on the anchor day of the calendar of a time zone, on the last day of months that lack it.

Instants are whole seconds of UTC, in milliseconds since 1970. A local time that a clock skips is taken as it would be
without the skip; of one that a clock shows twice, the first is meant.
"""

import calendar
import itertools
import zoneinfo
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from taximeter_server.plan_terms import DAY, YEAR, Cadence

MS_PER_SECOND = 1_000
_MONTHS_PER_YEAR = 12
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Anchor:
    """A local date that begins a period, and the time of day at which all begin. day: 1 to 31, whatever the month."""

    year: int
    month: int
    day: int
    second_of_day: int

    @classmethod
    def at(cls, time_ms: int, time_zone: str) -> "Anchor":
        """Return the anchor that an instant is."""
        local = local_time(time_ms, time_zone)
        second_of_day = local.hour * 3_600 + local.minute * 60 + local.second
        return cls(local.year, local.month, local.day, second_of_day)

    @classmethod
    def of_day(cls, day: int, time_ms: int, time_zone: str) -> "Anchor":
        """Return the anchor of a day of the month, at midnight, in the month of an instant."""
        local = local_time(time_ms, time_zone)
        return cls(local.year, local.month, day, 0)

    def boundary_ms(self, cadence: Cadence, index: int, time_zone: str) -> int:
        """Return the start of a period; index 0 is that of the anchor's own date."""
        if cadence.unit == DAY:
            date = _date(self.year, self.month, self.day) + timedelta(days=index * cadence.count)
        else:
            months = cadence.count * (_MONTHS_PER_YEAR if cadence.unit == YEAR else 1)
            year, month = divmod(
                self.year * _MONTHS_PER_YEAR + self.month - 1 + index * months, _MONTHS_PER_YEAR
            )
            date = _date(year, month + 1, self.day)
        local = (date + timedelta(seconds=self.second_of_day)).replace(tzinfo=zoneinfo.ZoneInfo(time_zone))
        return _time_ms(local)


@dataclass(frozen=True, slots=True)
class Span:
    """A period as the cadence has it, and the part of it that is meant; both half-open."""

    start_ms: int
    end_ms: int
    whole_start_ms: int
    whole_end_ms: int

    @property
    def whole_seconds(self) -> int:
        """Seconds of the period as the cadence has it."""
        return (self.whole_end_ms - self.whole_start_ms) // MS_PER_SECOND


def spans(
    anchor: Anchor, cadence: Cadence, time_zone: str, start_ms: int, end_ms: int | None
) -> Iterator[Span]:
    """Yield the periods from start_ms on, in order, until end_ms. The first and last may be parts of periods."""
    index = 0
    while anchor.boundary_ms(cadence, index, time_zone) > start_ms:
        index -= 1
    while anchor.boundary_ms(cadence, index + 1, time_zone) <= start_ms:
        index += 1
    for number in itertools.count(index):
        whole_start = anchor.boundary_ms(cadence, number, time_zone)
        whole_end = anchor.boundary_ms(cadence, number + 1, time_zone)
        if end_ms is not None and whole_start >= end_ms:
            return
        end = whole_end if end_ms is None else min(whole_end, end_ms)
        yield Span(max(whole_start, start_ms), end, whole_start, whole_end)


def after(time_ms: int, duration: Cadence, time_zone: str, *, day: int) -> int:
    """Return the instant after a duration of the calendar. day: of the month that is kept to, where time_ms does."""
    anchor = Anchor.at(time_ms, time_zone)
    if anchor.day == min(day, calendar.monthrange(anchor.year, anchor.month)[1]):
        anchor = replace(anchor, day=day)
    return anchor.boundary_ms(duration, 1, time_zone)


def local_time(time_ms: int, time_zone: str) -> datetime:
    """Return the local time of an instant."""
    return (_EPOCH + timedelta(milliseconds=time_ms)).astimezone(zoneinfo.ZoneInfo(time_zone))


def whole_second(time_ms: int) -> int:
    """Return the start of the second."""
    return time_ms // MS_PER_SECOND * MS_PER_SECOND


def stamp(time_ms: int) -> str:
    """Return an instant as it stands in ids, such as 20260601T000000Z."""
    return f"{_EPOCH + timedelta(milliseconds=time_ms):%Y%m%dT%H%M%SZ}"


def _date(year: int, month: int, day: int) -> datetime:
    return datetime(year, month, min(day, calendar.monthrange(year, month)[1]))  # noqa: DTZ001 (local, zone comes later)


def _time_ms(local: datetime) -> int:
    return (local.astimezone(UTC) - _EPOCH) // timedelta(milliseconds=1)
