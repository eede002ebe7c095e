# SPDX-License-Identifier: Apache-2.0
"""One consistent view of the ledger: every entry up to a position per partition, each once, while the archiver runs.

The order of steps makes it so. The tail of the streams is read first and the manifest second: an entry that the
archiver takes away in between was in the tail, or is in the manifest, or both; and what is in both is dropped from
the tail by the manifest's watermark. The positions are those of the last entries that were read or archived.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from taximeter_server.errors import InvalidFieldsError
from taximeter_server.ledger import AFTER_ALL, PARTITION_COUNT, SCHEMA, LedgerSource, partition_of
from taximeter_server.ledger_directory import LedgerDirectory
from taximeter_server.ledger_manifest import LedgerFile, Manifest, RollupFile
from taximeter_server.ledger_month import date_start_us
from taximeter_server.ledger_rollup import DAY_US
from taximeter_server.ledger_rollup import FORMAT as ROLLUP_FORMAT
from taximeter_server.report_as_of import AsOf
from taximeter_server.report_query import ReportQuery
from taximeter_server.report_tail import read_tail

_INT64_MAX = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Interval:
    """Half-open, in microseconds since 1970 UTC; never empty."""

    start_us: int
    end_us: int

    def aligned(self, unit_us: int) -> "Interval | None":
        """Return what of it consists of whole units."""
        start_us, end_us = -(-self.start_us // unit_us) * unit_us, self.end_us // unit_us * unit_us
        return Interval(start_us, end_us) if start_us < end_us else None

    def within(self, outer: "Interval") -> "Interval | None":
        """Return what of it is within outer."""
        start_us, end_us = max(self.start_us, outer.start_us), min(self.end_us, outer.end_us)
        return Interval(start_us, end_us) if start_us < end_us else None

    def without(self, inner: "Interval | None") -> "tuple[Interval, ...]":
        """Return what is left of it before and after inner, which lies within."""
        if inner is None:
            return (self,)
        edges = ((self.start_us, inner.start_us), (inner.end_us, self.end_us))
        return tuple(Interval(*edge) for edge in edges if edge[0] < edge[1])


@dataclass(frozen=True, slots=True)
class Month:
    """Files that hold what many files of days do.

    days_path: has all of their rows that are of these days, runs of whole UTC dates. month_path: has the sums of all of
    these rows; None while there are others among them. in_place_of: the files of days.
    """

    days_path: str
    days: tuple[Interval, ...]
    month_path: str | None
    in_place_of: frozenset[str]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Which rows there are: those of the relation tail, those of files, and those that rollups have summed.

    has_tail: whether it has rows.
    files: all of them, by absolute path, with the inclusive bounds of their occur_time_us. rolled_up: those of files
    whose rows are in rollups, too, so that a report reads either: so many rows of them, or so many of the rollups by
    the hour, by the day, by tenant and day, by the hour of all tenants together, or by attributes and day, which not
    every ledger has. days: files and
    their dates. months: what can be read for many of them. are_files_whole: whether all rows of files are within as_of;
    otherwise the relation positions says which.
    """

    as_of: AsOf
    files: Mapping[str, tuple[int, int]]
    rolled_up: frozenset[str]
    hours: tuple[str, ...]
    days: Mapping[str, Interval]
    months: tuple[Month, ...]
    attributes: tuple[str, ...]
    rolled_up_row_count: int
    hour_row_count: int
    day_row_count: int
    tenant_day_row_count: int
    together_row_count: int
    attributes_row_count: int
    are_files_whole: bool
    has_tail: bool

    def overlaps(self, path: str, intervals: Iterable[Interval]) -> bool:
        """Return whether a file can have rows within one of intervals."""
        first_us, last_us = self.files[path]
        return any(first_us < part.end_us and last_us >= part.start_us for part in intervals)


def relevant_partitions(query: ReportQuery) -> tuple[int, ...]:
    """Return the partitions in which the query's tenants can be."""
    if query.tenant:
        return (partition_of(query.tenant),)
    if query.readable_tenants is not None:
        return tuple(sorted({partition_of(tenant) for tenant in query.readable_tenants}))
    return tuple(range(PARTITION_COUNT))


