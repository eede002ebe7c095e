# SPDX-License-Identifier: Apache-2.0
"""From which rows a report is summed: ledger rows, or the rollups that have summed them before.

A rollup's row stands for all ledger rows of its hour or day. It can be used where everything that the query tells
apart, it tells apart too: every dimension is among its columns, and no edge of the interval and no change of a local
day lies within its hour. What is left of the interval at both ends is summed from finer rows.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from taximeter_server.ledger_rollup import (
    ATTRIBUTE_COLUMNS,
    DAY_US,
    GRAIN_ALL,
    GRAIN_HOUR,
    GRAIN_TENANT,
    HOUR_US,
    KEPT_COLUMNS,
    SUM_COLUMNS,
    TENANT_COLUMNS,
    TOGETHER_COLUMNS,
    read_rollups,
)
from taximeter_server.ledger_rows import rows_of_files
from taximeter_server.report_dimensions import Parameters, column_of, is_time_dimension
from taximeter_server.report_snapshot import Interval, Snapshot
from taximeter_server.report_tail import PLACE_COLUMNS
from taximeter_server.report_time_zone import OffsetChange

_SECOND_US = 1_000_000
_WORTH_ROWS = 2
"""Rows that a row of a rollup has to stand for on the average, so that reading it is worth it."""
_WORTH_PART = 2
"""A month's file of days is read where what is asked for is at least one part of it in so many."""
_MONTHLY = frozenset({"month", "quarter", "year"})
_WITHIN_POSITIONS = (
    "EXISTS (FROM positions WHERE positions.partition = entries.partition"
    " AND (stream_ms < to_ms OR (stream_ms = to_ms AND stream_seq <= to_seq)))"
)


@dataclass(frozen=True, slots=True)
class Source:
    """A relation with the needed columns of ledger rows and ``lines``, and the intervals for which it has all rows."""

    relation: str
    intervals: tuple[Interval, ...]


@dataclass(frozen=True, slots=True)
class Needs:
    """What a statement tells apart. dimensions: of groups and filters. offsets: of days and hours that it groups by.

    columns: what it sums and looks at beside them. is_of_tenants: it keeps some tenants only. has_entries: it counts
    entries one by one.
    """

    dimensions: Collection[str]
    offsets: Sequence[OffsetChange]
    columns: Collection[str]
    is_of_tenants: bool
    has_entries: bool

    def names(self, *more: str) -> list[str]:
        """Return all columns that are needed, and more, in an order that never changes."""
        of_dimensions = (column_of(name) for name in self.dimensions)
        return sorted({"occur_time_us", *self.columns, *more, *(name for name in of_dimensions if name)})


def sources(interval: Interval, needs: Needs, snapshot: Snapshot, parameters: Parameters) -> Iterator[Source]:
    """Yield relations that together have every row of the interval once."""
    shortest = _shortest(needs, snapshot)
    whole = None if shortest is None else interval.aligned(shortest.unit_us)
    hours = interval.aligned(HOUR_US) if _is_by_hour(needs, snapshot) else None
    if snapshot.has_tail or not snapshot.files:
        names = needs.names(*(PLACE_COLUMNS if needs.has_entries else ()))
        yield Source(_rows("tail", names, "1"), (interval,))
    loose = [path for path in snapshot.files if path not in snapshot.rolled_up]
    edges = interval.without(hours or whole)
    names = needs.names(*(PLACE_COLUMNS if needs.has_entries or not snapshot.are_files_whole else ()))
    condition = "true" if snapshot.are_files_whole else _WITHIN_POSITIONS
    for files, intervals in ((loose, (interval,)), (snapshot.rolled_up, edges)):
        if chosen := [path for path in sorted(files) if snapshot.overlaps(path, intervals)]:
            rows = rows_of_files(parameters.add(chosen), condition, names=names)
            yield Source(_rows(f"({rows})", names, "1"), intervals)
    if hours and (parts := hours.without(whole)):
        yield Source(_sums(_Sums(snapshot.hours, KEPT_COLUMNS, HOUR_US), needs, parameters), parts)
    if shortest and whole:
        for rollup, intervals in _by_month(shortest, whole, needs, snapshot):
            yield Source(_sums(rollup, needs, parameters), intervals)


@dataclass(frozen=True, slots=True)
class _Sums:
    """Rows of files of rollups, each of a whole unit of time.

    columns: those that they have beside sums; the needed others are null.
    """

    paths: Sequence[str]
    columns: Collection[str]
    unit_us: int
    grain: int | None = None


def _rows(relation: str, names: Sequence[str], lines: str) -> str:
    return f"SELECT {', '.join(names)}, {lines} AS lines FROM {relation}"  # noqa: S608 (names of ours)


