# SPDX-License-Identifier: Apache-2.0
"""Periods are whole local days, whatever calendar and clocks do."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taximeter.period import Period, day_start, parse_day, parse_period

ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Pacific/Apia", "Africa/Cairo"]


def now_ms(text: str) -> int:
    """The milliseconds of an instant."""
    return round(datetime.fromisoformat(text).timestamp()) * 1000


@pytest.mark.parametrize(
    ("text", "now", "first", "last"),
    [
        ("current-month", "2026-06-15T12:00Z", "2026-06-01", "2026-06-30"),
        ("current-month", "2024-02-29T23:59Z", "2024-02-01", "2024-02-29"),
        ("current-month", "2026-12-31T00:00Z", "2026-12-01", "2026-12-31"),
        ("last-month", "2026-03-31T12:00Z", "2026-02-01", "2026-02-28"),
        ("last-month", "2026-01-01T00:00Z", "2025-12-01", "2025-12-31"),
        ("today", "2026-06-03T23:59:59Z", "2026-06-03", "2026-06-03"),
        ("yesterday", "2026-03-01T00:00Z", "2026-02-28", "2026-02-28"),
        ("2026-06", "2020-01-01T00:00Z", "2026-06-01", "2026-06-30"),
        ("2026-12", "2020-01-01T00:00Z", "2026-12-01", "2026-12-31"),
        ("2026-06-03", "2020-01-01T00:00Z", "2026-06-03", "2026-06-03"),
    ],
)
def test_period_has_these_days(text: str, now: str, first: str, last: str) -> None:
    """Names, months and days mean whole days; months know their ends."""
    period = parse_period(text, ZoneInfo("UTC"), now_ms(now))

    assert (date.fromisoformat(first), date.fromisoformat(last)) == (period.first, period.last)


@pytest.mark.parametrize(
    ("zone", "day"),
    [("Asia/Tokyo", "2026-07-01"), ("America/Los_Angeles", "2026-06-30"), ("UTC", "2026-06-30")],
)
def test_today_is_that_of_the_zone(zone: str, day: str) -> None:
    """The same instant is another day elsewhere."""
    period = parse_period("today", ZoneInfo(zone), now_ms("2026-06-30T16:00Z"))

    assert date.fromisoformat(day) == period.first


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026",
        "2026-6",
        "2026-13",
        "2026-00",
        "2026-02-29",
        "20260603",
        "2026-06-03T00",
        "next-month",
        "0000-01",
        "9999-12",
    ],
)
def test_other_texts_are_refused(text: str) -> None:
    """What is no period is never read as one."""
    with pytest.raises(ValueError, match=r"day|month|year"):
        parse_period(text, ZoneInfo("UTC"), 0)


@pytest.mark.parametrize(
    ("zone", "day", "start", "hours"),
    [
        ("Europe/Berlin", "2026-03-29", "2026-03-28T23:00+00:00", 23),
        ("Europe/Berlin", "2026-10-25", "2026-10-24T22:00+00:00", 25),
        ("America/New_York", "2026-03-08", "2026-03-08T05:00+00:00", 23),
        # Clocks jump over midnight: the day begins at 01:00 local time.
        ("America/Sao_Paulo", "2018-11-04", "2018-11-04T03:00+00:00", 23),
        ("Africa/Cairo", "2026-04-24", "2026-04-23T22:00+00:00", 23),
        # Clocks go from 24:00 back to 23:00: the day before has 25 hours, this one 24.
        ("America/Sao_Paulo", "2018-02-18", "2018-02-18T03:00+00:00", 24),
        ("America/Sao_Paulo", "2018-02-17", "2018-02-17T02:00+00:00", 25),
        # From 00:00:01 back to 23:01 the evening before, as St. John's did: the first midnight counts.
        ("America/St_Johns", "2006-10-29", "2006-10-29T02:30+00:00", 25),
        ("Asia/Kolkata", "2026-06-03", "2026-06-02T18:30+00:00", 24),
    ],
)
def test_days_end_where_the_next_begins(zone: str, day: str, start: str, hours: int) -> None:
    """A day with a change of clocks begins at its first instant and has 23 or 25 hours."""
    period = parse_period(day, ZoneInfo(zone), 0)

    assert datetime.fromisoformat(start) == period.start_time
    assert timedelta(hours=hours) == period.end_time - period.start_time


def test_a_jump_that_skips_half_past_midnight_starts_at_the_jump() -> None:
    """Toronto went from 23:30 to 00:30 on 30 March 1919: the next day began with the jump."""
    start = day_start(date(1919, 3, 31), ZoneInfo("America/Toronto"))

    assert start == datetime(1919, 3, 31, 4, 30, tzinfo=UTC)


@given(day=st.dates(date(1975, 1, 1), date(2037, 1, 1)), zone=st.sampled_from(ZONES))
def test_first_instant_is_in_the_day_and_the_one_before_is_not(day: date, zone: str) -> None:
    """The first instant of a day has its date, and a microsecond earlier it was not yet that day."""
    info = ZoneInfo(zone)
    start = day_start(day, info)
    if zone == "Pacific/Apia" and day == date(2011, 12, 30):
        return

    assert start.astimezone(info).date() == day
    assert (start - timedelta(microseconds=1)).astimezone(info).date() < day


def test_days_of_a_period_include_both_ends() -> None:
    """From the first of June to the thirtieth are thirty days."""
    period = Period(date(2026, 6, 1), date(2026, 6, 30), ZoneInfo("UTC"))

    assert len(period.days) == 30
    assert (period.first, period.last) == (period.days[0], period.days[-1])


def test_parse_day_takes_one_form_only() -> None:
    """Other forms of ISO 8601 are refused, because people mistype them."""
    assert parse_day("2026-06-03") == date(2026, 6, 3)
    with pytest.raises(ValueError, match="no day"):
        parse_day("2026-W23-3")


@pytest.mark.parametrize(
    ("first", "last", "before", "a_year_before"),
    [
        ("2026-06-01", "2026-06-30", ("2026-05-01", "2026-05-31"), ("2025-06-01", "2025-06-30")),
        ("2026-01-01", "2026-01-31", ("2025-12-01", "2025-12-31"), ("2025-01-01", "2025-01-31")),
        ("2026-01-01", "2026-03-31", ("2025-10-01", "2025-12-31"), ("2025-01-01", "2025-03-31")),
        ("2024-02-01", "2024-02-29", ("2024-01-01", "2024-01-31"), ("2023-02-01", "2023-02-28")),
        ("2025-02-01", "2025-02-28", ("2025-01-01", "2025-01-31"), ("2024-02-01", "2024-02-29")),
        ("2026-06-03", "2026-06-03", ("2026-06-02", "2026-06-02"), ("2025-06-03", "2025-06-03")),
        ("2026-06-08", "2026-06-14", ("2026-06-01", "2026-06-07"), ("2025-06-08", "2025-06-14")),
    ],
)
def test_periods_to_compare_with(
    first: str, last: str, before: tuple[str, str], a_year_before: tuple[str, str]
) -> None:
    """Before whole months are as many whole months, before days as many days; a year before, months stay whole."""
    period = Period(parse_day(first), parse_day(last), ZoneInfo("UTC"))

    for found, expected in ((period.before(), before), (period.a_year_before(), a_year_before)):
        assert (found.first.isoformat(), found.last.isoformat()) == expected
