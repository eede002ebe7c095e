# SPDX-License-Identifier: Apache-2.0
"""Recorded usage priced again: what it costs by another card than the one it was charged by. Changes nothing.

Everything is priced by the compiled cards, entry by entry, because conditions look at whole calls and each line is
rounded by itself; sums are exact. Memory is bounded by a batch of rows and by what the database may take.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from taximeter_server import _native
from taximeter_server.errors import CostOutOfRangeError, TooMuchUsageError
from taximeter_server.ledger import LedgerSource
from taximeter_server.ledger_directory import LedgerDirectory
from taximeter_server.ledger_usage import UsageBatch, UsageReader
from taximeter_server.percent import change_percent
from taximeter_server.report_query import ReportQuery

DURATION_S_MAX = 600
"""A comparison ends after this long at the latest: well before files that it reads may be removed."""

_PRICED_COLUMNS = (
    *("entry", "tenant", "model", "provider", "tier", "region", "speed"),
    *("occur_time_us", "calls", "usage_class", "quantity"),
)
_COMPARED_COLUMNS = (
    *("entry", "tenant", "model", "calls"),
    *("cost_a_picos", "cost_b_picos", "unpriced_a", "unpriced_b"),
)
_FETCH_ROWS = 1_000

PriceRows = Callable[[_native.RateCard, bytes], bytes]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Exact sums. tenant is "" and model None in the total; a model of None is usage without a model."""

    tenant: str
    model: str | None
    calls: int
    changed_records: int
    cost_a_picos: int
    cost_b_picos: int
    unpriced_lines_a: int
    unpriced_lines_b: int

    @property
    def difference_percent(self) -> str:
        """By how many per cent the cost changes, "" where it was 0."""
        return change_percent(self.cost_a_picos, self.cost_b_picos)


@dataclass(frozen=True, slots=True)
class CompareQuery:
    """Which usage. usage.group_by and filters are not looked at. only_unpriced: lines that have no price until now."""

    usage: ReportQuery
    only_unpriced: bool = False


class CardComparer:
    """Compares cards over one ledger. Thread-safe."""

    def __init__(
        self,
        source: LedgerSource,
        directory: LedgerDirectory,
        *,
        price_rows: PriceRows,
        database: duckdb.DuckDBPyConnection,
    ) -> None:
        """price_rows: Engine.price_rows."""
        self._price_rows = price_rows
        self._source = source
        self._directory = directory
        self._database = database

    @contextlib.contextmanager
    def open(self, query: CompareQuery) -> Iterator["CardRun"]:
        """Begin a run over the usage of query."""
        with (
            contextlib.closing(self._database.cursor()) as reading,
            contextlib.closing(self._database.cursor()) as summing,
        ):
            reader = UsageReader(reading, query.usage)
            batches = partial(reader.read, self._source, self._directory)
            yield CardRun(reader, Sums(summing), batches, self._price_rows, query)


class CardRun:
    """One pass over usage, and the sums that come of it."""

    def __init__(
        self,
        reader: UsageReader,
        sums: "Sums",
        batches: Callable[..., Iterator[UsageBatch]],
        price_rows: PriceRows,
        query: CompareQuery,
    ) -> None:
        self.reader = reader
        self.sums = sums
        self._batches = batches
        self._price_rows = price_rows
        self._query = query

    def compare(self, card_a: _native.RateCard | None, card_b: _native.RateCard) -> Iterator[int]:
        """Yield the number of records read so far. card_a: None compares with what was charged.

        Raises CostOutOfRangeError, TooMuchUsageError.
        """
        records_read = 0
        for batch, priced_b in self.price(card_b):
            priced_a = None if card_a is None else self._price_batch(card_a, batch, "card_a")
            self.sums.add(self.kept(compared(batch.rows, priced_a, priced_b), batch.rows))
            records_read += batch.entry_count
            yield records_read

    def price(
        self, card: _native.RateCard, *, field: str = "card_b", with_entry: bool = False
    ) -> Iterator[tuple[UsageBatch, pa.Table]]:
        """Yield the usage and, row by row, what Engine.price_rows answers for it."""
        deadline_s = time.monotonic() + DURATION_S_MAX
        for batch in self._batches(with_entry=with_entry):
            yield batch, self._price_batch(card, batch, field)
            if time.monotonic() > deadline_s:
                raise TooMuchUsageError(DURATION_S_MAX)

    def kept(self, rows: pa.Table, usage: pa.Table) -> pa.Table:
        """Return the rows that the query asks for."""
        return rows.filter(usage["charged_unpriced"]) if self._query.only_unpriced else rows

    def _price_batch(self, card: _native.RateCard, batch: UsageBatch, field: str) -> pa.Table:
        """Price whole entries. Raises CostOutOfRangeError that names the record."""
        rows = batch.rows.select(_PRICED_COLUMNS)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, rows.schema) as writer:
            writer.write_table(rows)
        try:
            priced = self._price_rows(card, sink.getvalue().to_pybytes())
        except OverflowError as error:
            row = pc.index(batch.rows["entry"], error.args[1]).as_py()
            record_id = batch.rows["record_id"][row].as_py()
            raise CostOutOfRangeError(field, batch.rows["tenant"][row].as_py(), record_id) from None
        return pa.ipc.open_stream(priced).read_all()


