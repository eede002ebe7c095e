# SPDX-License-Identifier: Apache-2.0
"""Months: the days of a month's rollups in one file, so that a report about a month opens one and not thirty.

A month is two files. That of days has the rows of its rollups' files of days. The other has the sums of all of them
that are by the day, of both grains; their occur_time_us is the start of the month's first day. Both are sorted by
tenant, so that a report about one tenant reads little of them.

The manifest names a month beside each rollup whose days it has. A rollup that takes the place of others, because
records came late or were corrected, names none: reports read the rest of the dates from the file of days, until the
month went quiet and is made again. Like rollups, months are derived, and made again when they are lost.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

from taximeter_server.ledger_manifest import Manifest, RollupFile
from taximeter_server.ledger_rollup import (
    GRAIN_HOUR,
    GRAIN_KEYS,
    KEPT_COLUMNS,
    QUIET_MS,
    SUM_COLUMNS,
    Rollup,
    part_of,
    read_rollups,
)

FRESH_ROLLUPS_MIN = 8
"""Rollups without a month that are worth one while the month is not over."""
MONTH_ROWS_MAX = 8_000_000
"""Rows above which a month has none: they take longer than opening their files, and to sum up again."""
_SECOND_MS = 1_000
_SECOND_US = 1_000_000


@dataclass(frozen=True, slots=True)
class MonthPlan:
    """All rollups of one month that went quiet."""

    folder: str
    rollups: tuple[RollupFile, ...]

    @property
    def start_us(self) -> int:
        """Start of its first date."""
        return date_start_us(min(rollup.folder for rollup in self.rollups))


def date_start_us(folder: str) -> int:
    """Return when the date of a folder "date=YYYY-MM-DD" begins."""
    return int(_start_of(folder.partition("=")[2]).timestamp()) * _SECOND_US


def plan_month(manifest: Manifest, *, now_ms: int) -> MonthPlan | None:
    """Return what to make a month of next; None when nothing is worth it. now_ms: by the clock of stream ids."""
    waiting = {_month_of(file.folder) for file in manifest.files if file.rollup is None}
    rollups: dict[str, list[RollupFile]] = defaultdict(list)
    for rollup in manifest.rollups:
        rollups[_month_of(rollup.folder)].append(rollup)
    for month, members in sorted(rollups.items()):
        restless = {one.folder for one in members if one.stream_ms_max >= now_ms - QUIET_MS}
        quiet = tuple(one for one in members if one.folder not in restless)
        fresh_count = sum(one.month is None for one in quiet)
        is_done = not restless and month not in waiting and _end_ms(month) < now_ms - QUIET_MS
        row_count = sum(one.day_row_count + one.together_row_count for one in quiet)
        if (
            fresh_count >= (1 if is_done else FRESH_ROLLUPS_MIN)
            and len(quiet) > 1
            and row_count <= MONTH_ROWS_MAX
        ):
            return MonthPlan(f"month={month}", quiet)
    return None


def month_days_statement(days: Sequence[str]) -> Rollup:
    """Return what is in the file of days. days: paths of the rollups' files of days."""
    return _statement(days, "occur_time_us", "true", is_summed=False)


def month_sums_statement(days: str, start_us: int) -> Rollup:
    """Return what is in the other file. days: path of the month's file of days."""
    kept = f"grain <> {GRAIN_HOUR}"
    return _statement([days], f"{start_us} AS occur_time_us", kept, is_summed=True)


def _statement(days: Sequence[str], time: str, kept: str, *, is_summed: bool) -> Rollup:
    source = read_rollups("$days", (*GRAIN_KEYS, *SUM_COLUMNS, "lines"))
    part = part_of(("grain", time, *KEPT_COLUMNS), f"{source} WHERE {kept}")
    return Rollup(GRAIN_KEYS, (part,), {"days": list(days)}, is_summed)


def _month_of(folder: str) -> str:
    """Return "YYYY-MM" of a folder "date=YYYY-MM-DD"."""
    return folder.partition("=")[2][:7]


def _end_ms(month: str) -> int:
    first = _start_of(f"{month}-01")
    year, number = divmod(first.year * 12 + first.month, 12)
    return int(first.replace(year=year, month=number + 1).timestamp()) * _SECOND_MS


def _start_of(day: str) -> datetime:
    return datetime.combine(date.fromisoformat(day), datetime.min.time(), UTC)
