# SPDX-License-Identifier: Apache-2.0
"""From which rows a report is summed: ledger rows, or the rollups that have summed them before.

A rollup's row stands for all ledger rows of its hour or day. It can be used where everything that the query tells
apart, it tells apart too: every dimension is among its columns, and no edge of the interval and no change of a local
day lies within its hour. What is left of the interval at both ends is summed from finer rows.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from taximeter_server.ledger_rollup import (
    DAY_COLUMNS,
    DAY_US,
    GRAIN_DAY,
    GRAIN_HOUR,
    HOUR_US,
    KEPT_COLUMNS,
    SUM_COLUMNS,
)
from taximeter_server.ledger_rows import rows_of_files
from taximeter_server.report_dimensions import Parameters, column_of, is_time_dimension
from taximeter_server.report_snapshot import Interval, Snapshot
from taximeter_server.report_time_zone import OffsetChange

_SECOND_US = 1_000_000
_ENTRY_COLUMNS = ("stream_ms", "stream_seq", "attributes")
_COLUMNS = ", ".join(("occur_time_us", *KEPT_COLUMNS, *SUM_COLUMNS))
_WORTH_ROWS = 2
"""Rows that a row of a rollup has to stand for on the average, so that reading it is worth it."""
_WITHIN_POSITIONS = (
    "EXISTS (FROM positions WHERE positions.partition = entries.partition"
    " AND (stream_ms < to_ms OR (stream_ms = to_ms AND stream_seq <= to_seq)))"
)


@dataclass(frozen=True, slots=True)
class Source:
    """A relation with the columns of ledger rows and ``lines``, and the intervals for which it has all rows."""

    relation: str
    intervals: tuple[Interval, ...]


@dataclass(frozen=True, slots=True)
class Needs:
    """What a statement tells apart. dimensions: of groups and filters. offsets: of days and hours that it groups by.

    has_entries: it counts entries one by one.
    """

    dimensions: Collection[str]
    offsets: Sequence[OffsetChange]
    has_entries: bool


def sources(interval: Interval, needs: Needs, snapshot: Snapshot, parameters: Parameters) -> Iterator[Source]:
    """Yield relations that together have every row of the interval once."""
    hours = days = None
    if snapshot.rollups and _can_be_hours(needs):
        # Where hardly two rows are of one group, sums of groups are as many as rows, and wider.
        if snapshot.hour_row_count * _WORTH_ROWS < snapshot.rolled_up_row_count:
            hours = interval.aligned(HOUR_US)
        if snapshot.day_row_count * _WORTH_ROWS < snapshot.rolled_up_row_count and _can_be_days(needs):
            days = interval.aligned(DAY_US)
    yield Source(_ledger_rows("tail"), (interval,))
    loose = [path for path in snapshot.files if path not in snapshot.rolled_up]
    edges = interval.without(hours or days)
    for files, intervals in ((loose, (interval,)), (snapshot.rolled_up, edges)):
        if chosen := [path for path in sorted(files) if snapshot.overlaps(path, intervals)]:
            condition = "true" if snapshot.are_files_whole else _WITHIN_POSITIONS
            yield Source(_ledger_rows(f"({rows_of_files(parameters.add(chosen), condition)})"), intervals)
    by_hour = hours.without(days) if hours else ()
    for grain, parts in ((GRAIN_HOUR, by_hour), (GRAIN_DAY, (days,) if days else ())):
        if parts:
            rollups = f"read_parquet({parameters.add(list(snapshot.rollups))}, hive_partitioning = false)"
            yield Source(f"SELECT {_COLUMNS}, lines FROM {rollups} WHERE grain = {grain}", parts)  # noqa: S608


def _ledger_rows(rows: str) -> str:
    return f"SELECT {', '.join(_ENTRY_COLUMNS)}, {_COLUMNS}, 1 AS lines FROM {rows}"  # noqa: S608 (names of ours)


def _can_be_hours(needs: Needs) -> bool:
    if needs.has_entries or not all(column_of(name) in (*KEPT_COLUMNS, None) for name in needs.dimensions):
        return False
    if not any(map(is_time_dimension, needs.dimensions)):
        return True
    return all(
        change.offset_s * _SECOND_US % HOUR_US == 0 and (number == 0 or change.start_time_us % HOUR_US == 0)
        for number, change in enumerate(needs.offsets)
    )


def _can_be_days(needs: Needs) -> bool:
    times = {name for name in needs.dimensions if is_time_dimension(name)}
    if "hour" in times or (times and any(change.offset_s for change in needs.offsets)):
        return False
    return all(column_of(name) in DAY_COLUMNS for name in needs.dimensions if name not in times)
