# SPDX-License-Identifier: Apache-2.0
"""Which small files of the ledger to merge, and how.

Files of a date and rollup fall into tiers by their number of rows, each tier eight times the one before. Eight files
of one tier become one file of about the next. So a date never has more than seven files per tier and rollup, and a row
is written again at most once per tier: however long the server runs, files do not pile up and merging stays cheap.
"""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import duckdb

from taximeter_server.ledger import SCHEMA, SORT_COLUMNS
from taximeter_server.ledger_directory import ROW_GROUP_ROWS
from taximeter_server.ledger_manifest import LedgerFile
from taximeter_server.ledger_rollup import GRAIN_DAY, rollup_statement

MERGE_FILE_COUNT = 8
"""Files of one tier that become one."""

MERGED_ROWS_MAX = 262_144
"""Files with at least this many rows stay as they are: reading them costs more than opening them."""

ROLLUP_ROW_GROUP_ROWS = 8_192
"""Few, so that a report by the day, whose rows stand first, skips those of the hours."""

_TIER_0_BITS = 12
_BITS_PER_TIER = 3


def _tier(row_count: int) -> int:
    """Return 0 below 4,096 rows, 1 below 32,768, and so on."""
    above = max(0, row_count.bit_length() - _TIER_0_BITS)
    return (above + _BITS_PER_TIER - 1) // _BITS_PER_TIER


def choose_files(files: Sequence[LedgerFile]) -> list[LedgerFile]:
    """Return files of one date, tier and rollup to merge into one; empty when no tier is full."""
    tiers: dict[tuple[str, str, int], list[LedgerFile]] = defaultdict(list)
    for file in files:
        if file.row_count < MERGED_ROWS_MAX:
            tiers[file.folder, file.rollup or "", _tier(file.row_count)].append(file)
    for _, members in sorted(tiers.items()):
        if len(members) >= MERGE_FILE_COUNT:
            return members[:MERGE_FILE_COUNT]
    return []


class FileMerger:
    """Merges files within a bound of memory; what does not fit is sorted in temporary_directory."""

    def __init__(self, *, temporary_directory: Path, memory_limit_bytes: int = 256 * 2**20) -> None:
        # The database makes the folder itself when it needs it, but not the one above.
        temporary_directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._settings: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": f"{memory_limit_bytes}B",
            "temp_directory": str(temporary_directory),
            "threads": 1,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }

    def merge(self, sources: Sequence[str], target: Path) -> None:
        """Write all rows of sources, sorted, to target. Paths are absolute."""
        # By name: an older version's files have fewer columns.
        rows = "SELECT * FROM read_parquet($sources, hive_partitioning = false, union_by_name = true)"
        statement = f"{rows} ORDER BY {', '.join(SORT_COLUMNS)}"
        with duckdb.connect(config=self._settings) as connection:
            _write(connection, statement, {"sources": list(sources)}, target, row_group_rows=ROW_GROUP_ROWS)

    def roll_up(self, files: Sequence[str], rollups: Sequence[str], target: Path) -> tuple[int, int]:
        """Write the sums of files and rollups to target. Paths are absolute.

        Returns the number of rows, and that of GRAIN_DAY among them.
        """
        statement, parameters = rollup_statement(files, rollups)
        with duckdb.connect(config=self._settings) as connection:
            connection.register("empty_ledger", SCHEMA.empty_table())
            _write(connection, statement, parameters, target, row_group_rows=ROLLUP_ROW_GROUP_ROWS)
            ((row_count, day_row_count),) = connection.execute(
                f"SELECT count(*), count(*) FILTER (grain = {GRAIN_DAY}) FROM read_parquet($target)",  # noqa: S608
                {"target": str(target)},
            ).fetchall()
        return int(row_count), int(day_row_count)


def _write(
    connection: duckdb.DuckDBPyConnection,
    statement: str,
    parameters: dict[str, object],
    target: Path,
    *,
    row_group_rows: int,
) -> None:
    # COPY takes no parameter for its target, whose name is made of digits by us, in a folder of the operator's.
    escaped_target = str(target).replace("'", "''")
    options = f"FORMAT parquet, COMPRESSION zstd, USE_TMP_FILE false, ROW_GROUP_SIZE {row_group_rows}"
    connection.execute(f"COPY ({statement}) TO '{escaped_target}' ({options})", parameters)
