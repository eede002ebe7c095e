# SPDX-License-Identifier: Apache-2.0
"""Groups by time, in any zone, and by attributes; values are values, whatever they contain."""

import datetime as dt
import zoneinfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reports.conftest import LedgerFixture
from reports.ledger_entries import DAY_US, JUNE_US, Entry, at

from taximeter_server.report_query import ReportFilter, ReportQuery, ReportRow
from taximeter_server.report_time_zone import offset_changes

HOUR_US = 3_600_000_000
HOSTILE = "x'); DROP TABLE tail; --"


def time_us(text: str) -> int:
    """Return an ISO time as microseconds since 1970 UTC."""
    return (dt.datetime.fromisoformat(text) - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // (
        dt.timedelta(microseconds=1)
    )


def groups(rows: tuple[ReportRow, ...]) -> list[tuple[str | None, int]]:
    """Return the value of the only dimension and the calls of each row."""
    return [(row.group[0], row.measures.calls) for row in rows]


def test_the_night_the_clock_is_set_back_has_an_hour_twice(ledger: LedgerFixture) -> None:
    """Hours are told apart by their offset and stand in the order in which they were."""
    start_us = time_us("2026-10-24T22:00:00+00:00")
    ledger.record(at(Entry(), start_us + half_hour * HOUR_US // 2) for half_hour in range(12))
    query = ReportQuery(start_us, start_us + 6 * HOUR_US, group_by=("hour",), time_zone="Europe/Berlin")

    assert groups(ledger.reporter().report(query).rows) == [
        ("2026-10-25T00:00:00+02:00", 2),
        ("2026-10-25T01:00:00+02:00", 2),
        ("2026-10-25T02:00:00+02:00", 2),
        ("2026-10-25T02:00:00+01:00", 2),
        ("2026-10-25T03:00:00+01:00", 2),
        ("2026-10-25T04:00:00+01:00", 2),
    ]


def test_the_night_the_clock_is_set_forward_lacks_an_hour(ledger: LedgerFixture) -> None:
    """02:00 does not exist on that day; 01:59:59.999999 and 03:00 are neighbours."""
    change_us = time_us("2026-03-29T01:00:00+00:00")
    ledger.record([at(Entry(), change_us - 1), at(Entry(), change_us)])
    query = ReportQuery(change_us - DAY_US, change_us + DAY_US, group_by=("hour",), time_zone="Europe/Berlin")

    assert groups(ledger.reporter().report(query).rows) == [
        ("2026-03-29T01:00:00+01:00", 1),
        ("2026-03-29T03:00:00+02:00", 1),
    ]


def test_a_half_hour_change_of_the_clock(ledger: LedgerFixture) -> None:
    """On Lord Howe Island the clock moves by half an hour, so an hour has two halves with different offsets."""
    change_us = time_us("2026-04-04T15:00:00+00:00")
    ledger.record([at(Entry(), change_us - 1), at(Entry(), change_us), at(Entry(), change_us + HOUR_US // 2)])
    query = ReportQuery(
        change_us - DAY_US, change_us + DAY_US, group_by=("hour",), time_zone="Australia/Lord_Howe"
    )

    assert groups(ledger.reporter().report(query).rows) == [
        ("2026-04-05T01:00:00+11:00", 1),
        ("2026-04-05T01:00:00+10:30", 1),
        ("2026-04-05T02:00:00+10:30", 1),
    ]


@pytest.mark.parametrize(
    ("time_zone", "midnight"),
    [
        ("UTC", "2026-06-03T00:00:00+00:00"),
        ("Asia/Kolkata", "2026-06-03T00:00:00+05:30"),
        ("America/Los_Angeles", "2026-06-03T00:00:00-07:00"),
        ("Pacific/Kiritimati", "2026-06-03T00:00:00+14:00"),
    ],
)
def test_a_day_begins_at_local_midnight(ledger: LedgerFixture, time_zone: str, midnight: str) -> None:
    """The microsecond before local midnight is in the day before, midnight itself in the new one."""
    midnight_us = time_us(midnight)
    ledger.record(
        [at(Entry(), midnight_us - 1), at(Entry(), midnight_us), at(Entry(), midnight_us + DAY_US - 1)]
    )
    query = ReportQuery(
        midnight_us - DAY_US, midnight_us + 2 * DAY_US, group_by=("day",), time_zone=time_zone
    )
    reporter = ledger.reporter()

    for _ in ("tail", "files"):
        assert groups(reporter.report(query).rows) == [("2026-06-02", 1), ("2026-06-03", 2)]
        ledger.archiver().run_once()


def test_months_turn_with_the_local_year(ledger: LedgerFixture) -> None:
    """New Year's Eve in New York is still December there when UTC has January."""
    ledger.record(
        [at(Entry(), time_us("2027-01-01T04:59:59+00:00")), at(Entry(), time_us("2027-01-01T05:00:00+00:00"))]
    )
    query = ReportQuery(
        time_us("2026-12-01T00:00:00+00:00"),
        time_us("2027-02-01T00:00:00+00:00"),
        group_by=("month",),
        time_zone="America/New_York",
    )

    assert groups(ledger.reporter().report(query).rows) == [("2026-12", 1), ("2027-01", 1)]


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(sorted(zoneinfo.available_timezones())),
    st.integers(0, 4_000_000_000),
    st.integers(1, 400 * 86_400),
    st.data(),
)
def test_offsets_are_those_of_the_time_zone(
    name: str, start_s: int, length_s: int, data: st.DataObject
) -> None:
    """At any second of any interval the offset in force is that of the IANA time zone."""
    changes = offset_changes(name, start_s * 10**6, (start_s + length_s) * 10**6)
    edges_s = [change.start_time_us // 10**6 - back for change in changes for back in (0, 1)]
    candidates = [edge for edge in edges_s if start_s <= edge < start_s + length_s]
    second = data.draw(st.sampled_from(candidates) | st.integers(start_s, start_s + length_s - 1))

    in_force = [change.offset_s for change in changes if change.start_time_us <= second * 10**6][-1]

    local = dt.datetime.fromtimestamp(second, zoneinfo.ZoneInfo(name))
    assert dt.timedelta(seconds=in_force) == local.utcoffset()


def test_usage_without_an_attribute_is_the_first_group(ledger: LedgerFixture) -> None:
    """A missing attribute and an empty one are the same group, without a value, before all others."""
    for value, calls in (("b", 1), ("", 2), ("a", 4), ("Ä", 8), ("B", 16)):
        ledger.record([Entry(attributes={"team": value, "other": "z"}, calls=calls)])
    ledger.record([Entry(calls=32)])
    reporter = ledger.reporter()
    query = ReportQuery(JUNE_US, JUNE_US + DAY_US, group_by=("attributes.team",))

    for _ in ("tail", "files"):
        found = groups(reporter.report(query).rows)
        assert found == [(None, 34), ("B", 16), ("a", 4), ("b", 1), ("Ä", 8)]
        ledger.archiver().run_once()


def test_an_empty_filter_value_matches_usage_without_a_value(ledger: LedgerFixture) -> None:
    """An empty text in a filter is usage without a value, beside the values it lists."""
    for value, calls in (("a", 1), ("b", 2), ("", 4)):
        ledger.record([Entry(attributes={"team": value}, calls=calls)])
    ledger.record([Entry(calls=8)])
    reporter = ledger.reporter()

    def calls_with(*values: str) -> int:
        filters = (ReportFilter("attributes.team", values),)
        return reporter.report(ReportQuery(JUNE_US, JUNE_US + DAY_US, filters=filters)).total.calls

    assert calls_with("") == 12
    assert calls_with("a") == 1
    assert calls_with("a", "") == 13
    assert calls_with("absent") == 0


@pytest.mark.parametrize("value", [HOSTILE, "' OR '1'='1", '"', "$p0", "%", "\\", "${x}", "?", ";", "NULL"])
def test_values_are_never_part_of_a_statement(ledger: LedgerFixture, value: str) -> None:
    """A value that looks like SQL is grouped and filtered by as the text that it is."""
    ledger.record([Entry(model=value, attributes={"team": value}, calls=2), Entry()])
    reporter = ledger.reporter()
    for name in ("model", "attributes.team"):
        query = ReportQuery(
            JUNE_US, JUNE_US + DAY_US, group_by=(name,), filters=(ReportFilter(name, (value, "other")),)
        )
        assert groups(reporter.report(query).rows) == [(value, 2)]
    assert reporter.report(ReportQuery(JUNE_US, JUNE_US + DAY_US)).total.calls == 3
