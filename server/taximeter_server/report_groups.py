# SPDX-License-Identifier: Apache-2.0
"""The temporary table groups of a report, which its statement has filled: read in parts, as rows of the report."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa

from taximeter_server.report_as_of import AsOf
from taximeter_server.report_columns import ReportColumns
from taximeter_server.report_dimensions import Dimension
from taximeter_server.report_query import ReportMeasures, ReportRow
from taximeter_server.report_sql import COMPARED, SUMS, rest_statement, total_quantities

_FETCH_ROWS = 10_000
"""Rows asked for at once: an answer that nobody has fetched yet is held in memory as a whole."""


@dataclass(frozen=True, slots=True)
class ReportGroups:
    """The table groups of a connection, made by one of the statements of report_sql."""

    connection: duckdb.DuckDBPyConnection
    dimensions: Sequence[Dimension]
    as_of: AsOf

    def page(self, first: int, last: int, *, is_compared: bool) -> ReportColumns:
        """Return the rows of groups_statement from position first to last."""
        dimensions = [f"d{index}" for index in range(len(self.dimensions))]
        return self._columns(
            (*dimensions, "is_other"),
            lambda prefix: (f"{prefix}quantities", *(f"{prefix}{name}" for name in SUMS)),
            "WHERE position BETWEEN $first AND $last ORDER BY position",
            {"first": first, "last": last},
            is_compared=is_compared,
        )

    def total(self, *, is_compared: bool) -> ReportColumns:
        """Sum the rows of groups_statement, so that the total is the sum of its parts whatever they count: one row."""
        return self._columns(
            ("false AS is_other",),
            lambda prefix: (
                total_quantities(prefix),
                *(f"coalesce(sum({prefix}{name}), 0)" for name in SUMS),
            ),
            "",
            {},
            is_compared=is_compared,
        )

    def _columns(
        self,
        columns: Sequence[str],
        measures: Callable[[str], Sequence[str]],
        rest: str,
        parameters: dict[str, object],
        *,
        is_compared: bool,
    ) -> ReportColumns:
        """Return columns of groups, and what measures says for quantities and SUMS of each interval."""

        def read(number_type: str) -> pa.Table:
            selected = list(columns)
            for prefix in ("", COMPARED) if is_compared else ("",):
                quantities, *sums = measures(prefix)
                parts = f"STRUCT(usage_class VARCHAR, quantity {number_type})[]"
                selected.append(f"({quantities})::{parts} AS {prefix}quantities")
                selected += [
                    f"({sql})::{number_type} AS {prefix}{name}" for name, sql in zip(SUMS, sums, strict=True)
                ]
            sql = f"SELECT {', '.join(selected)} FROM groups {rest}"  # noqa: S608 (names of ours)
            return self.connection.sql(sql, params=parameters).to_arrow_table()

        try:
            # Numbers of 128 bits take many times as long to become anything else.
            table = read("BIGINT")
        except duckdb.ConversionException:
            table = read("HUGEINT")
        return ReportColumns.of(table, self.dimensions if len(columns) > 1 else (), is_compared=is_compared)

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
