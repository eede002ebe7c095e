# SPDX-License-Identifier: Apache-2.0
"""What the archiver puts into files, and when it refuses to go on."""

import stat
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from reports.conftest import LedgerFixture
from reports.ledger_checks import archived_rows, assert_no_leftovers, expected_rows
from reports.ledger_entries import DAY_US, JUNE_US, Entry, varied_entries

from taximeter_server.archiver import GRACE_MS, ArchiveResult
from taximeter_server.ledger import PARTITION_COUNT, SCHEMA, SORT_COLUMNS, partition_of, read_rows
from taximeter_server.ledger_manifest import LedgerCorruptError
from taximeter_server.ledger_merge import FileMerger
from taximeter_server.ledger_rows import rows_of_files
from taximeter_server.report_query import ReportQuery

ALL_TIME = ReportQuery(JUNE_US, JUNE_US + 20 * DAY_US, group_by=("tenant", "model"))


def test_everything_is_archived_once_and_then_trimmed(ledger: LedgerFixture) -> None:
    """A run moves every entry to a file of its UTC date, tells the engine, and empties the streams."""
    ledger.record(varied_entries(300, seed=1, days=3))

    result = ledger.archiver().run_once()

    assert result == ArchiveResult(entry_count=300, file_count=3)
    assert archived_rows(ledger.directory) == expected_rows(ledger)
    assert ledger.engine.ledger_length() == 0
    manifest = ledger.directory.read_manifest()
    assert [file.folder for file in manifest.files] == [
        "date=2026-06-01",
        "date=2026-06-02",
        "date=2026-06-03",
    ]
    for index, file in enumerate(manifest.files):
        day_us = JUNE_US + index * DAY_US
        assert day_us <= file.occur_time_us_min <= file.occur_time_us_max < day_us + DAY_US
    assert {partition: str(manifest.watermarks[partition]) for partition in ledger.engine.archived} == (
        ledger.engine.archived
    )
    assert set(ledger.engine.archived) == {partition_of(entry.tenant) for entry in ledger.entries}


def test_files_of_an_older_version_are_merged_with_newer_ones(tmp_path: Path) -> None:
    """A column that an older file lacks is null in its rows."""
    files = [str(tmp_path / name) for name in ("older.parquet", "newer.parquet")]
    place = {"partition": [1], "tenant": ["acme"], "stream_ms": [5], "stream_seq": [0]}
    pq.write_table(pa.table(place), files[0])
    pq.write_table(pa.table(place | {"stream_ms": [6], "list_cost_picos": [7]}), files[1])

    FileMerger(temporary_directory=tmp_path / "temporary").merge(files, tmp_path / "merged.parquet")

    merged = pq.read_table(tmp_path / "merged.parquet").select(["stream_ms", "list_cost_picos"])
    assert merged.to_pylist() == [
        {"stream_ms": 5, "list_cost_picos": None},
        {"stream_ms": 6, "list_cost_picos": 7},
    ]


def test_files_hold_what_the_engine_answered(ledger: LedgerFixture) -> None:
    """Every column survives the way through files and merging unchanged."""
    ledger.record(varied_entries(160, seed=1, days=1))
    ipc, _, _ = ledger.engine.read_to_archive(["0-0"] * PARTITION_COUNT, count_max=1_000)
    answered = read_rows(ipc).to_pylist()
    archiver = ledger.archiver(round_entries_max=20)
    assert archiver.run_once().merged_file_count == 8

    (file,) = ledger.directory.read_manifest().files

    rows = duckdb.sql(rows_of_files("$files"), params={"files": [ledger.directory.absolute(file.path)]})
    assert rows is not None
    kept = rows.to_arrow_table().cast(SCHEMA).to_pylist()
    key = lambda row: tuple(str(row[name]) for name in (*SORT_COLUMNS, "usage_class"))  # noqa: E731
    assert sorted(kept, key=key) == sorted(answered, key=key)
    assert [row["record_id"] for row in kept] == [row["record_id"] for row in answered]


