# SPDX-License-Identifier: Apache-2.0
"""A record with everything that corrected it since: found by its id, in the files and in the streams."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb

from taximeter_server.errors import RecordUnknownError
from taximeter_server.ledger import KIND_USAGE, LedgerSource
from taximeter_server.ledger_directory import LedgerDirectory
from taximeter_server.ledger_rows import rows_of_files
from taximeter_server.report_conditions import conditions
from taximeter_server.report_dimensions import Parameters
from taximeter_server.report_query import ReportQuery
from taximeter_server.report_snapshot import Snapshot, take_snapshot

RECORDS_MAX = 100
"""Records of one id that are found: tenants may share ids, and time can bring one back."""

_TIME_US_MAX = 2**62
_ROWS_MAX = 100_000

Row = Mapping[str, Any]
"""A row of the ledger by column."""


@dataclass(frozen=True, slots=True)
class RecordEntries:
    """rows: of the record. corrections: rows of each, oldest first."""

    rows: tuple[Row, ...]
    corrections: tuple[tuple[Row, ...], ...]

    @property
    def record(self) -> Row:
        """Any row of the record: what it says once."""
        return self.rows[0]

    @property
    def all_rows(self) -> list[Row]:
        """Rows of the record and of everything that corrected it."""
        return [*self.rows, *(row for rows in self.corrections for row in rows)]


class RecordFinder:
    """Finds records of one ledger. Thread-safe."""

    def __init__(
        self, source: LedgerSource, directory: LedgerDirectory, *, database: duckdb.DuckDBPyConnection
    ) -> None:
        self._source = source
        self._directory = directory
        self._database = database

    def find(
        self, record_id: str, *, tenant: str, readable_tenants: tuple[str, ...] | None
    ) -> list[RecordEntries]:
        """Return every record of that id, by tenant and time. tenant: only this one, "" for any.

        record_id may be that of a correction; then it is the corrected record that is meant. Raises
        RecordUnknownError.
        """
        query = ReportQuery(0, _TIME_US_MAX, tenant=tenant, readable_tenants=readable_tenants)
        rows = self._rows(query, record_id)
        if tenant:
            rows = [row for row in rows if row["tenant"] == tenant]
        records: dict[tuple[Any, ...], list[Row]] = {}
        corrections: dict[tuple[Any, ...], dict[str, list[Row]]] = {}
        for row in rows:
            if row["kind"] == KIND_USAGE:
                records.setdefault((row["tenant"], row["record_id"], row["occur_time_us"]), []).append(row)
            else:
                key = (row["tenant"], row["adjusted_record_id"], row["occur_time_us"])
                corrections.setdefault(key, {}).setdefault(row["record_id"], []).append(row)
        if not records:
            raise RecordUnknownError
        return [
            RecordEntries(tuple(found), tuple(map(tuple, corrections.get(key, {}).values())))
            for key, found in list(records.items())[:RECORDS_MAX]
        ]

    def _rows(self, query: ReportQuery, record_id: str) -> list[Row]:
        """Return the rows of the record and of its corrections, as they were written."""
        connection = self._database.cursor()
        try:
            snapshot = take_snapshot(
                connection, self._source, self._directory, query, as_of=None, is_with_rollups=False
            )
            found = _named(connection, query, snapshot, record_id)
            if not found:
                raise RecordUnknownError
            times_us = [time_us for _, time_us in found]
            parameters = Parameters()
            paths = [
                path
                for path, (first, last) in snapshot.files.items()
                if any(first <= at <= last for at in times_us)
            ]
            ids = ", ".join(parameters.add(name) for name in sorted({name for name, _ in found}))
            times = ", ".join(parameters.add(time_us) for time_us in sorted(set(times_us)))
            where = f"(record_id IN ({ids}) OR adjusted_record_id IN ({ids})) AND occur_time_us IN ({times})"
            where = " AND ".join((where, *conditions(query, parameters)))
            cursor = connection.execute(
                f"SELECT * FROM ({relation_of(paths, parameters)}) WHERE {where}"  # noqa: S608 (names of ours)
                f" ORDER BY tenant, occur_time_us, stream_ms, stream_seq LIMIT {_ROWS_MAX}",
                parameters.values,
            )
            names = [column[0] for column in cursor.description or ()]
            return [dict(zip(names, values, strict=True)) for values in cursor.fetchall()]
        finally:
            connection.close()


def _named(
    connection: duckdb.DuckDBPyConnection, query: ReportQuery, snapshot: Snapshot, record_id: str
) -> list[tuple[str, int]]:
    """Return (identity of the record that is meant, when it occurred), reading as few columns as that takes."""
    parameters = Parameters()
    relation = relation_of(sorted(snapshot.files), parameters)
    where = " AND ".join((f"record_id = {parameters.add(record_id)}", *conditions(query, parameters)))
    return connection.execute(
        "SELECT DISTINCT coalesce(adjusted_record_id, record_id), occur_time_us"  # noqa: S608 (names of ours)
        f" FROM ({relation}) WHERE {where} LIMIT {RECORDS_MAX}",
        parameters.values,
    ).fetchall()


def relation_of(paths: Sequence[str], parameters: Parameters) -> str:
    """Return a statement for all rows of a snapshot's tail and of files."""
    tail = "SELECT * FROM tail"
    return f"{tail} UNION ALL {rows_of_files(parameters.add(paths))}" if paths else tail
