# SPDX-License-Identifier: Apache-2.0
"""A month in one file changes how fast a report is, never what it says, whatever comes late or is corrected."""

import random
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest
from reports.conftest import LedgerFixture
from reports.ledger_checks import assert_no_leftovers
from reports.ledger_entries import DAY_US, JUNE_US, varied_entries, void_of
from reports.oracle import expected_report
from reports.test_report_exact import plain, random_query

from taximeter_server import ledger_month, ledger_rollup, report_sources
from taximeter_server.archiver import GRACE_MS
from taximeter_server.ledger_manifest import Manifest
from taximeter_server.ledger_rollup import HOUR_US, QUIET_MS
from taximeter_server.report_query import ReportQuery

JUNE_DAYS, DAYS = 8, 14
START_US = JUNE_US + (30 - JUNE_DAYS) * DAY_US
"""All has occurred on the last days of June and the first ones of July: few, because each is archived apart."""
ALL_TIME = ReportQuery(START_US, START_US + DAYS * DAY_US)
JUNE = ReportQuery(JUNE_US, START_US + JUNE_DAYS * DAY_US)


class Clock:
    """The clock of stream ids, which a test sets ahead while the archiver runs."""

    def __init__(self, ledger: LedgerFixture, monkeypatch: pytest.MonkeyPatch) -> None:
        self._ledger = ledger
        self._monkeypatch = monkeypatch

    def archive_later(self) -> None:
        """Archive when all that has come by now is quiet."""
        self.archive_at(self._ledger.engine.store_time_ms() + QUIET_MS + 60_000)

    def archive_at(self, now_ms: int) -> None:
        """Archive at a time."""
        with self._monkeypatch.context() as patch:
            patch.setattr(self._ledger.engine, "store_time_ms", lambda: now_ms)
            self._ledger.archiver().run_once()


