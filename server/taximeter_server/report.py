# SPDX-License-Identifier: Apache-2.0
"""Reports: exact sums over everything recorded, answered by files and the tail of the streams together."""

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import duckdb

from taximeter_server.errors import InvalidFieldsError, ReportTooLargeError, SumOutOfRangeError
from taximeter_server.ledger import LedgerSource
from taximeter_server.ledger_directory import LedgerDirectory
from taximeter_server.page_token import PageToken
from taximeter_server.report_as_of import AsOf
from taximeter_server.report_csv import CsvRow
from taximeter_server.report_database import open_report_database
from taximeter_server.report_dimensions import Dimension
from taximeter_server.report_focus import FocusRow
from taximeter_server.report_query import ReportMeasures, ReportPage, ReportQuery, ReportRow
from taximeter_server.report_snapshot import Snapshot, take_snapshot
from taximeter_server.report_sql import (
    COMPARED,
    SUMS,
    Statement,
    csv_statement,
    focus_group_by,
    focus_statement,
    groups_statement,
    lines_statement,
    other_statements,
    rest_statement,
)

PAGE_SIZE_DEFAULT = 1_000
PAGE_SIZE_MAX = 10_000

EXPORT_MEMORY_BYTES_MAX = 256 * 2**20
"""What files may take: they hold nothing that has to be in memory as a whole, so more would only be filled."""

_INT64_MAX = 2**63 - 1
_FETCH_ROWS = 10_000
_ATTEMPTS = 2


