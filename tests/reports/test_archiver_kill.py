# SPDX-License-Identifier: Apache-2.0
"""The archiver loses nothing and repeats nothing, wherever it is stopped."""

import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
from reports.conftest import LedgerFixture
from reports.faults import FaultyDirectory, FaultyEngine, KilledError, Steps
from reports.ledger_checks import archived_rows, assert_no_leftovers, expected_rows
from reports.ledger_entries import DAY_US, JUNE_US, Entry, varied_entries

from taximeter_server import ledger_month, ledger_rollup
from taximeter_server.archiver import Archiver, ArchiveResult
from taximeter_server.ledger_merge import FileMerger
from taximeter_server.ledger_rollup import QUIET_MS
from taximeter_server.report_query import ReportQuery

HERE = Path(__file__).parent
ALL_TIME = ReportQuery(JUNE_US, JUNE_US + 20 * DAY_US, group_by=("tenant", "model"))


class Sizes(NamedTuple):
    """From where on the archiver sums; large for never."""

    roll_up_rows_min: int = 10**9
    rollup_count_max: int = 2
    fresh_rollups_min: int = 10**9


def few_entries(seed: int, *, days: int = 1) -> Iterator[Entry]:
    """Yield four entries in two partitions."""
    for number, entry in enumerate(varied_entries(4, seed=seed, days=days)):
        yield replace(entry, tenant=("acme", "globex")[number % 2])


def first_run(_ledger: LedgerFixture) -> None:
    """Leave the folder empty."""


def run_with_everything(ledger: LedgerFixture) -> None:
    """Prepare a run that archives, merges eight small files, and removes those merged before."""
    archiver = ledger.archiver(grace_ms=1_000)
    for seed in range(8):
        ledger.record(few_entries(seed))
        archiver.run_once()
    assert ledger.directory.read_manifest().obsolete_files
    for seed in range(10, 16):
        ledger.record(few_entries(seed))
        archiver.run_once()
    ledger.now_ms += 2_000


def run_with_rollups(ledger: LedgerFixture) -> None:
    """Prepare a run that rolls up new files and merges their rollup with those before."""
    archiver = ledger.archiver(grace_ms=1_000)
    for seed in range(8):
        ledger.record(few_entries(seed))
        archiver.run_once()
        # Long enough that little is left for the last run to remove: each removal is a step.
        ledger.now_ms += 600
    manifest = ledger.directory.read_manifest()
    assert manifest.rollups
    assert manifest.obsolete_files
    ledger.now_ms += 2_000


def run_with_months(ledger: LedgerFixture) -> None:
    """Prepare a run that makes a month again, which has more to sum now, and removes one made before."""
    archiver = ledger.archiver(grace_ms=1_000)
    for seed in range(2):
        ledger.record(few_entries(seed, days=2))
        archiver.run_once()
    (month,) = ledger.directory.read_manifest().months
    assert month.date_count == 2
    ledger.now_ms += 2_000


def run_until(ledger: LedgerFixture, stop_at: int | None) -> tuple[int, ArchiveResult] | None:
    """Run a new archiver up to a step. Returns the number of steps and the result when it came to its end."""
    steps = Steps(stop_at)
    archiver = Archiver(
        FaultyEngine(ledger.engine, steps),
        FaultyDirectory(ledger.directory.path, steps),
        merger=FileMerger(temporary_directory=ledger.temporary),
        clock=lambda: ledger.now_ms,
        grace_ms=1_000,
    )
    try:
        result = archiver.run_once()
    except KilledError:
        return None
    return steps.count, result


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("prepare", "sizes", "result"),
    [
        (first_run, Sizes(), ArchiveResult(entry_count=4, file_count=2)),
        (
            run_with_everything,
            Sizes(),
            ArchiveResult(4, file_count=2, merged_file_count=8, removed_file_count=8),
        ),
        (
            run_with_months,
            Sizes(roll_up_rows_min=1, rollup_count_max=9, fresh_rollups_min=1),
            ArchiveResult(4, file_count=2, removed_file_count=2),
        ),
        (
            run_with_rollups,
            Sizes(roll_up_rows_min=6),
            ArchiveResult(4, file_count=2, merged_file_count=8, removed_file_count=12),
        ),
    ],
)
def test_a_kill_at_any_step_loses_and_repeats_nothing(
    make_ledger: Callable[[], LedgerFixture],
    monkeypatch: pytest.MonkeyPatch,
    prepare: Callable[[LedgerFixture], None],
    sizes: Sizes,
    result: ArchiveResult,
) -> None:
    """Stopped at any step, reports stay right, and the next run brings everything to its end without leftovers."""
    monkeypatch.setattr(ledger_rollup, "ROLL_UP_ROWS_MIN", sizes.roll_up_rows_min)
    monkeypatch.setattr(ledger_rollup, "ROLLUP_COUNT_MAX", sizes.rollup_count_max)
    monkeypatch.setattr(ledger_month, "FRESH_ROLLUPS_MIN", sizes.fresh_rollups_min)
    # Nothing is too young for a month.
    monkeypatch.setattr(ledger_month, "QUIET_MS", -QUIET_MS)
    prepared = make_ledger()
    prepare(prepared)

    def ready() -> LedgerFixture:
        ledger = make_ledger()
        shutil.copytree(prepared.directory.path, ledger.directory.path, dirs_exist_ok=True)
        ledger.entries, ledger.now_ms = list(prepared.entries), prepared.now_ms
        ledger.record(few_entries(20, days=2))
        return ledger

    outcome = run_until(ready(), None)
    assert outcome is not None
    assert outcome[1] == result
    assert outcome[0] > 10

    for stop_at in range(outcome[0]):
        ledger = ready()
        assert run_until(ledger, stop_at) is None
        expected = sum(entry.calls for entry in ledger.entries)
        reporter = ledger.reporter()
        assert reporter.report(ALL_TIME).total.calls == expected, f"after step {stop_at}"

        ledger.archiver(grace_ms=1_000).run_once()

        assert archived_rows(ledger.directory) == expected_rows(ledger), f"after step {stop_at}"
        assert ledger.engine.ledger_length() == 0, f"after step {stop_at}"
        assert_no_leftovers(ledger.directory)
        assert reporter.report(ALL_TIME).total.calls == expected


@pytest.mark.timeout(180)
def test_sigkill_at_random_loses_and_repeats_nothing(
    ledger: LedgerFixture, store_url: str, tmp_path: Path
) -> None:
    """A process killed again and again while it archives and merges ends with every entry once."""
    chance = random.Random(7)
    command = [sys.executable, str(HERE / "archive_forever.py")]
    command += [store_url, str(ledger.directory.path), str(ledger.temporary), str(tmp_path / "journal")]
    search_path = ":".join([*sys.path, str(HERE.parent)])
    for kill in range(12):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, env={"PYTHONPATH": search_path})
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        for part in range(chance.randrange(1, 4)):
            ledger.record(varied_entries(200, seed=100 * kill + part, days=2))
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(chance.random() / 4)
        process.kill()
        process.wait()
        process.stdout.close()
        report = ledger.reporter().report(ALL_TIME)
        assert report.total.calls == sum(entry.calls for entry in ledger.entries)

    ledger.archiver().run_once()

    assert archived_rows(ledger.directory) == expected_rows(ledger)
    assert_no_leftovers(ledger.directory)
