# SPDX-License-Identifier: Apache-2.0
"""One consistent view of the ledger: every entry up to an instant, each exactly once, while the archiver runs.

The order of steps makes it so. An instant is chosen by the store's clock and waited out, so that no entry of that
millisecond can still appear. The tail of the streams is read first and the manifest second: an entry that the
archiver takes away in between was in the tail, or is in the manifest, or both; and what is in both is dropped from
the tail by the manifest's watermark.
"""

import contextlib
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from taximeter_server.ledger import PARTITION_COUNT, SCHEMA, LedgerSource, StreamId, partition_of, read_rows
from taximeter_server.ledger_directory import LedgerDirectory
from taximeter_server.ledger_manifest import Manifest
from taximeter_server.report_query import ReportQuery

READ_ENTRIES_MAX = 5_000
"""Entries of one answer of the engine."""

_INSERT_ROWS = 100_000
_CLOCK_WAIT_SECONDS = 0.0005


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The rows of the temporary table tail, and of files with stream_ms up to as_of_time_ms."""

    as_of_time_ms: int
    files: tuple[str, ...]


def relevant_partitions(query: ReportQuery) -> tuple[int, ...]:
    """Return the partitions in which the query's tenants can be."""
    if query.tenant:
        return (partition_of(query.tenant),)
    if query.readable_tenants is not None:
        return tuple(sorted({partition_of(tenant) for tenant in query.readable_tenants}))
    return tuple(range(PARTITION_COUNT))


def settled_time_ms(source: LedgerSource) -> int:
    """Return a time of the store's clock that has passed: whatever is recorded from now on is later."""
    as_of_ms = source.store_time_ms()
    while (now_ms := source.store_time_ms()) <= as_of_ms:
        # A clock that was set back meanwhile would keep us here for as long as it was set back.
        as_of_ms = min(as_of_ms, now_ms)
        time.sleep(_CLOCK_WAIT_SECONDS)
    return as_of_ms


def take_snapshot(
    connection: duckdb.DuckDBPyConnection,
    source: LedgerSource,
    directory: LedgerDirectory,
    query: ReportQuery,
    *,
    as_of_time_ms: int | None,
) -> Snapshot:
    """Fill the temporary table tail of connection and choose the files that the query needs.

    as_of_time_ms: that of an earlier snapshot, to see the same again; None for now.
    """
    if as_of_time_ms is None:
        as_of_ms = settled_time_ms(source)
        is_fixed = False
    else:
        as_of_ms = as_of_time_ms
        is_fixed = True
    while True:
        first_manifest = directory.read_manifest()
        last_ids = _read_tail(connection, source, query, first_manifest, as_of_ms)
        manifest = directory.read_manifest()
        newest_ms = max(stream_id.ms for stream_id in (*last_ids, *manifest.watermarks))
        # Ids never go back, so after the store's clock was set back they run ahead of it. Then the newest of them is
        # "now": a report must hold what was recorded before it. Its later pages may hold more until the clock has
        # caught up, which only then is unavoidable.
        if is_fixed or newest_ms <= as_of_ms or newest_ms <= source.store_time_ms():
            break
        as_of_ms = newest_ms
    _drop_from_tail(connection, manifest, as_of_ms)
    files = tuple(
        directory.absolute(file.path)
        for file in manifest.files
        if file.stream_ms_min <= as_of_ms
        and file.occur_time_us_min < query.end_time_us
        and file.occur_time_us_max >= query.start_time_us
    )
    return Snapshot(as_of_ms, files)


def _read_tail(
    connection: duckdb.DuckDBPyConnection,
    source: LedgerSource,
    query: ReportQuery,
    manifest: Manifest,
    as_of_ms: int,
) -> list[StreamId]:
    """Read entries after the manifest's watermarks into the table tail. Returns the last id read, by partition."""
    with _registered(connection, SCHEMA.empty_table()):
        connection.execute("CREATE OR REPLACE TEMP TABLE tail AS FROM chunk")
    last_ids = []
    pending: list[pa.Table] = []
    for partition in relevant_partitions(query):
        last_id = manifest.watermarks[partition]
        while last_id.ms <= as_of_ms:
            ipc, last_text, entry_count = source.read_ledger(
                partition, after_id=str(last_id), count_max=READ_ENTRIES_MAX
            )
            if entry_count:
                pending.append(read_rows(ipc))
                last_id = StreamId.parse(last_text)
            if sum(table.num_rows for table in pending) >= _INSERT_ROWS:
                _insert(connection, pending, query)
                pending = []
            if entry_count < READ_ENTRIES_MAX:
                break
        last_ids.append(last_id)
    if pending:
        _insert(connection, pending, query)
    return last_ids


def _insert(connection: duckdb.DuckDBPyConnection, tables: Iterable[pa.Table], query: ReportQuery) -> None:
    # Into a table of the database rather than kept in memory: a tail that the archiver could not take away for a
    # day must not exhaust the memory of the server.
    with _registered(connection, pa.concat_tables(tables)):
        connection.execute(
            "INSERT INTO tail FROM chunk WHERE occur_time_us >= $start AND occur_time_us < $end",
            {"start": query.start_time_us, "end": query.end_time_us},
        )


def _drop_from_tail(connection: duckdb.DuckDBPyConnection, manifest: Manifest, as_of_ms: int) -> None:
    watermarks = pa.table(
        {
            "partition": pa.array(range(PARTITION_COUNT), pa.int16()),
            "ms": pa.array([watermark.ms for watermark in manifest.watermarks], pa.int64()),
            "seq": pa.array([watermark.seq for watermark in manifest.watermarks], pa.int64()),
        }
    )
    with _registered(connection, watermarks):
        connection.execute(
            "DELETE FROM tail USING chunk WHERE tail.partition = chunk.partition"
            " AND (stream_ms < ms OR (stream_ms = ms AND stream_seq <= seq))"
        )
    connection.execute("DELETE FROM tail WHERE stream_ms > $as_of", {"as_of": as_of_ms})


@contextlib.contextmanager
def _registered(connection: duckdb.DuckDBPyConnection, table: pa.Table) -> Iterator[None]:
    """Make an Arrow table visible as the relation chunk."""
    connection.register("chunk", table)
    try:
        yield
    finally:
        connection.unregister("chunk")