def _sums(rollup: _Sums, needs: Needs, parameters: Parameters) -> str:
    there = {"occur_time_us", *rollup.columns, *SUM_COLUMNS}
    names = needs.names()
    grain = () if rollup.grain is None else ("grain",)
    read = [name for name in (*names, *grain, "lines") if name in there or name in (*grain, "lines")]
    relation = read_rollups(parameters.add(list(rollup.paths)), read)
    selected = [name if name in there else f"NULL AS {name}" for name in names]
    where = "" if rollup.grain is None else f" WHERE grain = {rollup.grain}"
    return _rows(relation + where, selected, "lines")


def _is_by_hour(needs: Needs, snapshot: Snapshot) -> bool:
    return (
        _is_of_hours(needs) and _keeps(needs, KEPT_COLUMNS) and _is_worth(snapshot.hour_row_count, snapshot)
    )


def _is_of_hours(needs: Needs) -> bool:
    """Return whether each hour of UTC is in one hour and day of the time zone, if a statement groups by them."""
    return not any(map(is_time_dimension, needs.dimensions)) or all(
        change.offset_s * _SECOND_US % HOUR_US == 0 and (number == 0 or change.start_time_us % HOUR_US == 0)
        for number, change in enumerate(needs.offsets)
    )


def _is_of_days(needs: Needs) -> bool:
    """Return whether each day of UTC is in one of what a statement groups by."""
    times = {name for name in needs.dimensions if is_time_dimension(name)}
    return "hour" not in times and not (times and any(change.offset_s for change in needs.offsets))


def _shortest(needs: Needs, snapshot: Snapshot) -> _Sums | None:
    """Return the shortest rows of rollups that a statement can use, beside those of all hours; None for none."""
    days = list(snapshot.days)
    is_of_days = _is_of_days(needs)
    if is_of_days and _keeps(needs, TENANT_COLUMNS) and _is_worth(snapshot.tenant_day_row_count, snapshot):
        return _Sums(days, TENANT_COLUMNS, DAY_US, GRAIN_TENANT)
    found = []
    if is_of_days and _keeps(needs, KEPT_COLUMNS):
        found.append((snapshot.day_row_count, _Sums(days, KEPT_COLUMNS, DAY_US, GRAIN_ALL)))
    if not needs.is_of_tenants and _is_of_hours(needs) and _keeps(needs, TOGETHER_COLUMNS):
        found.append((snapshot.together_row_count, _Sums(days, TOGETHER_COLUMNS, HOUR_US, GRAIN_HOUR)))
    if found:
        row_count, rows = min(found, key=lambda one: one[0])
        # Of some tenants little is read: opening one file of a month takes less than one for each of its days.
        if _is_worth(row_count, snapshot) or (needs.is_of_tenants and snapshot.months):
            return rows
    is_there = bool(snapshot.attributes) and not needs.is_of_tenants
    if (
        is_there
        and is_of_days
        and _keeps(needs, ATTRIBUTE_COLUMNS)
        and _is_worth(snapshot.attributes_row_count, snapshot)
    ):
        return _Sums(snapshot.attributes, ATTRIBUTE_COLUMNS, DAY_US)
    return None


def _by_month(
    rows: _Sums, interval: Interval, needs: Needs, snapshot: Snapshot
) -> Iterator[tuple[_Sums, tuple[Interval, ...]]]:
    """Yield what has rows within an interval, and the parts that it has: months as far as possible."""
    if rows.grain is None:
        yield rows, (interval,)
        return
    is_of_months = rows.unit_us == DAY_US and all(
        name in _MONTHLY for name in needs.dimensions if is_time_dimension(name)
    )
    whole_paths: list[str] = []
    left = {path for path, date in snapshot.days.items() if date.within(interval)}
    for month in snapshot.months:
        parts = tuple(part for run in month.days if (part := run.within(interval)))
        if is_of_months and month.month_path and parts == month.days:
            whole_paths.append(month.month_path)
        elif sum(map(_length_us, parts)) * _WORTH_PART >= sum(map(_length_us, month.days)):
            yield replace(rows, paths=[month.days_path]), parts
        else:
            continue
        left -= month.in_place_of
    for paths in (whole_paths, sorted(left)):
        if paths:
            yield replace(rows, paths=paths), (interval,)


def _length_us(interval: Interval) -> int:
    return interval.end_us - interval.start_us


def _keeps(needs: Needs, columns: Collection[str]) -> bool:
    """Return whether rows of a rollup with these columns tell apart what the statement does."""
    return not needs.has_entries and all(column_of(name) in (*columns, None) for name in needs.dimensions)


def _is_worth(row_count: int, snapshot: Snapshot) -> bool:
    # Where hardly two rows are of one group, sums of groups are as many as rows, and wider.
    return bool(snapshot.hours) and row_count * _WORTH_ROWS < snapshot.rolled_up_row_count
