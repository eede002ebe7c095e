# SPDX-License-Identifier: Apache-2.0
"""Recorded usage, entry by entry, with what each line has been charged until now: what is priced again.

A line's charge is what was recorded and every adjustment of it since. Corrections carry the time of their record, so
an interval has a record with all that was ever charged for it. A record that was amended is what it was amended to; one
that was taken back is not usage any more.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from taximeter_server.ledger import KIND_ADJUSTMENT, KIND_USAGE, LedgerSource
from taximeter_server.ledger_directory import LedgerDirectory
from taximeter_server.ledger_rows import rows_of_files
from taximeter_server.report_conditions import conditions
from taximeter_server.report_dimensions import Parameters
from taximeter_server.report_query import ReportQuery
from taximeter_server.report_snapshot import Snapshot, take_snapshot
from taximeter_server.report_tail import PLACE_COLUMNS

BATCH_ROWS = 100_000
"""Rows held in memory at once, and as many again while they are priced."""

FILES_PER_STATEMENT = 16

_DIMENSIONS = ("model", "provider", "tier", "region", "speed")
_RECORD = ("tenant", "record_id", "occur_time_us")
ENTRY_COLUMNS = ("attributes", "quality")
"""Columns that only adjustments need, because they repeat what their record says."""


@dataclass(frozen=True, slots=True)
class UsageBatch:
    """Rows of whole entries, those of an entry together.

    Columns: entry (number that tells entries of the batch apart), those of ledger.SCHEMA that name the entry and its
    dimensions, calls (the entry's), usage_class, quantity, charged_picos, charged_list_picos and charged_unpriced
    (adjustments included), adjustment_count (of the entry), credit_moves (a list, as in ledger.SCHEMA, adjustments
    included).
    """

    rows: pa.Table
    entry_count: int


class UsageReader:
    """Reads usage of one snapshot of a ledger through one connection."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, query: ReportQuery) -> None:
        """connection: a cursor that nothing else uses meanwhile."""
        self._connection = connection
        self._query = query
        self.as_of_time_ms = 0

    def read(
        self, source: LedgerSource, directory: LedgerDirectory, *, with_entry: bool = False
    ) -> Iterator[UsageBatch]:
        """Yield everything recorded until now. with_entry: with ENTRY_COLUMNS, too."""
        snapshot = take_snapshot(
            self._connection, source, directory, self._query, as_of=None, is_with_rollups=False
        )
        self.as_of_time_ms = snapshot.as_of.time_ms
        self._sum_adjustments(snapshot)
        columns = (*PLACE_COLUMNS, *_RECORD, *_DIMENSIONS, *(ENTRY_COLUMNS if with_entry else ()))
        paths = sorted(snapshot.files)
        for first in range(0, len(paths), FILES_PER_STATEMENT):
            parameters = Parameters()
            files = parameters.add(paths[first : first + FILES_PER_STATEMENT])
            yield from self._batches(f"({rows_of_files(files)})", columns, parameters)
        yield from self._batches("tail", columns, Parameters())
        yield from self._corrected(snapshot, columns)

    def _sum_adjustments(self, snapshot: Snapshot) -> None:
        """Fill the temporary tables adjusted_lines, adjusted_records and corrected."""
        parameters = Parameters()
        record = "tenant, adjusted_record_id AS record_id, occur_time_us"
        sums = (
            "sum(cost_picos)::BIGINT AS picos, sum(list_cost_picos)::BIGINT AS list_picos,"
            " bool_or(prices_unpriced) AS priced, count(DISTINCT entries.record_id) AS adjustment_count,"
            " list(credit_moves) AS moves"
        )
        everything, kept = _everything(snapshot, parameters), self._conditions(parameters)
        rows = f"(SELECT * FROM ({everything}) WHERE kind = {KIND_ADJUSTMENT} AND {kept})"  # noqa: S608
        self._connection.execute(
            f"CREATE OR REPLACE TEMP TABLE corrected AS SELECT DISTINCT {record} FROM ({everything})"  # noqa: S608
            f" WHERE kind > {KIND_ADJUSTMENT} AND {kept}",
            parameters.values,
        )
        for table, keys in (("adjusted_lines", f"{record}, usage_class"), ("adjusted_records", record)):
            self._connection.execute(
                f"CREATE OR REPLACE TEMP TABLE {table} AS SELECT {keys}, {sums} FROM {rows} AS entries GROUP BY ALL",  # noqa: S608
                parameters.values,
            )

    def _conditions(self, parameters: Parameters) -> str:
        interval = (
            f"occur_time_us >= {parameters.add(self._query.start_time_us)}",
            f"occur_time_us < {parameters.add(self._query.end_time_us)}",
        )
        return " AND ".join((*interval, *conditions(self._query, parameters)))

    def _batches(self, relation: str, columns: Sequence[str], parameters: Parameters) -> Iterator[UsageBatch]:
        selected = ", ".join(f"rows.{name}" for name in columns)
        on_record = " AND ".join(f"rows.{name} = adjusted_records.{name}" for name in _RECORD)
        on_line = " AND ".join(f"rows.{name} = adjusted_lines.{name}" for name in (*_RECORD, "usage_class"))
        statement = f"""
            SELECT {selected}, entry_calls AS calls, rows.usage_class, quantity,
                cost_picos + coalesce(adjusted_lines.picos, 0) AS charged_picos,
                list_cost_picos + coalesce(adjusted_lines.list_picos, 0) AS charged_list_picos,
                unpriced AND NOT coalesce(adjusted_lines.priced, false) AS charged_unpriced,
                coalesce(adjusted_records.adjustment_count, 0) AS adjustment_count,
                list_prepend(credit_moves, coalesce(adjusted_lines.moves, [])) AS credit_moves
            FROM (
                SELECT * FROM {relation} AS entries WHERE kind = {KIND_USAGE} AND {self._conditions(parameters)}
                    AND NOT EXISTS (SELECT 1 FROM corrected WHERE {_same_record("entries.record_id")})
            ) AS rows
            LEFT JOIN adjusted_records ON {on_record}
            LEFT JOIN adjusted_lines ON {on_line}
            ORDER BY {", ".join(f"rows.{name}" for name in PLACE_COLUMNS)}
        """  # noqa: S608 (names of ours)
        reader = self._connection.sql(statement, params=parameters.values).to_arrow_reader(BATCH_ROWS)
        with contextlib.closing(reader):
            yield from _whole_entries(reader)

    def _corrected(self, snapshot: Snapshot, columns: Sequence[str]) -> Iterator[UsageBatch]:
        """Yield the records that were amended, as what they are now."""
        parameters = Parameters()
        everything = _everything(snapshot, parameters)
        said = ", ".join(
            f"any_value({name}) FILTER (kind = {KIND_USAGE}) AS {name}"
            for name in columns
            if name not in _RECORD
        )
        record = ", ".join(_RECORD)
        original_id = "coalesce(entries.adjusted_record_id, entries.record_id)"
        statement = f"""
            WITH entries AS (
                SELECT entries.* REPLACE ({original_id} AS record_id), entries.record_id AS entry_id
                FROM ({everything}) AS entries WHERE {self._conditions(parameters)}
                    AND EXISTS (SELECT 1 FROM corrected WHERE {_same_record(original_id)})
            ), heads AS (
                SELECT {record}, {said}, sum(calls)::BIGINT AS calls,
                    count(DISTINCT entry_id) FILTER (kind <> {KIND_USAGE}) AS adjustment_count
                FROM entries GROUP BY {record}
            ), lines AS (
                SELECT {record}, usage_class, sum(quantity)::BIGINT AS quantity,
                    sum(cost_picos)::BIGINT AS charged_picos, sum(list_cost_picos)::BIGINT AS charged_list_picos,
                    count_if(unpriced) > count_if(prices_unpriced) AS charged_unpriced,
                    list(credit_moves) AS credit_moves
                FROM entries WHERE usage_class IS NOT NULL
                GROUP BY {record}, usage_class HAVING sum(quantity) <> 0 OR sum(cost_picos) <> 0
            )
            SELECT {", ".join(columns)}, calls, usage_class, quantity, charged_picos, charged_list_picos,
                charged_unpriced, adjustment_count, credit_moves
            FROM heads JOIN lines USING ({record}) ORDER BY {", ".join(PLACE_COLUMNS)}
        """  # noqa: S608 (names of ours)
        reader = self._connection.sql(statement, params=parameters.values).to_arrow_reader(BATCH_ROWS)
        with contextlib.closing(reader):
            yield from _whole_entries(reader)


def _everything(snapshot: Snapshot, parameters: Parameters) -> str:
    """Return the statement for all rows of a snapshot."""
    if not snapshot.files:
        return "SELECT * FROM tail"
    files = rows_of_files(parameters.add(sorted(snapshot.files)))
    return f"(SELECT * FROM tail) UNION ALL ({files})"  # noqa: S608 (names of ours)


def _same_record(record_id: str) -> str:
    return (
        f"corrected.tenant = entries.tenant AND corrected.record_id = {record_id}"
        " AND corrected.occur_time_us = entries.occur_time_us"
    )


def _whole_entries(batches: pa.RecordBatchReader) -> Iterator[UsageBatch]:
    """Cut batches between entries rather than within one."""
    rest: pa.Table | None = None
    for batch in batches:
        if batch.num_rows == 0:
            continue
        table = pa.Table.from_batches([batch])
        if rest is not None:
            table = pa.concat_tables([rest, table])
        numbers = _entry_numbers(table)
        last = pc.index(numbers, numbers[-1]).as_py()
        if last > 0:
            yield _to_batch(table.slice(0, last), numbers.slice(0, last))
        rest = table.slice(last)
    if rest is not None:
        yield _to_batch(rest, _entry_numbers(rest))


def _to_batch(table: pa.Table, numbers: pa.Array) -> UsageBatch:
    rows = table.append_column("entry", numbers).combine_chunks()
    return UsageBatch(rows, numbers[-1].as_py() + 1)


def _entry_numbers(table: pa.Table) -> pa.Array:
    """Number the entries from 0: a row of another place than the one before begins the next."""
    count = table.num_rows
    begins = pa.array([False] * (count - 1), pa.bool_())
    for name in PLACE_COLUMNS:
        column = table[name].combine_chunks()
        begins = pc.or_(begins, pc.not_equal(column.slice(1), column.slice(0, count - 1)))
    ones = pa.concat_arrays([pa.array([0], pa.int64()), pc.cast(begins, pa.int64())])
    return pc.cumulative_sum(ones)
