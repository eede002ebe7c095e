# SPDX-License-Identifier: Apache-2.0
"""A report as Apache Parquet: one row per group, exact numbers, memory that does not grow with the file."""

import decimal
import itertools
from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from taximeter_server.report_csv import CHUNK_BYTES_MAX
from taximeter_server.report_query import ReportRow

ROW_GROUP_ROWS = 20_000
"""Held in memory at once, as columns."""
_BATCH_ROWS = 2_000
"""Held in memory at once as Python's numbers, which take many times as much."""

_WIDE = pa.decimal128(38, 0)
_MONEY = pa.decimal128(38, 12)
_EXACT = decimal.Context(prec=60)
_MEASURES = (
    ("calls", _WIDE),
    ("quantities", pa.map_(pa.string(), _WIDE)),
    ("cost", _MONEY),
    ("list_cost", _MONEY),
    ("adjustment_cost", _MONEY),
    ("unpriced_lines", _WIDE),
    ("adjusted_unpriced_lines", _WIDE),
    ("credit_microcredits", _WIDE),
    ("overdrawn_microcredits", _WIDE),
    ("currency_code", pa.string()),
    ("is_other", pa.bool_()),
)


def parquet_chunks(
    rows: Iterable[ReportRow], *, group_by: Sequence[str], currency_code: str
) -> Iterator[bytes]:
    """Yield the file in pieces of at most CHUNK_BYTES_MAX bytes."""
    schema = pa.schema([*((name, pa.string()) for name in group_by), *_MEASURES])
    sink = _Sink()
    with pq.ParquetWriter(pa.PythonFile(sink, mode="w"), schema, compression="zstd") as writer:
        remaining = iter(rows)
        batches = iter(lambda: _batch(itertools.islice(remaining, _BATCH_ROWS), schema, currency_code), None)
        while group := list(itertools.islice(batches, ROW_GROUP_ROWS // _BATCH_ROWS)):
            writer.write_table(pa.Table.from_batches(group))
            yield from sink.take()
    yield from sink.take()


def _batch(rows: Iterable[ReportRow], schema: pa.Schema, currency_code: str) -> pa.RecordBatch | None:
    """Return rows as columns; None for no rows."""
    columns = list(zip(*(_values(row, currency_code) for row in rows), strict=True))
    if not columns:
        return None
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _values(row: ReportRow, currency_code: str) -> tuple[object, ...]:
    measures = row.measures
    return (
        *row.group,
        decimal.Decimal(measures.calls),
        [(name, decimal.Decimal(quantity)) for name, quantity in sorted(measures.quantities.items())],
        _money(measures.cost_picos),
        _money(measures.list_cost_picos),
        _money(measures.adjustment_picos),
        decimal.Decimal(measures.unpriced_lines),
        decimal.Decimal(measures.adjusted_unpriced_lines),
        decimal.Decimal(measures.credit_microcredits),
        decimal.Decimal(measures.overdrawn_microcredits),
        currency_code,
        row.is_other,
    )


def _money(picos: int) -> decimal.Decimal:
    return decimal.Decimal(picos).scaleb(-12, _EXACT)


class _Sink:
    """A file that is taken away while it is written."""

    closed = False

    def __init__(self) -> None:
        self._pending = bytearray()

    def write(self, data: bytes) -> int:
        self._pending += data
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """What was written can still be taken."""

    def take(self) -> Iterator[bytes]:
        pending, self._pending = bytes(self._pending), bytearray()
        for start in range(0, len(pending), CHUNK_BYTES_MAX):
            yield pending[start : start + CHUNK_BYTES_MAX]
