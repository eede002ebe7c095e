# SPDX-License-Identifier: Apache-2.0
"""The temporary table groups of a report, which its statement has filled: read in parts, as rows of the report."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from taximeter_server.report_as_of import AsOf
from taximeter_server.report_dimensions import Dimension
from taximeter_server.report_query import ReportMeasures, ReportRow
from taximeter_server.report_sql import COMPARED, SUMS, rest_statement

_FETCH_ROWS = 10_000
"""Rows asked for at once: an answer that nobody has fetched yet is held in memory as a whole."""


@dataclass(frozen=True, slots=True)
class ReportGroups:
    """The table groups of a connection, made by one of the statements of report_sql."""

    connection: duckdb.DuckDBPyConnection
    dimensions: Sequence[Dimension]
    as_of: AsOf

    def rows(self, first: int, last: int, *, is_compared: bool) -> Iterator[ReportRow]:
        """Yield the rows of groups_statement from position first to last."""
        prefixes = ("", COMPARED) if is_compared else ("",)
        while first <= last:
            positions = {"first": first, "last": min(last, first + _FETCH_ROWS - 1)}
            try:
                # Numbers of 128 bits take many times as long to become Python's.
                table = self._page(prefixes, "BIGINT", positions)
            except duckdb.ConversionException:
                table = self._page(prefixes, "HUGEINT", positions)
            yield from self._rows_of(table, is_compared=is_compared)
            if table.num_rows < _FETCH_ROWS:
                break
            first += _FETCH_ROWS

    def _page(self, prefixes: Sequence[str], number_type: str, positions: dict[str, int]) -> pa.Table:
        """Return dimensions, is_other, and for each of prefixes the quantities and SUMS."""
        columns = [*(f"d{index}" for index in range(len(self.dimensions))), "is_other"]
        for prefix in prefixes:
            parts = f"STRUCT(usage_class VARCHAR, quantity {number_type})[]"
            columns.append(f"{prefix}quantities::{parts} AS {prefix}quantities")
            columns += [f"{prefix}{name}::{number_type} AS {prefix}{name}" for name in SUMS]
        sql = (
            f"SELECT {', '.join(columns)} FROM groups"  # noqa: S608 (names of ours)
            " WHERE position BETWEEN $first AND $last ORDER BY position"
        )
        return self.connection.sql(sql, params=positions).to_arrow_table()

    def _rows_of(self, table: pa.Table, *, is_compared: bool) -> Iterator[ReportRow]:
        # Column by column: a row at a time, this takes longer than the database for all of them.
        count = len(self.dimensions)
        columns = [table[name].combine_chunks() for name in table.column_names]
        written = [
            one.write_all(column.to_pylist())
            for one, column in zip(self.dimensions, columns[:count], strict=True)
        ]
        groups = zip(*written, strict=True) if written else [()] * table.num_rows
        is_other, measured = columns[count].to_pylist(), columns[count + 1 :]
        own = _measures_of(measured[: 1 + len(SUMS)])
        compared = _measures_of(measured[1 + len(SUMS) :]) if is_compared else [None] * table.num_rows
        return map(ReportRow, groups, own, compared, is_other)

    def fetch_all(self) -> Iterator[tuple[Any, ...]]:
        """Yield all rows of a table without positions, in its own order, holding no more than _FETCH_ROWS of them."""
        first = 0
        while True:
            rows = self.connection.execute(
                "FROM groups WHERE rowid BETWEEN $first AND $last ORDER BY rowid",
                {"first": first, "last": first + _FETCH_ROWS - 1},
            ).fetchall()
            yield from rows
            if len(rows) < _FETCH_ROWS:
                break
            first += _FETCH_ROWS

    def fetch_rest(self, first: int) -> list[tuple[Any, ...]]:
        """Return the sums of all rows from the one with this number on, counted from 0, one per usage class."""
        return self.connection.execute(rest_statement(self.dimensions), {"first": first}).fetchall()

    def split(self, values: tuple[Any, ...]) -> tuple[tuple[str | None, ...], tuple[Any, ...]]:
        """Return the values of the dimensions as they are written, and the sums."""
        count = len(self.dimensions)
        group = tuple(
            # By a list, which is quicker than a generator, as this is done for every row.
            [
                None if value is None else one.write(value)
                for one, value in zip(self.dimensions, values[:count], strict=True)
            ]
        )
        return group, values[count:]

    def row_of_lines(self, lines: Sequence[tuple[Any, ...]]) -> ReportRow:
        """Make a row of the classes of one group, rows of lines_statement."""
        group, _ = self.split(lines[0])
        count = len(self.dimensions)
        quantities = {
            line[count]: line[count + 1] for line in lines if line[count] is not None and line[count + 1]
        }
        calls, *sums = (sum(column) for column in zip(*(line[count + 2 :] for line in lines), strict=True))
        return ReportRow(group, ReportMeasures(calls, quantities, *sums))

    def total(self, prefix: str) -> ReportMeasures:
        """Sum the rows of groups_statement, so that the total is the sum of its parts whatever they count."""
        columns = ", ".join(f"coalesce(sum({prefix}{name}), 0)" for name in SUMS)
        (calls, *sums) = self.connection.execute(f"SELECT {columns} FROM groups").fetchall()[0]  # noqa: S608 (names of ours)
        quantities = self.connection.execute(
            "SELECT part.usage_class, sum(part.quantity) AS quantity"  # noqa: S608
            f" FROM (SELECT unnest({prefix}quantities) AS part FROM groups) GROUP BY 1 ORDER BY 1"
        ).fetchall()
        return ReportMeasures(calls, dict(quantities), *sums)


def _measures_of(columns: Sequence[pa.Array]) -> Iterator[ReportMeasures]:
    """Make measures of the quantities and SUMS of each row."""
    lists, *sums = columns
    parts = lists.flatten()
    pairs = list(zip(parts.field("usage_class").to_pylist(), _integers(parts.field("quantity")), strict=True))
    quantities, start = [], 0
    for length in pc.fill_null(pc.list_value_length(lists), 0).to_pylist():
        quantities.append(dict(sorted(pairs[start : start + length])))
        start += length
    calls, *others = map(_integers, sums)
    return map(ReportMeasures, calls, quantities, *others)


def _integers(column: pa.Array) -> list[int]:
    if not pa.types.is_int64(column.type):
        # Decimals, which numbers of 128 bits come as.
        return list(map(int, column.to_pylist()))
    if not len(column):
        return []
    # From the buffer itself, which is many times as fast as a scalar each. There are no nulls.
    numbers = memoryview(column.buffers()[1]).cast("q")
    return numbers[column.offset : column.offset + len(column)].tolist()
