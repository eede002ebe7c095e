# SPDX-License-Identifier: Apache-2.0
"""Rows of a report by columns, as the database has them: to make a value of each number takes longer than the sums."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from taximeter_server.report_dimensions import Dimension
from taximeter_server.report_query import ReportMeasures, ReportRow
from taximeter_server.report_sql import SUMS


@dataclass(frozen=True, slots=True)
class ReportColumns:
    """table: d0 and so on (texts), is_other, quantities (lists of usage_class and quantity, in no order), SUMS.

    With is_compared, quantities and SUMS follow again with report_sql.COMPARED before their names. Numbers are int64
    or, all of them, decimals where 64 bits do not do.
    """

    table: pa.Table
    dimension_count: int
    is_compared: bool

    @classmethod
    def of(cls, table: pa.Table, dimensions: Sequence[Dimension], *, is_compared: bool) -> "ReportColumns":
        """Write the values of the dimensions, the first columns of a table, as the report has them."""
        for index, one in enumerate(dimensions):
            column = table.column(index)
            if not pa.types.is_string(column.type):
                written = pa.array(one.write_all(column.to_pylist()), pa.string())
                table = table.set_column(index, table.column_names[index], written)
        return cls(table, len(dimensions), is_compared)

    @property
    def has_wide_numbers(self) -> bool:
        """Return whether some number needs more than 64 bits."""
        return not pa.types.is_int64(self.table["calls"].type)

    def first(self, count: int) -> "ReportColumns":
        """Return the first rows."""
        return ReportColumns(self.table.slice(0, count), self.dimension_count, self.is_compared)

    def to_ipc(self) -> bytes:
        """Return the table as an Arrow IPC stream."""
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, self.table.schema) as writer:
            writer.write_table(self.table)
        return bytes(sink.getvalue())

    def rows(self) -> Iterator[ReportRow]:
        """Yield the rows as values."""
        # Column by column: a row at a time, this takes longer than the database for all of them.
        count = self.dimension_count
        columns = [self.table[name].combine_chunks() for name in self.table.column_names]
        written = [column.to_pylist() for column in columns[:count]]
        groups = zip(*written, strict=True) if written else [()] * self.table.num_rows
        is_other, measured = columns[count].to_pylist(), columns[count + 1 :]
        own = _measures_of(measured[: 1 + len(SUMS)])
        compared = (
            _measures_of(measured[1 + len(SUMS) :]) if self.is_compared else [None] * self.table.num_rows
        )
        return map(ReportRow, groups, own, compared, is_other)


@dataclass(frozen=True, slots=True)
class ReportColumnsPage:
    """A ReportPage by columns. total: one row without a group."""

    rows: ReportColumns
    next_page_token: str
    total: ReportColumns
    as_of_time_ms: int
    as_of: str


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
