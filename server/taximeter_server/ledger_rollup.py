# SPDX-License-Identifier: Apache-2.0
"""Rollups: exact sums of ledger files, so that a report costs by hours x groups and not by events.

A rollup covers whole files of one date: the manifest names it beside each of them, so what it sums and what it is
made of change in the same instant. It is derived data. One that is missing or damaged is forgotten and made again.

It is up to three files. That of hours keeps everything of a ledger row but the attributes and what is its alone. That
of days is summed from it and has rows of three grains: ``GRAIN_ALL`` keeps the same per UTC day, ``GRAIN_TENANT``
only tenant and usage class, which is what the summary of a month asks for, and ``GRAIN_HOUR`` all but the tenant per
hour: days of another time zone are made of hours, and where there are many tenants, hardly two rows are of one tenant,
model and hour. That of attributes has them per UTC day, of all tenants together: a report about one tenant reads only
its rows of the ledger anyway. It is left out where nearly every row has attributes of its own. occur_time_us is the
start of the hour or day.
"""

import zlib
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from taximeter_server.ledger import SCHEMA
from taximeter_server.ledger_manifest import LedgerFile, Manifest, RollupFile
from taximeter_server.ledger_rows import TYPES, read_as, rows_of_files
from taximeter_server.ledger_tiers import tier_of

GRAIN_TENANT, GRAIN_ALL, GRAIN_HOUR = 0, 1, 2
"""Of the rows in a file of days, in their order; the sums of a month are of the first two."""
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
"""Columns of a ledger row that rows by the hour and of GRAIN_ALL have, too."""
TENANT_COLUMNS = ("partition", "tenant", "usage_class", "unpriced", "kind", "prices_unpriced")
"""Those that the rows of GRAIN_TENANT have; the others are null there."""
TOGETHER_COLUMNS = tuple(name for name in KEPT_COLUMNS if name not in {"partition", "tenant"})
"""Those that the rows of GRAIN_HOUR have."""
GRAIN_KEYS = ("grain", "occur_time_us", *KEPT_COLUMNS)
"""Those that rows of any grain have beside sums."""
ATTRIBUTE_COLUMNS = ("attributes", "usage_class", "unpriced", "kind", "prices_unpriced")
"""Those that rows of the file of attributes have."""
FORMAT = zlib.crc32(
    "|".join(
        map(",".join, (SUM_COLUMNS, KEPT_COLUMNS, TENANT_COLUMNS, TOGETHER_COLUMNS, ATTRIBUTE_COLUMNS))
    ).encode()
)
"""Tells rollups with these columns from those of another version of the server, which are made again."""

ROLL_UP_ROWS_MIN = 262_144
"""Rows of a date that are worth a rollup while more may come. A report sums fewer in some 5 ms, and to roll up a
quarter as many each time costs twice as much per row."""
ROLLUP_COUNT_MAX = 8
"""Rollups of one date and tier that become one."""
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


@dataclass(frozen=True, slots=True)
class Rollup:
    """Rows of a file: sums of parts by keys, or the rows of parts as they are. parameters: of the parts."""

    keys: tuple[str, ...]
    parts: tuple[str, ...]
    parameters: dict[str, object]
    is_summed: bool = True

    def statement(self, sum_type: str) -> str:
        """Return the statement for its rows, with sums of a type."""
        keys = ", ".join(self.keys)
        sums = ", ".join(
            f"{f'sum({name})' if self.is_summed else name}::{sum_type} AS {name}"
            for name in (*SUM_COLUMNS, "lines")
        )
        order = [name for name in ("grain", "partition", "tenant", "occur_time_us") if name in self.keys]
        group_by = f" GROUP BY {keys}" if self.is_summed else ""
        return f"SELECT {keys}, {sums} FROM ({' UNION ALL '.join(self.parts)}){group_by} ORDER BY {', '.join(order)}"  # noqa: S608 (names of ours)


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
        tiers: dict[int, list[RollupFile]] = defaultdict(list)
        for rollup in done:
            tiers[tier_of(rollup.row_count)].append(rollup)
        for members in tiers.values():
            if len(members) >= ROLLUP_COUNT_MAX:
                return RollupPlan(folder, (), tuple(members))
    return None


def hours_statement(files: Sequence[str], rollups: Sequence[str]) -> Rollup:
    """Return what is in the file of hours. files: of the ledger; rollups: files of hours. Paths are absolute."""
    return _rollup(KEPT_COLUMNS, HOUR_US, files, rollups)


def attributes_statement(files: Sequence[str], rollups: Sequence[str]) -> Rollup:
    """Return what is in the file of attributes. files: of the ledger; rollups: files of attributes."""
    return _rollup(ATTRIBUTE_COLUMNS, DAY_US, files, rollups)


def days_statement(hours: str) -> Rollup:
    """Return what is in the file of days. hours: path of the file of hours."""
    source = read_rollups("$hours", ("occur_time_us", *KEPT_COLUMNS, *SUM_COLUMNS, "lines"))
    grains = (
        (GRAIN_TENANT, _start_of(DAY_US), TENANT_COLUMNS),
        (GRAIN_ALL, _start_of(DAY_US), KEPT_COLUMNS),
        (GRAIN_HOUR, "occur_time_us", TOGETHER_COLUMNS),
    )
    parts = [
        part_of(
            (
                *(f"{grain}::TINYINT AS grain", time),
                *(name if name in there else f"NULL AS {name}" for name in KEPT_COLUMNS),
            ),
            source,
        )
        for grain, time, there in grains
    ]
    return Rollup(GRAIN_KEYS, tuple(parts), {"hours": hours})


def read_rollups(placeholder: str, names: Collection[str]) -> str:
    """Return the relation of the rows of a rollup's files with those columns. placeholder: parameter with the paths."""
    types = {**TYPES, **dict.fromkeys((*SUM_COLUMNS, "lines"), "HUGEINT"), "grain": "TINYINT"}
    columns = ", ".join(read_as(name, types[name]) for name in names)
    return f"read_parquet({placeholder}, hive_partitioning = false, schema = MAP {{{columns}}})"


def _rollup(kept: Sequence[str], unit_us: int, files: Sequence[str], rollups: Sequence[str]) -> Rollup:
    parameters: dict[str, object] = {}
    parts = []
    if files:
        parameters["files"] = list(files)
        rows = rows_of_files("$files", names=sorted({"occur_time_us", *kept, *SUM_COLUMNS}))
        parts.append(part_of((_start_of(unit_us), *kept), f"({rows})", lines="1"))
    if rollups:
        parameters["rollups"] = list(rollups)
        source = read_rollups("$rollups", ("occur_time_us", *kept, *SUM_COLUMNS, "lines"))
        parts.append(part_of(("occur_time_us", *kept), source))
    return Rollup(("occur_time_us", *kept), tuple(parts), parameters)


def _start_of(unit_us: int) -> str:
    return f"occur_time_us - occur_time_us % {unit_us} AS occur_time_us"


def part_of(keys: Sequence[str], source: str, *, lines: str = "lines") -> str:
    """Return a part of a Rollup: rows of source with the keys, ready to be summed."""
    sums = ", ".join(f"{name}::HUGEINT AS {name}" for name in SUM_COLUMNS)
    return f"SELECT {', '.join(keys)}, {sums}, {lines}::HUGEINT AS lines FROM {source}"  # noqa: S608 (names of ours)