@pytest.fixture
def clock(ledger: LedgerFixture, monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The ledger's clock. Rollups are read however few rows they stand for."""
    monkeypatch.setattr(report_sources, "_WORTH_ROWS", 0)
    return Clock(ledger, monkeypatch)


def fill(ledger: LedgerFixture, clock: Clock) -> Manifest:
    """Have both months in files, and nothing else."""
    entries = list(varied_entries(300, seed=1, days=DAYS, start_us=START_US))
    ledger.record([*entries, *map(void_of, entries[::9])])
    clock.archive_later()
    manifest = ledger.directory.read_manifest()
    assert {month.path.split("/")[1] for month in manifest.months} == {"month=2026-06", "month=2026-07"}
    assert {rollup.month for rollup in manifest.rollups} == {month.path for month in manifest.months}
    return manifest


def come_late(ledger: LedgerFixture, *, seed: int, day: int) -> None:
    """Record of one day, and take back some of what was recorded of it before."""
    start_us = START_US + day * DAY_US
    old = [one for one in ledger.entries if one.kind == 0 and 0 <= one.occur_time_us - start_us < DAY_US]
    ledger.record([*varied_entries(3, seed=seed, days=1, start_us=start_us), *map(void_of, old[:1])])


def remove(ledger: LedgerFixture, paths: set[str]) -> None:
    """Lose files that a report has no need of."""
    for path in paths:
        (ledger.directory.path / path).unlink()


def test_random_queries_over_months_equal_the_oracle(
    ledger: LedgerFixture, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole months, some whose dates were rolled up again, months made again, and late records beside them."""
    monkeypatch.setattr(ledger_rollup, "ROLL_UP_ROWS_MIN", 4)
    monkeypatch.setattr(ledger_rollup, "ROLLUP_COUNT_MAX", 2)
    monkeypatch.setattr(ledger_rollup, "ROLLUP_ROWS_MAX", 50)
    fill(ledger, clock)
    reporter, chance = ledger.reporter(), random.Random(3)
    struck_counts, fresh_counts = set[int](), set[int]()
    for step in range(12):
        for number in range(chance.randrange(1, 5)):
            come_late(ledger, seed=100 * step + number, day=chance.randrange(DAYS))
        if chance.random() < 0.8:
            ledger.archiver().run_once()
        if chance.random() < 0.4:
            clock.archive_later()
        manifest = ledger.directory.read_manifest()
        named = {rollup.folder for rollup in manifest.rollups if rollup.month}
        struck_counts.add(sum(month.date_count for month in manifest.months) - len(named))
        fresh_counts.add(sum(rollup.month is None for rollup in manifest.rollups))
        for _ in range(8):
            query, arguments = random_query(chance)
            edges = sorted(chance.sample(range(DAYS + 1), 2))
            if chance.random() < 0.5:
                edges = chance.choice(([0, JUNE_DAYS], [JUNE_DAYS, DAYS], [0, DAYS]))
            start_us, end_us = (START_US + edge * DAY_US for edge in edges)
            query = replace(query, start_time_us=start_us, end_time_us=end_us)
            arguments |= {"start_us": start_us, "end_us": end_us}
            expected = expected_report(ledger.entries, **arguments)  # type: ignore[arg-type]
            page = reporter.report(query, page_size=10_000)
            assert {row.group: plain(row.measures) for row in page.rows} == expected, query
    # Otherwise this has tried nothing.
    assert len(struck_counts) > 2, struck_counts
    assert len(fresh_counts) > 3, fresh_counts


@pytest.mark.parametrize(
    ("group_by", "tenant", "query"),
    [
        (("root_tenant",), "", ALL_TIME),
        (("month", "model", "provider", "tier"), "", ALL_TIME),
        ((), "", JUNE),
        (("day", "tenant", "model"), "acme", ALL_TIME),
        (("week", "usage_class"), "", JUNE),
        (("model",), "", replace(ALL_TIME, start_time_us=START_US + DAY_US)),
        (("hour", "model"), "", replace(ALL_TIME, time_zone="Europe/Berlin")),
        (("day",), "", replace(JUNE, time_zone="America/New_York", end_time_us=JUNE.end_time_us - HOUR_US)),
    ],
)
def test_a_report_about_a_month_reads_the_month_alone(
    ledger: LedgerFixture, clock: Clock, group_by: tuple[str, ...], tenant: str, query: ReportQuery
) -> None:
    """Neither what the months have summed is read again, nor what that was made of."""
    manifest = fill(ledger, clock)
    query = replace(query, group_by=group_by, tenant=tenant)
    before = ledger.reporter().report(query)
    remove(ledger, {file.path for file in manifest.files})
    remove(ledger, {path for rollup in manifest.rollups for path in rollup.sizes_bytes})

    assert ledger.reporter().report(query).rows == before.rows
    assert before.total.calls


def test_a_tenant_is_read_from_the_month_however_few_rows_it_spares(
    ledger: LedgerFixture, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where hardly two records are of one group, all tenants are read from the records, and one from the month."""
    manifest = fill(ledger, clock)
    monkeypatch.setattr(report_sources, "_WORTH_ROWS", 10**6)
    everybody = replace(ALL_TIME, group_by=("day", "model"))
    one = replace(everybody, tenant="acme")
    before = ledger.reporter().report(one)
    remove(ledger, {file.path for file in manifest.files})

    assert ledger.reporter().report(one).rows == before.rows
    with pytest.raises(duckdb.IOException):
        ledger.reporter().report(everybody)


def test_a_day_of_a_month_is_read_alone(ledger: LedgerFixture, clock: Clock) -> None:
    """Few days are read from their own files rather than out of a whole month."""
    manifest = fill(ledger, clock)
    query = replace(ALL_TIME, end_time_us=START_US + 3 * DAY_US, group_by=("day", "tenant"))
    before = ledger.reporter().report(query)
    remove(ledger, {path for month in manifest.months for path in month.sizes_bytes})

    assert ledger.reporter().report(query).rows == before.rows


def test_late_records_leave_the_rest_of_a_month_as_it_is(ledger: LedgerFixture, clock: Clock) -> None:
    """A date that is rolled up again is read from its own rollup, the others from the month."""
    manifest = fill(ledger, clock)
    come_late(ledger, seed=7, day=5)
    ledger.archiver().run_once()
    now_ms = max(file.stream_ms_max for file in ledger.directory.read_manifest().files) + QUIET_MS + 1
    time.sleep(0.01)
    come_late(ledger, seed=8, day=6)
    clock.archive_at(now_ms)
    changed = ledger.directory.read_manifest()
    assert [month.path for month in changed.months] == [month.path for month in manifest.months]
    assert {one.folder for one in changed.rollups if one.month is None} == {"date=2026-06-28"}
    remove(ledger, {path for one in changed.rollups if one.month for path in one.sizes_bytes})
    expected = expected_report(
        ledger.entries, start_us=JUNE.start_time_us, end_us=JUNE.end_time_us, group_by=("tenant",)
    )

    page = ledger.reporter().report(replace(JUNE, group_by=("tenant",)))

    assert {row.group: plain(row.measures) for row in page.rows} == expected


def test_the_same_as_of_gives_the_same_report_over_other_months(ledger: LedgerFixture, clock: Clock) -> None:
    """What came after a report is in the month now, and the report is still the same."""
    fill(ledger, clock)
    query = replace(ALL_TIME, group_by=("tenant", "model"))
    first = ledger.reporter().report(query, page_size=10_000)
    for day in (3, 4, 9):
        come_late(ledger, seed=day, day=day)
    clock.archive_later()
    assert all(rollup.month for rollup in ledger.directory.read_manifest().rollups)

    again = ledger.reporter().report(replace(query, as_of=first.as_of), page_size=10_000)
    now = ledger.reporter().report(query, page_size=10_000)

    assert (again.rows, again.total) == (first.rows, first.total)
    assert now.total != first.total


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"PAR1")])
@pytest.mark.parametrize("part", ["path", "month_path"])
def test_a_lost_month_is_made_again(
    ledger: LedgerFixture, clock: Clock, damage: Callable[[Path], None], part: str
) -> None:
    """Without its months a ledger is whole: reports read what they were made of, and the next start makes new ones."""
    manifest = fill(ledger, clock)
    group_by = ("day",) if part == "path" else ()
    query = replace(ALL_TIME, group_by=(*group_by, "tenant"))
    before = ledger.reporter().report(query, page_size=10_000)
    for month in manifest.months:
        damage(ledger.directory.path / getattr(month, part))
    assert ledger.reporter().report(query, page_size=10_000).rows == before.rows

    clock.archive_later()

    made = ledger.directory.read_manifest()
    assert len(made.months) == 2
    assert not {month.path for month in made.months} & {month.path for month in manifest.months}
    assert_no_leftovers(ledger.directory)
    remove(ledger, {path for rollup in made.rollups for path in rollup.sizes_bytes})
    remove(ledger, {file.path for file in made.files})
    assert ledger.reporter().report(query, page_size=10_000).rows == before.rows


def test_a_month_that_is_not_over_is_made_of_several_dates_at_once(
    ledger: LedgerFixture, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the files that a report of the current month opens stay few, and the month is not written every day."""
    monkeypatch.setattr(ledger_month, "_end_ms", lambda _month: 2**62)
    monkeypatch.setattr(ledger_month, "FRESH_ROLLUPS_MIN", 3)
    fresh = []
    for day in range(JUNE_DAYS):
        ledger.record(varied_entries(4, seed=day, days=1, start_us=START_US + day * DAY_US))
        clock.archive_later()
        fresh.append(sum(one.month is None for one in ledger.directory.read_manifest().rollups))
    ledger.now_ms += GRACE_MS
    ledger.archiver().run_once()

    assert fresh == [1, 2, 0, 1, 2, 0, 1, 2]
    assert len(ledger.directory.read_manifest().months) == 1
    assert_no_leftovers(ledger.directory)