def take_snapshot(
    connection: duckdb.DuckDBPyConnection,
    source: LedgerSource,
    directory: LedgerDirectory,
    query: ReportQuery,
    *,
    as_of: AsOf | None,
    columns: Collection[str] = tuple(SCHEMA.names),
    is_with_rollups: bool = True,
) -> Snapshot:
    """Make the relations tail and positions of connection and choose the files that the query needs.

    as_of: that of an earlier snapshot, to see the same again; None for now. columns: those of SCHEMA that tail has to
    have. Raises InvalidFieldsError when as_of does not reach what the query needs, or the ledger does not reach as_of.
    """
    partitions = relevant_partitions(query)
    if as_of is not None and not set(partitions) <= set(as_of.positions):
        raise InvalidFieldsError.of("query.as_of", "is of a report about other tenants")
    now_ms = source.store_time_ms()
    first_manifest = directory.read_manifest()
    # For now a stream is read to its end, wherever ids have got to: they run ahead of a clock that was set back.
    ends = dict.fromkeys(partitions, AFTER_ALL) if as_of is None else as_of.positions
    spans = {partition: (first_manifest.watermarks[partition], ends[partition]) for partition in partitions}
    tail = read_tail(connection, source, query, spans, columns)
    manifest = directory.read_manifest()
    seen = {
        partition: max(tail.last_ids[partition], manifest.watermarks[partition]) for partition in partitions
    }
    if is_now := as_of is None:
        # Entries of the current millisecond may still come.
        as_of = AsOf(now_ms - 1, manifest.generation, seen)
    elif as_of.generation > manifest.generation:
        raise InvalidFieldsError.of(
            "query.as_of", "is later than this ledger, which was restored or replaced"
        )
    archived = {
        partition: manifest.watermarks[partition]
        for partition in partitions
        if manifest.watermarks[partition] != first_manifest.watermarks[partition]
    }
    if archived:
        tail.drop_archived(connection, archived)
    if not is_now:
        _make_positions(connection, as_of)
    return _choose_files(
        directory, query, manifest, as_of, is_with_rollups=is_with_rollups, has_tail=tail.has_rows
    )


def _choose_files(
    directory: LedgerDirectory,
    query: ReportQuery,
    manifest: Manifest,
    as_of: AsOf,
    *,
    is_with_rollups: bool,
    has_tail: bool,
) -> Snapshot:
    newest_ms = max((position.ms for position in as_of.positions.values()), default=-1)
    files = [
        file
        for file in manifest.files
        if file.stream_ms_min <= newest_ms
        and any(
            file.occur_time_us_min < end_us and file.occur_time_us_max >= start_us
            for start_us, end_us in query.intervals_us
        )
    ]
    whole = {
        rollup.path: rollup
        for rollup in manifest.rollups
        if is_with_rollups and rollup.format == ROLLUP_FORMAT and _is_whole(rollup, as_of)
    }
    rolled_up = [file for file in files if file.rollup in whole]
    rollups = [whole[path] for path in sorted({file.rollup for file in rolled_up if file.rollup})]
    return Snapshot(
        as_of=as_of,
        files={
            directory.absolute(file.path): (file.occur_time_us_min, file.occur_time_us_max) for file in files
        },
        rolled_up=frozenset(directory.absolute(file.path) for file in rolled_up),
        hours=tuple(directory.absolute(rollup.path) for rollup in rollups),
        days={directory.absolute(rollup.days_path): _date_of(rollup) for rollup in rollups},
        months=tuple(_months(directory, manifest, whole)),
        attributes=tuple(directory.absolute(rollup.attributes_path) for rollup in rollups)
        if all(rollup.attributes_path for rollup in rollups)
        else (),
        rolled_up_row_count=sum(file.row_count for file in rolled_up),
        hour_row_count=sum(rollup.row_count for rollup in rollups),
        day_row_count=sum(rollup.day_row_count for rollup in rollups),
        tenant_day_row_count=sum(rollup.tenant_day_row_count for rollup in rollups),
        together_row_count=sum(rollup.together_row_count for rollup in rollups),
        attributes_row_count=sum(rollup.attributes_row_count for rollup in rollups),
        are_files_whole=all(_is_whole(file, as_of) for file in files),
        has_tail=has_tail,
    )


def _date_of(rollup: RollupFile) -> Interval:
    start_us = date_start_us(rollup.folder)
    return Interval(start_us, start_us + DAY_US)


def _months(directory: LedgerDirectory, manifest: Manifest, whole: Collection[str]) -> Iterator[Month]:
    """Yield the months whose rollups are all of them whole."""
    for month in manifest.months:
        members = [rollup for rollup in manifest.rollups if rollup.month == month.path]
        if month.format != ROLLUP_FORMAT or any(rollup.path not in whole for rollup in members):
            continue
        dates = sorted({date_start_us(rollup.folder) for rollup in members})
        days: list[Interval] = []
        for start_us in dates:
            run_start_us = days.pop().start_us if days and days[-1].end_us == start_us else start_us
            days.append(Interval(run_start_us, start_us + DAY_US))
        yield Month(
            days_path=directory.absolute(month.path),
            days=tuple(days),
            month_path=directory.absolute(month.month_path) if len(dates) == month.date_count else None,
            in_place_of=frozenset(directory.absolute(rollup.days_path) for rollup in members),
        )


def _is_whole(file: LedgerFile | RollupFile, as_of: AsOf) -> bool:
    """Return whether as_of has seen all that is in file."""
    if as_of.generation >= 0:
        return file.generation <= as_of.generation
    return file.stream_ms_max <= as_of.time_ms


def _make_positions(connection: duckdb.DuckDBPyConnection, as_of: AsOf) -> None:
    """Make the relation positions: those of as_of."""
    partitions = sorted(as_of.positions)
    positions = [as_of.positions[partition] for partition in partitions]
    table = pa.table(
        {
            "partition": pa.array(partitions, pa.int16()),
            "to_ms": pa.array([one.ms for one in positions], pa.int64()),
            "to_seq": pa.array([min(one.seq, _INT64_MAX) for one in positions], pa.int64()),
        }
    )
    connection.register("positions", table)