class Reporter:
    """Answers queries about one ledger. Thread-safe.

    All pages together stay within memory_limit_bytes; all files together within that and EXPORT_MEMORY_BYTES_MAX.
    """

    def __init__(
        self,
        source: LedgerSource,
        directory: LedgerDirectory,
        *,
        token_secret: bytes,
        temporary_directory: Path,
        memory_limit_bytes: int = 512 * 2**20,
        thread_count: int = 2,
    ) -> None:
        """token_secret: signs page tokens; at least 16 bytes, the same on every instance.

        temporary_directory: takes what does not fit into memory; created when needed.
        """
        if len(token_secret) < 16:  # noqa: PLR2004 (said above)
            raise ValueError("token_secret needs at least 16 bytes")
        self._source = source
        self._directory = directory
        self._token_secret = token_secret
        self._database = open_report_database(
            temporary_directory / "pages", memory_limit_bytes=memory_limit_bytes, thread_count=thread_count
        )
        self._export_database = open_report_database(
            temporary_directory / "exports",
            memory_limit_bytes=min(memory_limit_bytes, EXPORT_MEMORY_BYTES_MAX),
            thread_count=thread_count,
        )
        # What is sorted and grouped for a file may need all of its memory, so files are made one after the other. They
        # are read side by side.
        self._export_turn = threading.Lock()

    def report(self, query: ReportQuery, *, page_size: int = 0, page_token: str = "") -> ReportPage:
        """Return one page. page_size: 0 is PAGE_SIZE_DEFAULT, more than PAGE_SIZE_MAX is lowered.

        Contains every record that was answered as committed before the call. Raises InvalidFieldsError,
        RangeInvalidError, PageTokenError, SumOutOfRangeError, ReportTooLargeError, and what the engine raises.
        """
        query.check()
        if page_size < 0:
            raise InvalidFieldsError.of("page_size", "must not be negative")
        size = min(page_size or PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)
        canonical_query = query.canonical_bytes()
        token = PageToken.decode(page_token, self._token_secret, canonical_query) if page_token else None
        offset = token.offset if token else 0
        with self._groups(query, groups_statement, as_of=token.as_of if token else None) as groups:
            # One more than the page says whether there is another page.
            found = tuple(_rows(groups, query, first=offset + 1, last=offset + size + 1))
            total = _total(groups.connection, "")
            compared_total = _total(groups.connection, COMPARED) if query.compared_us else None
        rows, has_more = found[:size], len(found) > size
        for row in rows:
            _check_range(row.measures, row.compared)
        _check_range(total, compared_total)
        next_token = PageToken(groups.as_of, offset + size) if has_more else None
        return ReportPage(
            rows=rows,
            next_page_token=next_token.encode(self._token_secret, canonical_query) if next_token else "",
            total=total,
            as_of_time_ms=groups.as_of.time_ms,
            as_of=groups.as_of.encode(self._token_secret),
            compared_total=compared_total,
        )

    def rows(self, query: ReportQuery) -> Iterator[ReportRow]:
        """Yield all rows of the report, in its order, of one snapshot. Sums may exceed 64 bits.

        Raises as report() does, the errors of the query before the first row.
        """
        query.check()
        return self._stream_rows(query)

    def csv_rows(self, query: ReportQuery) -> Iterator[CsvRow]:
        """Yield sums by (date, tenant, model, rate card) in this order; query.group_by is ignored.

        Raises as report() does, the errors of the query before the first row.
        """
        query.check()
        return self._stream_csv_rows(query)

    def focus_rows(self, query: ReportQuery) -> Iterator[FocusRow]:
        """Yield the rows of a FOCUS export in the order of their groups; attributes of query.group_by are tags.

        Raises as report() does, the errors of the query before the first row.
        """
        query.check()
        return self._stream_focus_rows(query)

    @property
    def ledger_id(self) -> str:
        """The name of the ledger that is reported, for good."""
        return self._directory.ledger_id()

    def close(self) -> None:
        """Free the databases. Not while a report is under way."""
        self._database.close()
        self._export_database.close()

    def _stream_rows(self, query: ReportQuery) -> Iterator[ReportRow]:
        with self._groups(query, lines_statement) as groups:
            count = len(groups.dimensions)
            line_count = 0
            by_group = itertools.groupby(groups.fetch_all(), key=lambda values: values[:count])
            for _, found in itertools.islice(by_group, query.top or None):
                lines = list(found)
                line_count += len(lines)
                yield _row_of_lines(groups, lines)
            if query.top and (rest := groups.fetch_rest(line_count)):
                yield replace(_row_of_lines(groups, rest), is_other=True)

    def _stream_csv_rows(self, query: ReportQuery) -> Iterator[CsvRow]:
        with self._groups(query, csv_statement) as groups:
            for values in groups.fetch_all():
                group, sums = groups.split(values)
                yield CsvRow.of(group, sums)

    def _stream_focus_rows(self, query: ReportQuery) -> Iterator[FocusRow]:
        names = focus_group_by(query)
        with self._groups(query, focus_statement) as groups:
            for values in groups.fetch_all():
                yield FocusRow.of(names, *groups.split(values))

    @contextlib.contextmanager
    def _groups(
        self,
        query: ReportQuery,
        make_statement: Callable[[ReportQuery, Snapshot], Statement],
        *,
        as_of: AsOf | None = None,
    ) -> Iterator["_Groups"]:
        """Compute the temporary table groups in a connection of its own."""
        is_page = make_statement is groups_statement
        database = self._database if is_page else self._export_database
        turn = contextlib.nullcontext() if is_page else self._export_turn
        with contextlib.closing(database.cursor()) as connection, _named_memory():
            with turn:
                statement, snapshot = self._compute(connection, query, make_statement, as_of)
            if query.top and is_page:
                for sql in other_statements(query):
                    connection.execute(sql)
            yield _Groups(connection, statement.dimensions, snapshot.as_of)

    def _compute(
        self,
        connection: duckdb.DuckDBPyConnection,
        query: ReportQuery,
        make_statement: Callable[[ReportQuery, Snapshot], Statement],
        as_of: AsOf | None,
    ) -> tuple[Statement, Snapshot]:
        """Fill the table. Returns the statement that did, and what it saw."""
        for attempt in range(_ATTEMPTS):
            snapshot = take_snapshot(
                connection,
                self._source,
                self._directory,
                query,
                as_of=as_of or self._as_of(query),
                # Rollups are derived: one that is gone only makes the report slower.
                is_with_rollups=attempt == 0,
            )
            statement = make_statement(query, snapshot)
            try:
                connection.execute(statement.sql, statement.parameters)
            except (duckdb.IOException, duckdb.InvalidInputException):
                # A damaged rollup; or merged files, removed after a grace that a stepped clock cuts short.
                if attempt == _ATTEMPTS - 1:
                    raise
            else:
                break
        return statement, snapshot

    def _as_of(self, query: ReportQuery) -> AsOf | None:
        """Return what the query asks to see again; None for now."""
        if query.as_of:
            try:
                return AsOf.decode(query.as_of, self._token_secret)
            except ValueError:
                raise InvalidFieldsError.of("query.as_of", "is not the as_of of a report") from None
        if query.as_of_time_ms is None:
            return None
        if query.as_of_time_ms >= self._source.store_time_ms():
            raise InvalidFieldsError.of("query.as_of_time", "must be over")
        return AsOf.at(max(query.as_of_time_ms, 0))


