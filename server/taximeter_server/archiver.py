# SPDX-License-Identifier: Apache-2.0
"""Moves entries from the store's streams to the ledger's files.

The order of steps is what makes it safe to kill at any point: write files, fsync them, replace the manifest, tell
the engine, trim the streams. Before the manifest is replaced nothing has happened but leftovers that nobody reads;
after it the entries are archived, and only then may the streams lose them.

A store that lost its tail is given it back by the engine, into the stream. What was read before that must not get into
the manifest after it: the engine is held while the manifest is replaced, and refuses when it is too late.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from taximeter_server.archiver_pace import LOOK_SECONDS, ArchiverPace
from taximeter_server.ledger import BEFORE_ALL, LedgerSource, StreamId, read_rows
from taximeter_server.ledger_directory import LedgerDirectory
from taximeter_server.ledger_manifest import LedgerFile, Manifest, MonthFile, RollupFile
from taximeter_server.ledger_merge import FileMerger, choose_files
from taximeter_server.ledger_month import plan_month
from taximeter_server.ledger_rollup import FORMAT as ROLLUP_FORMAT
from taximeter_server.ledger_rollup import plan_rollup
from taximeter_server.ledger_rollup_files import write_month, write_rollup
from taximeter_server.ledger_rows import without_silent
from taximeter_server.thread_priority import give_way

INTERVAL_MS = 2_000
IDLE_INTERVAL_MS_MAX = 16_000
FAILURE_INTERVAL_MS_MAX = 60_000

GRACE_MS = 15 * 60 * 1000
"""How long a merged file stays for reports that opened the manifest before. Longer than any report may take."""

ROUND_ENTRIES_MAX = 50_000
"""Entries held in memory at once."""

ROUNDS_MAX = 20
"""Rounds of one run, so that merging has its turn also while more arrives than can be archived."""


@dataclass(frozen=True, slots=True)
class ArchiveResult:
    """What one run did. has_more: it ended with entries left, and the next should follow at once."""

    entry_count: int = 0
    file_count: int = 0
    merged_file_count: int = 0
    removed_file_count: int = 0
    has_more: bool = False


class Archiver:
    """Archives the streams of one engine into one folder. One run at a time, whoever runs it."""

    def __init__(
        self,
        source: LedgerSource,
        directory: LedgerDirectory,
        *,
        merger: FileMerger,
        clock: Callable[[], int],
        grace_ms: int = GRACE_MS,
        round_entries_max: int = ROUND_ENTRIES_MAX,
        pace: ArchiverPace | None = None,
    ) -> None:
        """clock: milliseconds since 1970 UTC, for the grace of merged files only. pace: None never waits."""
        self._source = source
        self._directory = directory
        self._merger = merger
        self._clock = clock
        self._grace_ms = grace_ms
        self._round_entries_max = round_entries_max
        self._pace = pace
        self._is_clean = False

    def run(
        self,
        stop: threading.Event,
        report_failure: Callable[[Exception], None],
        *,
        interval_ms: int = INTERVAL_MS,
    ) -> None:
        """Run until stop is set; meant for a thread of its own, whose priority it lowers.

        Waits interval_ms between runs, longer while there is nothing to do, the store or disk fails, or very much is
        recorded. Failures go to report_failure and are tried again: nothing is lost meanwhile, the streams only grow.
        """
        give_way()
        wait_ms = interval_ms
        while not stop.wait(wait_ms / 1000):
            if self._is_burst(stop):
                wait_ms = interval_ms
                continue
            try:
                result = self.run_once(stop)
            except Exception as error:  # noqa: BLE001 (the loop must outlive whatever store and disk can raise)
                report_failure(error)
                wait_ms = min(max(wait_ms, interval_ms) * 2, FAILURE_INTERVAL_MS_MAX)
                continue
            if result.has_more:
                wait_ms = 0
            elif result.entry_count:
                wait_ms = interval_ms
            else:
                wait_ms = min(max(wait_ms, interval_ms) * 2, IDLE_INTERVAL_MS_MAX)

    def run_once(self, stop: threading.Event | None = None) -> ArchiveResult:
        """Archive what is in the streams, merge small files, roll up and remove old files.

        At most ROUNDS_MAX * round_entries_max entries. Ends early, in a good state, when stop is set or very much is
        recorded. Does nothing when another archiver works on the folder. Raises what the engine raises, OSError, and
        LedgerCorruptError.
        """
        with self._directory.lock() as is_ours:
            if not is_ours:
                return ArchiveResult()
            manifest = self._directory.read_manifest()
            if not self._is_clean:
                manifest = self._recover(manifest)
            # True again only when this run ends well.
            self._is_clean = False
            manifest, entry_count, file_count, has_more = self._archive(manifest, stop)
            manifest, merged_file_count = self._merge(manifest, stop)
            manifest = self._roll_up(manifest, stop)
            removed_file_count = self._remove_obsolete(manifest)
            self._is_clean = True
            return ArchiveResult(entry_count, file_count, merged_file_count, removed_file_count, has_more)

    def _recover(self, manifest: Manifest) -> Manifest:
        """Finish or undo what an interrupted run left. Returns the manifest as it is then."""
        if manifest.generation == 0:
            # Never a file without a manifest: that is how a lost manifest is told from a new folder.
            self._directory.replace_manifest(manifest)
        self._directory.check_files(manifest.files)
        sums: tuple[RollupFile | MonthFile, ...] = (*manifest.rollups, *manifest.months)
        lost = self._directory.lost_sums(sums) | {one.path for one in sums if one.format != ROLLUP_FORMAT}
        if lost:
            manifest = manifest.without_sums(lost, time_ms=self._clock())
            self._directory.replace_manifest(manifest)
        for path in self._directory.list_files():
            if path not in manifest.paths:
                self._directory.remove_file(path)
        watermarks = dict(enumerate(manifest.watermarks))
        self._set_archived(watermarks)
        self._release(watermarks)
        return manifest

    def _archive(self, manifest: Manifest, stop: threading.Event | None) -> tuple[Manifest, int, int, bool]:
        entry_count = file_count = 0
        for _ in range(ROUNDS_MAX):
            if self._is_interrupted(stop):
                break
            opening = self._source.begin_archive()
            rows, watermarks, round_entry_count = self._read_round(manifest)
            if round_entry_count == 0:
                self._note_archived()
                return manifest, entry_count, file_count, False
            files = self._write_files(manifest.generation + 1, rows)
            manifest = manifest.with_archived(files, watermarks)
            self._source.hold_archive(opening)
            try:
                self._directory.replace_manifest(manifest)
                self._set_archived(watermarks)
            finally:
                self._source.release_archive()
            self._release(watermarks)
            entry_count += round_entry_count
            file_count += len(files)
            if round_entry_count < self._round_entries_max:
                self._note_archived()
                return manifest, entry_count, file_count, False
        return manifest, entry_count, file_count, True

    def _is_burst(self, stop: threading.Event) -> bool:
        if self._pace is None:
            return False
        self._pace.look()
        return stop.wait(LOOK_SECONDS) or self._pace.gives_way()

    def _gives_way(self) -> bool:
        return self._pace is not None and self._pace.gives_way()

    def _is_interrupted(self, stop: threading.Event | None) -> bool:
        return (stop is not None and stop.is_set()) or self._gives_way()

    def _note_archived(self) -> None:
        if self._pace is not None:
            self._pace.note_archived()

    def _read_round(self, manifest: Manifest) -> tuple[pa.Table, dict[int, StreamId], int]:
        """Read entries after the watermarks, at most round_entries_max of all partitions together."""
        ipc, last_ids, entry_count = self._source.read_to_archive(
            [str(watermark) for watermark in manifest.watermarks], count_max=self._round_entries_max
        )
        last = enumerate(map(StreamId.parse, last_ids))
        watermarks = {partition: one for partition, one in last if one > manifest.watermarks[partition]}
        return read_rows(ipc), watermarks, entry_count

    def _write_files(self, generation: int, rows: pa.Table) -> list[LedgerFile]:
        """Write rows, which are in the order of SORT_COLUMNS, to one file per UTC date of occurrence."""
        rows = without_silent(rows)
        dates = pc.cast(pc.cast(rows["occur_time_us"], pa.timestamp("us")), pa.date32())
        found_dates = sorted(pc.unique(dates).to_pylist())
        files = []
        for date in found_dates:
            of_date = rows.filter(pc.equal(dates, date)) if len(found_dates) > 1 else rows
            stream_ms = pc.min_max(of_date["stream_ms"]).as_py()
            occur_time_us = pc.min_max(of_date["occur_time_us"]).as_py()
            name = _file_name(f"date={date.isoformat()}", generation, stream_ms["min"], stream_ms["max"])
            files.append(
                LedgerFile(
                    path=name,
                    row_count=of_date.num_rows,
                    size_bytes=self._directory.write_file(name, of_date),
                    stream_ms_min=stream_ms["min"],
                    stream_ms_max=stream_ms["max"],
                    occur_time_us_min=occur_time_us["min"],
                    occur_time_us_max=occur_time_us["max"],
                    generation=generation,
                )
            )
        return files

    def _release(self, watermarks: dict[int, StreamId]) -> None:
        """Let the streams drop what the manifest covers."""
        for partition, watermark in watermarks.items():
            if watermark > BEFORE_ALL:
                self._source.trim_ledger(partition, through_id=str(watermark))

    def _set_archived(self, watermarks: dict[int, StreamId]) -> None:
        """Let the journal drop what the manifest covers."""
        for partition, watermark in watermarks.items():
            if watermark > BEFORE_ALL:
                self._source.set_archived(partition, str(watermark))

    def _merge(self, manifest: Manifest, stop: threading.Event | None) -> tuple[Manifest, int]:
        merged_file_count = 0
        while (sources := choose_files(manifest.files)) and not self._is_interrupted(stop):
            stream_ms_min = min(file.stream_ms_min for file in sources)
            stream_ms_max = max(file.stream_ms_max for file in sources)
            name = _file_name(sources[0].folder, manifest.generation + 1, stream_ms_min, stream_ms_max)
            with self._directory.writing(name) as path:
                self._merger.merge([self._directory.absolute(file.path) for file in sources], path)
            merged = LedgerFile(
                path=name,
                row_count=sum(file.row_count for file in sources),
                size_bytes=path.stat().st_size,
                stream_ms_min=stream_ms_min,
                stream_ms_max=stream_ms_max,
                occur_time_us_min=min(file.occur_time_us_min for file in sources),
                occur_time_us_max=max(file.occur_time_us_max for file in sources),
                generation=max(file.generation for file in sources),
                rollup=sources[0].rollup,
            )
            manifest = manifest.with_merged(merged, sources, time_ms=self._clock())
            self._directory.replace_manifest(manifest)
            merged_file_count += len(sources)
        return manifest, merged_file_count

    def _roll_up(self, manifest: Manifest, stop: threading.Event | None) -> Manifest:
        """Sum what is worth it. Failures cost nothing but time: reports read the files themselves."""
        while not self._is_interrupted(stop):
            now_ms = self._source.store_time_ms()
            if plan := plan_rollup(manifest, now_ms=now_ms):
                rollup = write_rollup(plan, manifest, self._directory, self._merger)
                manifest = manifest.with_rollup(rollup, plan.files, plan.rollups, time_ms=self._clock())
            elif of_month := plan_month(manifest, now_ms=now_ms):
                month = write_month(of_month, manifest, self._directory, self._merger)
                manifest = manifest.with_month(month, of_month.rollups, time_ms=self._clock())
            else:
                break
            self._directory.replace_manifest(manifest)
        return manifest

    def _remove_obsolete(self, manifest: Manifest) -> int:
        due_ms = self._clock() - self._grace_ms
        due = {file.path for file in manifest.obsolete_files if file.obsolete_time_ms <= due_ms}
        if not due:
            return 0
        # Removed first, forgotten second: a kill in between leaves names without files, never files without names.
        for path in sorted(due):
            self._directory.remove_file(path)
        self._directory.replace_manifest(manifest.without_obsolete(due))
        return len(due)


def _file_name(folder: str, generation: int, stream_ms_min: int, stream_ms_max: int) -> str:
    return f"{folder}/{generation:012d}-{stream_ms_min}-{stream_ms_max}.parquet"
