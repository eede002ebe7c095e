# SPDX-License-Identifier: Apache-2.0
"""Which small files of the ledger to merge, and how.

Files of a date and rollup fall into tiers by their number of rows (ledger_tiers). Eight files of one tier become one
file of about the next. So a date never has more than seven files per tier and rollup, and a row is written again at
most once per tier: however long the server runs, files do not pile up and merging stays cheap.
"""

import contextlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import duckdb

from taximeter_server.ledger import SORT_COLUMNS
from taximeter_server.ledger_directory import ROW_GROUP_ROWS
from taximeter_server.ledger_manifest import LedgerFile
from taximeter_server.ledger_rollup import Rollup
from taximeter_server.ledger_rows import read_files
from taximeter_server.ledger_tiers import tier_of

MERGE_FILE_COUNT = 8
"""Files of one tier that become one."""

MERGED_ROWS_MAX = 262_144
"""Files with at least this many rows stay as they are: reading them costs more than opening them."""

ROLLUP_ROW_GROUP_ROWS = 8_192
"""Few, so that a report about one tenant skips nearly all of a day, and one of all tenants the days of models."""

MONTH_ROW_GROUP_ROWS = 65_536
"""More in the one file of a month, of which a report about one tenant has to read what says where each group lies."""


def choose_files(files: Sequence[LedgerFile]) -> list[LedgerFile]:
    """Return files of one date, tier and rollup to merge into one; empty when no tier is full."""
    tiers: dict[tuple[str, str, int], list[LedgerFile]] = defaultdict(list)
    for file in files:
        if file.row_count < MERGED_ROWS_MAX:
            tiers[file.folder, file.rollup or "", tier_of(file.row_count)].append(file)
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

    @contextlib.contextmanager
    def writer(self) -> Iterator["FileWriter"]:
        """Open a database; what writes several files shares it."""
        with duckdb.connect(config=self._settings) as connection:
            yield FileWriter(connection)

    def merge(self, sources: Sequence[str], target: Path) -> None:
        """Write all rows of sources, sorted, to target. Paths are absolute."""
        parameters: dict[str, object] = {"sources": list(sources)}
        with self.writer() as writer:
            # To sort and write a column costs the same whether or not it says anything.
            names = writer.column_names(sources)
            statement = f"FROM {read_files('$sources', names)} ORDER BY {', '.join(SORT_COLUMNS)}"
            writer.write(statement, parameters, target, row_group_rows=ROW_GROUP_ROWS)


class FileWriter:
    """Writes files through one connection."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    def roll_up(self, rollup: Rollup, target: Path, *, row_group_rows: int = ROLLUP_ROW_GROUP_ROWS) -> int:
        """Write a rollup to target. Returns its number of rows."""

        def write(sum_type: str) -> int:
            statement = rollup.statement(sum_type)
            return self.write(statement, rollup.parameters, target, row_group_rows=row_group_rows)

        # Few ledgers need more than 64 bits for a sum, and those are read half as fast.
        try:
            return write("BIGINT")
        except duckdb.ConversionException:
            return write("DECIMAL(38, 0)")

    def column_names(self, paths: Sequence[str]) -> set[str]:
        """Return the columns that at least one of the files has."""
        sql = "SELECT DISTINCT name FROM parquet_schema($paths)"
        return {name for (name,) in self._connection.execute(sql, {"paths": list(paths)}).fetchall()}

    def count_rows(self, path: Path, condition: str) -> int:
        """Return how many rows of a file fulfil condition."""
        sql = f"SELECT count(*) FROM read_parquet($path) WHERE {condition}"  # noqa: S608 (names of ours)
        ((count,),) = self._connection.execute(sql, {"path": str(path)}).fetchall()
        return int(count)

    def write(
        self, statement: str, parameters: dict[str, object], target: Path, *, row_group_rows: int
    ) -> int:
        """Write the rows of a statement to target. Returns their number."""
        # COPY takes no parameter for its target, whose name is made of digits by us, in a folder of the operator's.
        escaped_target = str(target).replace("'", "''")
        # A higher level takes more time, and what is sorted and has dictionaries is no smaller for it.
        options = "FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1, USE_TMP_FILE false"
        copy = f"COPY ({statement}) TO '{escaped_target}' ({options}, ROW_GROUP_SIZE {row_group_rows})"
        ((row_count,),) = self._connection.execute(copy, parameters).fetchall()
        return int(row_count)