def compared(usage: pa.Table, priced_a: pa.Table | None, priced_b: pa.Table) -> pa.Table:
    """Return the columns that Sums takes. priced_a: None for what was charged."""
    cost_a = usage["charged_picos"] if priced_a is None else priced_a["cost_picos"]
    unpriced_a = usage["charged_unpriced"] if priced_a is None else priced_a["unpriced"]
    columns = [usage[name] for name in ("entry", "tenant", "model", "calls")]
    columns += [cost_a, priced_b["cost_picos"], unpriced_a, priced_b["unpriced"]]
    return pa.table(dict(zip(_COMPARED_COLUMNS, columns, strict=True)))


class Sums:
    """Adds up batches by tenant and model, in a connection of its own."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        connection.execute(
            "CREATE TEMP TABLE parts (tenant VARCHAR, model VARCHAR, calls HUGEINT, changed_records HUGEINT,"
            " cost_a_picos HUGEINT, cost_b_picos HUGEINT, unpriced_lines_a HUGEINT, unpriced_lines_b HUGEINT)"
        )

    def add(self, rows: pa.Table) -> None:
        """Add the rows of whole entries, or of the part of each that counts."""
        self._connection.register("chunk", rows)
        self._connection.execute(
            "INSERT INTO parts SELECT tenant, model, sum(calls), count(*) FILTER (changed), sum(cost_a), sum(cost_b),"
            " sum(unpriced_a), sum(unpriced_b) FROM (SELECT tenant, model, any_value(calls) AS calls,"
            " bool_or(cost_a_picos <> cost_b_picos OR unpriced_a <> unpriced_b) AS changed,"
            " sum(cost_a_picos) AS cost_a, sum(cost_b_picos) AS cost_b, count(*) FILTER (unpriced_a) AS unpriced_a,"
            " count(*) FILTER (unpriced_b) AS unpriced_b FROM chunk GROUP BY entry, tenant, model)"
            " GROUP BY tenant, model"
        )
        self._connection.unregister("chunk")

    def rows(self) -> Iterator[Comparison]:
        """Yield the sums by tenant and model, in this order; usage without a model first."""
        cursor = self._connection.execute(
            f"SELECT tenant, model, {_SUMMED} FROM parts GROUP BY ALL ORDER BY tenant, model NULLS FIRST"  # noqa: S608
        )
        while found := cursor.fetchmany(_FETCH_ROWS):
            yield from (Comparison(*values) for values in found)

    def total(self) -> Comparison:
        """Return the sums of everything."""
        (values,) = self._connection.execute(f"SELECT {_SUMMED} FROM parts").fetchall()  # noqa: S608
        return Comparison("", None, *values)


_SUMMED = ", ".join(
    f"coalesce(sum({name}), 0)"
    for name in (
        *("calls", "changed_records", "cost_a_picos", "cost_b_picos"),
        *("unpriced_lines_a", "unpriced_lines_b"),
    )
)
