# SPDX-License-Identifier: Apache-2.0
"""Rollups: exact sums of ledger files, so that a report costs by hours x groups and not by events.

A rollup covers whole files of one date: the manifest names it beside each of them, so what it sums and what it is
made of change in the same instant. It is derived data. One that is missing or damaged is forgotten and made again.

Its rows are of two grains. ``GRAIN_HOUR`` keeps everything of a ledger row but the attributes and what is its alone;
``GRAIN_DAY`` keeps tenant and usage class per UTC day, which is what the summary of a month asks for. In both,
occur_time_us is the start of the hour or day. Sums are 38-digit decimals, which no ledger overflows.
"""

import zlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from taximeter_server.ledger import SCHEMA
from taximeter_server.ledger_manifest import LedgerFile, Manifest, RollupFile
from taximeter_server.ledger_rows import rows_of_files

GRAIN_DAY, GRAIN_HOUR = 0, 1
HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US

SUM_COLUMNS = (
    *("calls", "entry_calls", "quantity", "billed_quantity", "cost_picos"),
    *("list_billed_quantity", "list_cost_picos", "adjusted_quantity", "credits", "overdrawn"),
)
"""Columns of a ledger row that a rollup sums. Beside them it has ``lines``, the number of rows."""

_LOST_COLUMNS = frozenset(
    {"stream_ms", "stream_seq", "record_id", "occur_time_us", "receive_time_ms", "attributes"}
    | {"adjusted_record_id", "note", "author", "previous_cost_picos"}
    | {"usage_provider", "usage_api", "usage_json", "usage_flags", "credit_moves", "credit_change"}
)
KEPT_COLUMNS = tuple(name for name in SCHEMA.names if name not in {*_LOST_COLUMNS, *SUM_COLUMNS})
"""Columns of a ledger row that the rows of GRAIN_HOUR have, too."""
DAY_COLUMNS = ("partition", "tenant", "usage_class", "unpriced", "kind", "prices_unpriced")
"""Those that the rows of GRAIN_DAY have; the others are null there."""
FORMAT = zlib.crc32(",".join((*SUM_COLUMNS, "|", *KEPT_COLUMNS, "|", *DAY_COLUMNS)).encode())
"""Tells rollups with these columns from those of another version of the server, which are made again."""

ROLL_UP_ROWS_MIN = 65_536
"""Rows of a date that are worth a rollup while more may come. Fewer are summed as fast as they are read."""
ROLLUP_COUNT_MAX = 8
"""Rollups of one date that become one."""
ROLLUP_ROWS_MAX = 4_000_000
"""Rollups with at least this many rows stay as they are, so that none is written again for ever."""
QUIET_MS = 3_600_000
"""A date that got nothing for this long is rolled up whole."""


@dataclass(frozen=True, slots=True)
class RollupPlan:
    """Files and rollups of one date to sum into one rollup that takes their place."""

    folder: str
    files: tuple[LedgerFile, ...]
    rollups: tuple[RollupFile, ...]

    @property
    def parts(self) -> tuple[LedgerFile | RollupFile, ...]:
        """All of them."""
        return (*self.files, *self.rollups)


def plan_rollup(manifest: Manifest, *, now_ms: int) -> RollupPlan | None:
    """Return what to roll up next; None when nothing is worth it. now_ms: by the clock that stream ids are made by."""
    files: dict[str, list[LedgerFile]] = defaultdict(list)
    rollups: dict[str, list[RollupFile]] = defaultdict(list)
    for file in manifest.files:
        if file.rollup is None:
            files[file.folder].append(file)
    for rollup in manifest.rollups:
        if rollup.row_count < ROLLUP_ROWS_MAX:
            rollups[rollup.folder].append(rollup)
    for folder in sorted({*files, *rollups}):
        loose, done = files[folder], rollups[folder]
        everything = RollupPlan(folder, tuple(loose), tuple(done))
        is_quiet = all(part.stream_ms_max < now_ms - QUIET_MS for part in everything.parts)
        if is_quiet and (loose or len(done) > 1):
            return everything
        if sum(file.row_count for file in loose) >= ROLL_UP_ROWS_MIN:
            return RollupPlan(folder, tuple(loose), ())
        if len(done) >= ROLLUP_COUNT_MAX:
            return RollupPlan(folder, (), tuple(done))
    return None


def rollup_statement(files: Sequence[str], rollups: Sequence[str]) -> tuple[str, dict[str, object]]:
    """Return the statement for the rows of a rollup, with its parameters. Paths are absolute."""
    parameters: dict[str, object] = {}
    parts = []
    if files:
        parameters["files"] = list(files)
        source = f"({rows_of_files('$files')})"
        lines = "1"
        hours = f"occur_time_us - occur_time_us % {HOUR_US}"
        days = f"occur_time_us - occur_time_us % {DAY_US}"
        parts += [
            _part(GRAIN_HOUR, hours, KEPT_COLUMNS, source, lines),
            _part(GRAIN_DAY, days, DAY_COLUMNS, source, lines),
        ]
    if rollups:
        parameters["rollups"] = list(rollups)
        source = "read_parquet($rollups, hive_partitioning = false)"
        parts.append(_part("grain", "occur_time_us", KEPT_COLUMNS, source, "lines"))
    sums = ", ".join(f"sum({name})::DECIMAL(38, 0) AS {name}" for name in (*SUM_COLUMNS, "lines"))
    keys = ", ".join(("grain", "occur_time_us", *KEPT_COLUMNS))
    statement = (
        f"SELECT {keys}, {sums} FROM ({' UNION ALL '.join(parts)}) GROUP BY {keys}"  # noqa: S608 (names of ours)
        " ORDER BY grain, partition, tenant, occur_time_us"
    )
    return statement, parameters


def _part(grain: int | str, time_sql: str, kept: Sequence[str], source: str, lines: str) -> str:
    keys = ", ".join(name if name in kept else f"NULL AS {name}" for name in KEPT_COLUMNS)
    sums = ", ".join(f"{name}::HUGEINT AS {name}" for name in SUM_COLUMNS)
    return (
        f"SELECT {grain}::TINYINT AS grain, {time_sql} AS occur_time_us, {keys},"  # noqa: S608
        f" {sums}, {lines}::HUGEINT AS lines FROM {source}"
    )