def test_midnight_divides_dates(ledger: LedgerFixture) -> None:
    """The last microsecond of a UTC day and the first of the next are in files of different dates."""
    ledger.record([Entry(occur_time_us=JUNE_US - 1), Entry(occur_time_us=JUNE_US)])

    ledger.archiver().run_once()

    files = ledger.directory.read_manifest().files
    assert [(file.folder, file.row_count) for file in files] == [
        ("date=2026-05-31", 1),
        ("date=2026-06-01", 1),
    ]


def test_an_idle_run_writes_nothing(ledger: LedgerFixture) -> None:
    """Without new entries the manifest keeps its generation."""
    archiver = ledger.archiver()
    ledger.record([Entry()])
    archiver.run_once()
    generation = ledger.directory.read_manifest().generation

    assert archiver.run_once() == ArchiveResult()
    assert ledger.directory.read_manifest().generation == generation


def test_rounds_are_bounded_and_fair(ledger: LedgerFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """A partition with more than a round's entries does not keep the others out of it."""
    ledger.record([Entry(tenant="acme") for _ in range(50)] + [Entry(tenant="globex")])
    rounds: list[dict[int, int]] = []
    real_read = ledger.engine.read_to_archive

    def counting_read(after_ids: Sequence[str], *, count_max: int) -> tuple[bytes, list[str], int]:
        answer = real_read(after_ids, count_max=count_max)
        rounds.append(Counter(read_rows(answer[0])["partition"].to_pylist()))
        return answer

    monkeypatch.setattr(ledger.engine, "read_to_archive", counting_read)
    result = ledger.archiver(round_entries_max=10).run_once()

    assert result.entry_count == 51
    acme, globex = map(partition_of, ("acme", "globex"))
    assert rounds == [{acme: 9, globex: 1}, *[{acme: 10}] * 4, {acme: 1}]
    assert archived_rows(ledger.directory) == expected_rows(ledger)


def test_a_run_ends_also_when_more_arrives_than_it_archives(ledger: LedgerFixture) -> None:
    """A run does twenty rounds and says that there is more, so that merging and stopping have their turn."""
    ledger.record([Entry() for _ in range(45)])
    archiver = ledger.archiver(round_entries_max=2)

    result = archiver.run_once()

    assert (result.entry_count, result.has_more) == (40, True)
    assert result.merged_file_count == 16
    result = archiver.run_once()
    assert (result.entry_count, result.has_more) == (5, False)


def test_small_files_do_not_pile_up(ledger: LedgerFixture) -> None:
    """After many runs a date has few files, and the merged ones are gone once their grace is over."""
    archiver = ledger.archiver()
    for seed in range(70):
        ledger.record(varied_entries(2, seed=seed, days=1))
        ledger.now_ms += GRACE_MS // 10
        archiver.run_once()
    ledger.now_ms += GRACE_MS
    archiver.run_once()

    manifest = ledger.directory.read_manifest()
    assert len(manifest.files) < 8
    assert manifest.obsolete_files == ()
    assert_no_leftovers(ledger.directory)
    assert archived_rows(ledger.directory) == expected_rows(ledger)


def test_merged_files_stay_for_earlier_readers(ledger: LedgerFixture) -> None:
    """A reader that holds the manifest before a merge can still open all of its files until the grace is over."""
    archiver = ledger.archiver()
    for seed in range(7):
        ledger.record(varied_entries(2, seed=seed, days=1))
        archiver.run_once()
    earlier = ledger.directory.read_manifest()
    ledger.record(varied_entries(2, seed=8, days=1))
    assert archiver.run_once().merged_file_count == 8

    ledger.now_ms += GRACE_MS - 1
    archiver.run_once()
    ledger.directory.check_files(earlier.files)
    ledger.now_ms += 1
    assert archiver.run_once().removed_file_count == 8
    with pytest.raises(LedgerCorruptError):
        ledger.directory.check_files(earlier.files)


def test_two_archivers_do_not_work_at_once(ledger: LedgerFixture) -> None:
    """While another holder has the folder's lock a run does nothing."""
    ledger.record([Entry()])
    with ledger.directory.lock() as is_ours:
        assert is_ours
        assert ledger.archiver().run_once() == ArchiveResult()
        assert ledger.engine.ledger_length() == 1

    assert ledger.archiver().run_once().entry_count == 1


def test_a_lost_manifest_stops_the_archiver(ledger: LedgerFixture) -> None:
    """Files without a manifest are never taken for leftovers: nothing is removed and nothing trimmed."""
    ledger.record([Entry()])
    ledger.archiver().run_once()
    ledger.record([Entry()])
    files = ledger.directory.list_files()
    (ledger.directory.path / "manifest.json").unlink()

    with pytest.raises(LedgerCorruptError):
        ledger.archiver().run_once()
    with pytest.raises(LedgerCorruptError):
        ledger.reporter().report(ALL_TIME)
    assert ledger.directory.list_files() == files
    assert ledger.engine.ledger_length() == 1


@pytest.mark.parametrize(
    "content", [b"", b"{}", b'{"format": 2}', b"[]", b"\xff", b'{"format":1,"generation":1}']
)
def test_a_damaged_manifest_stops_the_archiver(ledger: LedgerFixture, content: bytes) -> None:
    """A manifest that cannot be read is an error, not an empty ledger."""
    ledger.record([Entry()])
    ledger.archiver().run_once()
    (ledger.directory.path / "manifest.json").write_bytes(content)

    with pytest.raises(LedgerCorruptError):
        ledger.archiver().run_once()


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"PAR1")])
def test_a_damaged_file_stops_the_archiver(ledger: LedgerFixture, damage: Callable[[Path], object]) -> None:
    """A file that is missing or has another size is found at start, before more is trimmed."""
    ledger.record([Entry()])
    ledger.archiver().run_once()
    damage(ledger.directory.path / ledger.directory.read_manifest().files[0].path)
    ledger.record([Entry()])

    with pytest.raises(LedgerCorruptError):
        ledger.archiver().run_once()
    assert ledger.engine.ledger_length() == 1