@contextlib.contextmanager
def _named_memory() -> Iterator[None]:
    """Turn the database's complaint of its memory into the caller's error."""
    try:
        yield
    except duckdb.OutOfMemoryException:
        raise ReportTooLargeError from None


@dataclass(frozen=True, slots=True)
class _Groups:
    """The temporary table groups of a connection."""

    connection: duckdb.DuckDBPyConnection
    dimensions: Sequence[Dimension]
    as_of: AsOf

    def fetch(self, prefixes: Sequence[str], *, first: int, last: int) -> Iterator[tuple[Any, ...]]:
        """Yield the rows from position first to last, without holding more than _FETCH_ROWS of them.

        Each has dimensions, is_other, and for each of prefixes the classes, their quantities, and SUMS.
        """
        while first <= last:
            # Asked for in parts: an answer that nobody has fetched yet is held in memory as a whole.
            positions = {"first": first, "last": min(last, first + _FETCH_ROWS - 1)}
            try:
                # Numbers of 128 bits, and structs, take several times as long to become Python's.
                rows = self.connection.execute(self._page(prefixes, "BIGINT"), positions).fetchall()
            except duckdb.ConversionException:
                rows = self.connection.execute(self._page(prefixes, "HUGEINT"), positions).fetchall()
            yield from rows
            if len(rows) < _FETCH_ROWS:
                break
            first += _FETCH_ROWS

    def _page(self, prefixes: Sequence[str], number_type: str) -> str:
        columns = [*(f"d{index}" for index in range(len(self.dimensions))), "is_other"]
        for prefix in prefixes:
            parts = f"FOR part IN {prefix}quantities]"
            columns += [f"[part.usage_class {parts}", f"[part.quantity::{number_type} {parts}"]
            columns += [f"{prefix}{name}::{number_type}" for name in SUMS]
        return (
            f"SELECT {', '.join(columns)} FROM groups"  # noqa: S608 (names of ours)
            " WHERE position BETWEEN $first AND $last ORDER BY position"
        )

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


def _rows(groups: _Groups, query: ReportQuery, *, first: int, last: int) -> Iterator[ReportRow]:
    prefixes = ("", COMPARED)[: len(query.intervals_us)]
    count = 2 + len(SUMS)
    for values in groups.fetch(prefixes, first=first, last=last):
        group, (is_other, *measures) = groups.split(values)
        own, compared = measures[:count], measures[count:]
        yield ReportRow(group, _measures(*own), _measures(*compared) if compared else None, is_other)


def _row_of_lines(groups: _Groups, lines: Sequence[tuple[Any, ...]]) -> ReportRow:
    """Make a row of the classes of one group."""
    group, _ = groups.split(lines[0])
    count = len(groups.dimensions)
    quantities = {
        line[count]: line[count + 1] for line in lines if line[count] is not None and line[count + 1]
    }
    calls, *sums = (sum(column) for column in zip(*(line[count + 2 :] for line in lines), strict=True))
    return ReportRow(group, ReportMeasures(calls, quantities, *sums))


def _measures(
    classes: Sequence[str] | None, quantities: Sequence[int] | None, calls: int, *sums: int
) -> ReportMeasures:
    return ReportMeasures(calls, dict(zip(classes or (), quantities or (), strict=True)), *sums)


def _total(connection: duckdb.DuckDBPyConnection, prefix: str) -> ReportMeasures:
    """Sum the table groups, so that the total is the sum of its parts whatever they count."""
    columns = ", ".join(f"coalesce(sum({prefix}{name}), 0)" for name in SUMS)
    (calls, *sums) = connection.execute(f"SELECT {columns} FROM groups").fetchall()[0]  # noqa: S608 (names of ours)
    quantities = connection.execute(
        "SELECT part.usage_class, sum(part.quantity) AS quantity"  # noqa: S608
        f" FROM (SELECT unnest({prefix}quantities) AS part FROM groups) GROUP BY 1 ORDER BY 1"
    ).fetchall()
    return ReportMeasures(calls, dict(quantities), *sums)


def _check_range(*some: ReportMeasures | None) -> None:
    """Costs have a wider field; everything else must fit int64."""
    for measures in some:
        if measures is not None:
            counts = (measures.calls, measures.unpriced_lines, measures.adjusted_unpriced_lines)
            if max(*counts, *measures.quantities.values()) > _INT64_MAX:
                raise SumOutOfRangeError
