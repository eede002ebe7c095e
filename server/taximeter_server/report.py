# SPDX-License-Identifier: Apache-2.0
"""Reports: exact sums over everything recorded, answered by files and the tail of the streams together."""

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import duckdb

from taximeter_server.errors import InvalidFieldsError, ReportTooLargeError, SumOutOfRangeError
from taximeter_server.ledger import LedgerSource
from taximeter_server.ledger_directory import LedgerDirectory
from taximeter_server.page_token import PageToken
from taximeter_server.report_as_of import AsOf
from taximeter_server.report_columns import ReportColumns, ReportColumnsPage
from taximeter_server.report_csv import CsvRow
from taximeter_server.report_database import open_report_database
from taximeter_server.report_focus import FocusRow
from taximeter_server.report_groups import ReportGroups
from taximeter_server.report_query import ReportPage, ReportQuery, ReportRow
from taximeter_server.report_snapshot import Snapshot, take_snapshot
from taximeter_server.report_sql import (
    CSV_GROUP_BY,
    Statement,
    csv_statement,
    focus_group_by,
    focus_statement,
    groups_statement,
    lines_statement,
    needed_columns,
    other_statements,
)

PAGE_SIZE_DEFAULT = 1_000
PAGE_SIZE_MAX = 10_000

EXPORT_MEMORY_BYTES_MAX = 128 * 2**20
"""What files may take: they hold nothing that has to be in memory as a whole, so more would only be filled."""
ORDERED_EXPORT_MEMORY_BYTES_MAX = 256 * 2**20
"""What they may take while one is made that is ordered: it is sorted by sums over lines that have to come together."""
EXPORT_THREADS = 1
"""Each thread holds parts of all groups in memory. Two of them do not find room in that for three million lines."""

_INT64_MAX = 2**63 - 1
_ATTEMPTS = 2


class Reporter:
    """Answers queries about one ledger. Thread-safe.

    All pages together stay within memory_limit_bytes; all files together within that and
    EXPORT_MEMORY_BYTES_MAX, or ORDERED_EXPORT_MEMORY_BYTES_MAX.
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
            thread_count=EXPORT_THREADS,
        )
        # What is sorted and grouped for a file may need all of its memory, so files are made one after the other. They
        # are read side by side.
        self._export_turn = threading.Lock()
        self._memory_limit_bytes = memory_limit_bytes

    def report(self, query: ReportQuery, *, page_size: int = 0, page_token: str = "") -> ReportPage:
        """Return one page as values, see page()."""
        page = self.page(query, page_size=page_size, page_token=page_token)
        (total,) = page.total.rows()
        return ReportPage(
            rows=tuple(page.rows.rows()),
            next_page_token=page.next_page_token,
            total=total.measures,
            as_of_time_ms=page.as_of_time_ms,
            as_of=page.as_of,
            compared_total=total.compared,
        )

    def page(self, query: ReportQuery, *, page_size: int = 0, page_token: str = "") -> ReportColumnsPage:
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
        is_compared = query.compared_us is not None
        with self._groups(
            query, groups_statement, query.group_by, as_of=token.as_of if token else None
        ) as groups:
            # One more than the page says whether there is another page.
            found = groups.page(offset + 1, offset + size + 1, is_compared=is_compared)
            total = groups.total(is_compared=is_compared)
        rows = found.first(size)
        for one in (rows, total):
            _check_range(one)
        has_more = found.table.num_rows > size
        next_token = PageToken(groups.as_of, offset + size) if has_more else None
        return ReportColumnsPage(
            rows=rows,
            next_page_token=next_token.encode(self._token_secret, canonical_query) if next_token else "",
            total=total,
            as_of_time_ms=groups.as_of.time_ms,
            as_of=groups.as_of.encode(self._token_secret),
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
        with self._groups(query, lines_statement, query.group_by) as groups:
            count = len(groups.dimensions)
            line_count = 0
            by_group = itertools.groupby(groups.fetch_all(), key=lambda values: values[:count])
            for _, found in itertools.islice(by_group, query.top or None):
                lines = list(found)
                line_count += len(lines)
                yield groups.row_of_lines(lines)
            if query.top and (rest := groups.fetch_rest(line_count)):
                yield groups.row_of_lines(rest)._replace(is_other=True)

    def _stream_csv_rows(self, query: ReportQuery) -> Iterator[CsvRow]:
        with self._groups(query, csv_statement, CSV_GROUP_BY) as groups:
            for values in groups.fetch_all():
                group, sums = groups.split(values)
                yield CsvRow.of(group, sums)

    def _stream_focus_rows(self, query: ReportQuery) -> Iterator[FocusRow]:
        names = focus_group_by(query)
        with self._groups(query, focus_statement, names) as groups:
            for values in groups.fetch_all():
                yield FocusRow.of(names, *groups.split(values))

    @contextlib.contextmanager
    def _groups(
        self,
        query: ReportQuery,
        make_statement: Callable[[ReportQuery, Snapshot], Statement],
        group_by: Sequence[str],
        *,
        as_of: AsOf | None = None,
    ) -> Iterator[ReportGroups]:
        """Compute the temporary table groups in a connection of its own. group_by: what the statement groups by."""
        is_page = make_statement is groups_statement
        database = self._database if is_page else self._export_database
        turn = contextlib.nullcontext() if is_page else self._export_turn
        with contextlib.closing(database.cursor()) as connection, _named_memory():
            with turn:
                if not is_page:
                    self._limit_export(connection, query)
                statement, snapshot = self._compute(
                    connection, query, make_statement, needed_columns(query, group_by), as_of
                )
            if query.top and is_page:
                for sql in other_statements(query):
                    connection.execute(sql)
            yield ReportGroups(connection, statement.dimensions, snapshot.as_of)

    def _limit_export(self, connection: duckdb.DuckDBPyConnection, query: ReportQuery) -> None:
        """Say what the database of files may take while the one of query is made, and until the next is."""
        wanted = ORDERED_EXPORT_MEMORY_BYTES_MAX if query.order else EXPORT_MEMORY_BYTES_MAX
        connection.execute(f"SET memory_limit = '{min(wanted, self._memory_limit_bytes)}B'")

    def _compute(
        self,
        connection: duckdb.DuckDBPyConnection,
        query: ReportQuery,
        make_statement: Callable[[ReportQuery, Snapshot], Statement],
        columns: Sequence[str],
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
                columns=columns,
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


def _check_range(columns: ReportColumns) -> None:
    """Costs have a wider field; everything else must fit int64."""
    if not columns.has_wide_numbers:
        return
    for row in columns.rows():
        for measures in filter(None, (row.measures, row.compared)):
            counts = (measures.calls, measures.unpriced_lines, measures.adjusted_unpriced_lines)
            if max(*counts, *measures.quantities.values()) > _INT64_MAX:
                raise SumOutOfRangeError