def test_nobody_else_can_read_the_files(ledger: LedgerFixture) -> None:
    """Files are 0600 and folders 0700, merged files too."""
    archiver = ledger.archiver()
    for seed in range(8):
        ledger.record(varied_entries(2, seed=seed, days=1))
        archiver.run_once()

    for path in ledger.directory.path.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_the_loop_goes_on_after_failures_and_ends_when_told(
    ledger: LedgerFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The background loop reports a failure, tries again, archives what comes, and stops at once."""
    failures: list[Exception] = []
    failed, archived, stop = threading.Event(), threading.Event(), threading.Event()
    real_read, real_trim = ledger.engine.read_to_archive, ledger.engine.trim_ledger

    def failing_read(after_ids: Sequence[str], *, count_max: int) -> tuple[bytes, list[str], int]:
        if not failures:
            raise ConnectionError("store went away")
        return real_read(after_ids, count_max=count_max)

    def telling_trim(partition: int, *, through_id: str) -> None:
        real_trim(partition, through_id=through_id)
        archived.set()

    def report_failure(error: Exception) -> None:
        failures.append(error)
        failed.set()

    monkeypatch.setattr(ledger.engine, "read_to_archive", failing_read)
    monkeypatch.setattr(ledger.engine, "trim_ledger", telling_trim)
    ledger.record([Entry()])
    thread = threading.Thread(
        target=ledger.archiver().run, args=(stop, report_failure), kwargs={"interval_ms": 5}
    )
    thread.start()
    try:
        assert failed.wait(10)
        assert archived.wait(10)
    finally:
        stop.set()
        thread.join(10)
    assert not thread.is_alive()
    assert [str(failure) for failure in failures] == ["store went away"]
    assert archived_rows(ledger.directory) == expected_rows(ledger)
