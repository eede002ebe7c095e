# SPDX-License-Identifier: Apache-2.0
"""Rollups change how fast a report is, never what it says; and they are made again when they are lost."""

import contextlib
import random
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest
from reports.conftest import LedgerFixture
from reports.ledger_checks import assert_no_leftovers
from reports.ledger_entries import DAY_US, JUNE_US, Entry, Line, varied_entries, void_of
from reports.oracle import expected_report
from reports.test_report_exact import plain, random_query

from taximeter_server import ledger_rollup, report_sources
from taximeter_server.ledger_rollup import HOUR_US, QUIET_MS
from taximeter_server.report_query import ReportQuery

ALL_TIME = ReportQuery(JUNE_US, JUNE_US + 6 * DAY_US)


@pytest.fixture(autouse=True)
def roll_up_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make rollups of few rows, and merge few of them."""
    monkeypatch.setattr(ledger_rollup, "ROLL_UP_ROWS_MIN", 40)
    monkeypatch.setattr(ledger_rollup, "ROLLUP_COUNT_MAX", 3)
    # However few rows a row of a rollup stands for: entries here differ in everything.
    monkeypatch.setattr(report_sources, "_WORTH_ROWS", 0)


def fill(ledger: LedgerFixture, *, runs: int = 4, days: int = 6, start_us: int = JUNE_US) -> None:
    """Archive in several runs, so that there are rollups, merged rollups, files without one, and a tail."""
    archiver = ledger.archiver()
    for seed, count in enumerate([100] * runs + [10]):
        entries = list(varied_entries(count, seed=seed, days=days, start_us=start_us))
        ledger.record([*entries, *map(void_of, entries[::7])])
        archiver.run_once()
    ledger.record(varied_entries(30, seed=99, days=days, start_us=start_us))
    manifest = ledger.directory.read_manifest()
    rolled_up = {file.rollup for file in manifest.files}
    assert {None} < rolled_up
    assert {rollup.path for rollup in manifest.rollups} == rolled_up - {None}


def remove_rolled_up_files(ledger: LedgerFixture) -> None:
    """Leave of the files only those that have no rollup."""
    for file in ledger.directory.read_manifest().files:
        if file.rollup is not None:
            (ledger.directory.path / file.path).unlink()


def test_random_queries_over_rollups_equal_the_oracle(ledger: LedgerFixture) -> None:
    """Whatever mix of rollups, files and tail a query needs, its groups and sums are those of its entries."""
    fill(ledger)
    reporter = ledger.reporter()
    chance = random.Random(5)
    for _ in range(50):
        query, arguments = random_query(chance)
        unit_us = chance.choice((DAY_US, HOUR_US, HOUR_US, 1))
        start_us, end_us = query.start_time_us // unit_us * unit_us, query.end_time_us // unit_us * unit_us
        query = replace(query, start_time_us=start_us, end_time_us=end_us)
        expected = expected_report(ledger.entries, **(arguments | {"start_us": start_us, "end_us": end_us}))  # type: ignore[arg-type]
        page = reporter.report(query, page_size=10_000)
        assert {row.group: plain(row.measures) for row in page.rows} == expected, query


@pytest.mark.parametrize(
    ("group_by", "time_zone", "tenant"),
    [
        (("tenant",), "UTC", ""),
        (("root_tenant", "month"), "UTC", "acme"),
        (("hour", "model", "provider"), "Europe/Berlin", ""),
        (("day", "rate_card_id", "usage_class", "tier", "region", "speed"), "America/New_York", "acme"),
        ((), "Asia/Kolkata", ""),
        (("attributes.team", "attributes.n", "usage_class", "week"), "UTC", ""),
    ],
)
def test_what_is_rolled_up_is_not_read_again(
    ledger: LedgerFixture, group_by: tuple[str, ...], time_zone: str, tenant: str
) -> None:
    """A report of whole hours does not open the files that a rollup has summed."""
    fill(ledger)
    reporter = ledger.reporter()
    query = replace(ALL_TIME, group_by=group_by, time_zone=time_zone, tenant=tenant)
    before = reporter.report(query, page_size=10_000)
    remove_rolled_up_files(ledger)

    assert reporter.report(query, page_size=10_000).rows == before.rows


@pytest.mark.parametrize(
    ("time_zone", "first_day", "has_whole_hours"),
    [
        ("Europe/Berlin", "2026-03-28", True),
        ("Europe/Berlin", "2026-10-24", True),
        ("America/New_York", "2026-11-01", True),
        ("Pacific/Apia", "2011-12-29", True),
        ("Asia/Kolkata", "2026-06-01", False),
        ("Australia/Lord_Howe", "2026-04-04", False),
    ],
)
def test_days_of_a_zone_are_made_of_hours(
    ledger: LedgerFixture, time_zone: str, first_day: str, *, has_whole_hours: bool
) -> None:
    """Whatever clocks do meanwhile, and though they skip a day, groups and sums of a zone are those of its entries.

    Where each change and offset is of whole hours, they are made of the rows of all tenants together alone.
    """
    start_us = int(datetime.fromisoformat(first_day).replace(tzinfo=UTC).timestamp()) * 1_000_000
    fill(ledger, runs=2, days=3, start_us=start_us)
    reporter, chance = ledger.reporter(), random.Random(7)
    for _ in range(12):
        times = chance.sample(("hour", "day", "week", "month"), chance.choice((1, 1, 2)))
        others = chance.sample(
            ("model", "usage_class", "root_tenant", "attributes.team"), chance.choice((0, 1, 2))
        )
        edges = sorted(chance.sample(range(3 * 24 + 1), 2))
        query = ReportQuery(
            start_us + edges[0] * HOUR_US,
            start_us + edges[1] * HOUR_US,
            group_by=(*times, *others),
            time_zone=time_zone,
            tenant=chance.choice(("", "", "acme")),
        )
        expected = expected_report(
            ledger.entries,
            start_us=query.start_time_us,
            end_us=query.end_time_us,
            tenant=query.tenant,
            group_by=query.group_by,
            time_zone=time_zone,
        )
        page = reporter.report(query, page_size=10_000)
        assert {row.group: plain(row.measures) for row in page.rows} == expected, query
    query = ReportQuery(start_us, start_us + 3 * DAY_US, group_by=("day", "model"), time_zone=time_zone)
    before = reporter.report(query)
    remove_rolled_up_files(ledger)
    for rollup in ledger.directory.read_manifest().rollups:
        (ledger.directory.path / rollup.path).unlink()

    with contextlib.nullcontext() if has_whole_hours else pytest.raises(duckdb.IOException):
        assert reporter.report(query).rows == before.rows


def test_edges_within_an_hour_read_only_the_files_of_the_edges(ledger: LedgerFixture) -> None:
    """An interval that begins and ends within an hour takes the hours between from rollups."""
    fill(ledger)
    query = replace(
        ALL_TIME, start_time_us=JUNE_US + 1, end_time_us=JUNE_US + 5 * DAY_US + 1, group_by=("model",)
    )
    expected = expected_report(
        ledger.entries, start_us=query.start_time_us, end_us=query.end_time_us, group_by=("model",)
    )
    for file in ledger.directory.read_manifest().files:
        if file.rollup is not None and file.folder not in {"date=2026-06-01", "date=2026-06-06"}:
            (ledger.directory.path / file.path).unlink()

    page = ledger.reporter().report(query)

    assert {row.group: plain(row.measures) for row in page.rows} == expected


def test_sums_above_64_bits_are_rolled_up_exactly(ledger: LedgerFixture) -> None:
    """A rollup holds sums that no 64-bit integer does, and negative ones."""
    most = 2**63 - 1
    ledger.record([Entry(lines=(Line("output", 1, most),)) for _ in range(60)])
    ledger.archiver().run_once()
    ledger.record([Entry(model="gpt-5", lines=(Line("output", 1, -7),)) for _ in range(60)])
    ledger.archiver().run_once()
    remove_rolled_up_files(ledger)

    rows = ledger.reporter().report(replace(ALL_TIME, group_by=("model",))).rows

    assert [row.measures.cost_picos for row in rows] == [60 * most, -420]


def test_rollups_of_a_date_become_few(ledger: LedgerFixture) -> None:
    """However often a date is rolled up, it has fewer rollups than are merged at once, and no leftovers."""
    archiver = ledger.archiver(grace_ms=0)
    for seed in range(20):
        ledger.record(varied_entries(40, seed=seed, days=1))
        archiver.run_once()
    manifest = ledger.directory.read_manifest()

    assert 1 <= len(manifest.rollups) < 3
    assert_no_leftovers(ledger.directory)


def test_a_date_that_went_quiet_is_rolled_up_whole(
    ledger: LedgerFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An hour after the last entry of a date came, one rollup has all of it."""
    ledger.record(varied_entries(30, seed=1, days=2))
    archiver = ledger.archiver()
    archiver.run_once()
    later_ms = ledger.engine.store_time_ms() + QUIET_MS + 60_000
    monkeypatch.setattr(ledger.engine, "store_time_ms", lambda: later_ms)
    archiver.run_once()

    manifest = ledger.directory.read_manifest()
    assert [rollup.folder for rollup in manifest.rollups] == ["date=2026-06-01", "date=2026-06-02"]
    assert all(file.rollup is not None for file in manifest.files)


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"PAR1")])
@pytest.mark.parametrize("part", ["path", "days_path"])
def test_a_lost_rollup_is_made_again(
    ledger: LedgerFixture, damage: Callable[[Path], None], part: str
) -> None:
    """Without its rollups the ledger is whole: reports read the files, and the next start makes new rollups."""
    fill(ledger)
    reporter = ledger.reporter()
    query = replace(ALL_TIME, group_by=("tenant", "day"))
    before = reporter.report(query, page_size=10_000)
    for rollup in ledger.directory.read_manifest().rollups:
        damage(ledger.directory.path / getattr(rollup, part))
    assert reporter.report(query, page_size=10_000).rows == before.rows

    ledger.archiver().run_once()

    assert ledger.directory.read_manifest().rollups
    assert_no_leftovers(ledger.directory)
    remove_rolled_up_files(ledger)
    assert reporter.report(query, page_size=10_000).rows == before.rows


def test_a_rollup_that_sums_nothing_up_is_not_read(
    ledger: LedgerFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where each record has an hour of its own, reports by the hour read the records; by the day they do not."""
    monkeypatch.setattr(report_sources, "_WORTH_ROWS", 2)
    ledger.record(
        Entry(model=f"model-{number % 20}", occur_time_us=JUNE_US + number * HOUR_US // 3)
        for number in range(60)
    )
    ledger.archiver().run_once()
    for rollup in ledger.directory.read_manifest().rollups:
        counts = (
            rollup.row_count,
            rollup.day_row_count,
            rollup.tenant_day_row_count,
            rollup.together_row_count,
        )
        assert counts == (60, 20, 1, 60)
    reporter = ledger.reporter()
    by_hour = replace(ALL_TIME, group_by=("hour",))
    assert len(reporter.report(by_hour).rows) == 20
    remove_rolled_up_files(ledger)

    for group_by, row_count in ((("tenant",), 1), (("day", "model"), 20)):
        rows = reporter.report(replace(ALL_TIME, group_by=group_by)).rows
        assert (len(rows), sum(row.measures.calls for row in rows)) == (row_count, 60)
    with pytest.raises(duckdb.IOException):
        reporter.report(by_hour)
