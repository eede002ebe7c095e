# SPDX-License-Identifier: Apache-2.0
"""Calendar periods: whole local days, as the half-open interval of instants that reports take."""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

PERIOD_NAMES = ("current-month", "last-month", "today", "yesterday")
_MONTH = re.compile(r"([0-9]{4})-([0-9]{2})", re.ASCII)
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_ONE_DAY = timedelta(days=1)
# Leaves room for the day after and for any zone's offset.
_YEAR_MIN, _YEAR_MAX = 1970, 9998


@dataclass(frozen=True, slots=True)
class Period:
    """The days from `first` to `last`, both included, in a time zone."""

    first: date
    """First day."""
    last: date
    """Last day; not before the first."""
    time_zone: ZoneInfo
    """Zone whose days these are."""

    @property
    def start_time(self) -> datetime:
        """The first instant, in UTC."""
        return day_start(self.first, self.time_zone)

    @property
    def end_time(self) -> datetime:
        """The instant after the last, in UTC."""
        return day_start(self.last + _ONE_DAY, self.time_zone)

    def before(self) -> "Period":
        """The days before it: as many, or the whole month before whole months."""
        day_after = self.last + _ONE_DAY
        if self.first.day == 1 and day_after.day == 1:
            months = (day_after.year - self.first.year) * 12 + day_after.month - self.first.month
            return Period(_months_after(self.first, -months), self.first - _ONE_DAY, self.time_zone)
        return Period(self.first - (day_after - self.first), self.first - _ONE_DAY, self.time_zone)

    def a_year_before(self) -> "Period":
        """The same days of the year before; 29 February becomes 28 February."""
        first, last = (_a_year_before(day) for day in (self.first, self.last))
        if (self.last + _ONE_DAY).day == 1:
            # The end of a month stays the end of a month.
            last = _a_year_before(self.last + _ONE_DAY) - _ONE_DAY
        return Period(first, last, self.time_zone)

    @property
    def days(self) -> tuple[date, ...]:
        """Every day, in order."""
        return tuple(self.first + timedelta(days=n) for n in range((self.last - self.first).days + 1))


def parse_period(text: str, time_zone: ZoneInfo, now_ms: int) -> Period:
    """Reads "current-month", "last-month", "today", "yesterday", a month "2026-06" or a day "2026-06-03".

    Months are whole, the current one too: its last days are still to come. Raises ValueError.
    """
    # Integers only: a float of milliseconds could fall on the wrong side of midnight.
    today = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=now_ms)).astimezone(time_zone).date()
    if text == "today":
        return Period(today, today, time_zone)
    if text == "yesterday":
        return Period(today - _ONE_DAY, today - _ONE_DAY, time_zone)
    if text == "current-month":
        return _month(today.year, today.month, time_zone)
    if text == "last-month":
        end = today.replace(day=1) - _ONE_DAY
        return _month(end.year, end.month, time_zone)
    try:
        if month := _MONTH.fullmatch(text):
            return _month(int(month[1]), int(month[2]), time_zone)
        day = parse_day(text)
    except ValueError as error:
        names = ", ".join(PERIOD_NAMES)
        message = f"{text!r} is none of {names}, a month such as 2026-06, a day such as 2026-06-03"
        raise ValueError(message) from error
    return Period(day, day, time_zone)


def parse_day(text: str) -> date:
    """Reads a day such as "2026-06-03". Raises ValueError."""
    if not _DAY.fullmatch(text):
        message = f"{text!r} is no day such as 2026-06-03"
        raise ValueError(message)
    day = date.fromisoformat(text)
    _check_year(day.year)
    return day


def day_start(day: date, time_zone: ZoneInfo) -> datetime:
    """Returns the first instant of a local day, in UTC.

    That is midnight, except where clocks jump over it: then it is the instant of the jump.
    """
    midnight = datetime.combine(day, time.min)
    start = midnight.replace(tzinfo=time_zone).astimezone(UTC)
    if start.astimezone(time_zone).replace(tzinfo=None) == midnight:
        return start
    # Midnight does not exist. Around a jump local time only grows, so the instant can be searched for; zones
    # jump on whole seconds.
    low, high = start - _ONE_DAY, start + _ONE_DAY
    while high - low > timedelta(seconds=1):
        middle = low + timedelta(seconds=int((high - low).total_seconds()) // 2)
        if middle.astimezone(time_zone).replace(tzinfo=None) < midnight:
            low = middle
        else:
            high = middle
    return high


def _month(year: int, month: int, time_zone: ZoneInfo) -> Period:
    _check_year(year)
    first = date(year, month, 1)
    next_first = date(year + month // 12, month % 12 + 1, 1)
    return Period(first, next_first - _ONE_DAY, time_zone)


def _months_after(first: date, months: int) -> date:
    number = first.year * 12 + first.month - 1 + months
    return date(number // 12, number % 12 + 1, 1)


def _a_year_before(day: date) -> date:
    try:
        return day.replace(year=day.year - 1)
    except ValueError:
        return day.replace(year=day.year - 1, day=28)


def _check_year(year: int) -> None:
    if not _YEAR_MIN <= year <= _YEAR_MAX:
        message = f"year {year} is not between {_YEAR_MIN} and {_YEAR_MAX}"
        raise ValueError(message)
