# SPDX-License-Identifier: Apache-2.0
"""What the archiver has not taken away yet, as a relation: the rows and columns that a query needs, and no others."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from taximeter_server.ledger import SCHEMA, LedgerSource, StreamId
from taximeter_server.ledger_rows import TYPES
from taximeter_server.report_query import ReportQuery
from taximeter_server.tenant_path import is_within

PLACE_COLUMNS = ("partition", "stream_ms", "stream_seq")
"""Those that tell entries apart; a tail always has them."""

_PART, _TABLE = "tail_part", "tail_table"
_NOT_ARCHIVED = (
    "NOT EXISTS (FROM tail_archived AS archived WHERE archived.partition = entries.partition"
    " AND (stream_ms < archived.ms OR (stream_ms = archived.ms AND stream_seq <= archived.seq)))"
)


@dataclass(frozen=True, slots=True)
class Tail:
    """The view tail of a connection. last_ids: of what was read, by partition. has_rows: whether there are any.

    relation: all that was read.
    """

    last_ids: Mapping[int, StreamId]
    has_rows: bool
    relation: str

    def drop_archived(
        self, connection: duckdb.DuckDBPyConnection, watermarks: Mapping[int, StreamId]
    ) -> None:
        """Leave out entries up to the watermarks of partitions."""
        places = pa.table(
            {
                "partition": pa.array(watermarks, pa.int16()),
                "ms": pa.array([one.ms for one in watermarks.values()], pa.int64()),
                "seq": pa.array([one.seq for one in watermarks.values()], pa.int64()),
            }
        )
        connection.register("tail_archived", places)
        _make_view(connection, f"FROM {self.relation} AS entries WHERE {_NOT_ARCHIVED}")


def read_tail(
    connection: duckdb.DuckDBPyConnection,
    source: LedgerSource,
    query: ReportQuery,
    spans: Mapping[int, tuple[StreamId, StreamId]],
    columns: Collection[str],
) -> Tail:
    """Make the view tail: rows of entries within the query's intervals and of its tenants, with these columns.

    spans: by partition the last entry before those to read, and the last of them.
    """
    names = [name for name in SCHEMA.names if name in columns or name in PLACE_COLUMNS]
    last_ids = {partition: after for partition, (after, _) in spans.items()}
    tenants = _tenants(query)

    def read_part() -> tuple[pa.Table, bool]:
        asked = [
            (partition, str(last_ids[partition]), str(through))
            for partition, (_, through) in spans.items()
            if last_ids[partition] < through
        ]
        ipc, reached, is_whole = source.read_tail(
            asked, columns=names, intervals_us=query.intervals_us, tenants=tenants
        )
        for (partition, _, _), last_id in zip(asked, reached, strict=True):
            last_ids[partition] = StreamId.parse(last_id)
        return pa.ipc.open_stream(ipc).read_all(), is_whole

    rows, is_whole = read_part()
    row_count = rows.num_rows
    if is_whole and row_count:
        connection.register(_PART, rows)
        _make_view(connection, f"FROM {_PART}")
        return Tail(last_ids, has_rows=True, relation=_PART)
    # Into a table of the database rather than kept in memory: a tail that the archiver could not take away for a day
    # must not exhaust the memory of the server. So is nothing, because an empty table of Arrow's takes longer.
    types = ", ".join(f"{name} {TYPES[name]}" for name in names)
    connection.execute(f"CREATE OR REPLACE TEMP TABLE {_TABLE} ({types})")
    _insert(connection, rows)
    while not is_whole:
        rows, is_whole = read_part()
        row_count += rows.num_rows
        _insert(connection, rows)
    _make_view(connection, f"FROM {_TABLE}")
    return Tail(last_ids, has_rows=row_count > 0, relation=_TABLE)


def _insert(connection: duckdb.DuckDBPyConnection, rows: pa.Table) -> None:
    if rows.num_rows:
        connection.register(_PART, rows)
        connection.execute(f"INSERT INTO {_TABLE} FROM {_PART}")
        connection.unregister(_PART)


def _make_view(connection: duckdb.DuckDBPyConnection, statement: str) -> None:
    connection.execute(f"CREATE OR REPLACE TEMP VIEW tail AS {statement}")


def _tenants(query: ReportQuery) -> list[str] | None:
    """Return the paths that have, with what is below them, all that the query wants; None for everything."""
    readable = query.readable_tenants
    if readable is None:
        return [query.tenant] if query.tenant else None
    if not query.tenant:
        return list(readable)
    if any(is_within(query.tenant, path) for path in readable):
        return [query.tenant]
    return [path for path in readable if is_within(path, query.tenant)]
