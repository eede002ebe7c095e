# SPDX-License-Identifier: Apache-2.0
"""What has happened to a credit account, entry by entry: read from the ledger, where usage and grants stand alike."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import duckdb

from taximeter_server.ledger import KIND_CREDIT, KIND_NAMES, LedgerSource, StreamId, partition_of
from taximeter_server.ledger_directory import LedgerDirectory
from taximeter_server.record_entries import relation_of
from taximeter_server.report_dimensions import Parameters
from taximeter_server.report_query import ReportQuery
from taximeter_server.report_snapshot import take_snapshot

_TIME_US_MAX = 2**62
_US_PER_MS = 1_000
_COLUMNS = (
    *(
        "stream_ms",
        "stream_seq",
        "tenant",
        "record_id",
        "adjusted_record_id",
        "occur_time_us",
        "receive_time_ms",
    ),
    *("kind", "model", "usage_class", "credit_moves", "credit_change", "note"),
)


@dataclass(frozen=True, slots=True)
class CreditMove:
    """One change of the balance. usage_class, grant_id: "" for none; without a grant, no grant covers it."""

    usage_class: str
    grant_id: str
    microcredits: int


@dataclass(frozen=True, slots=True)
class CreditEntry:
    """What one entry did: its moves add up to what it changed the balance by.

    kind: "usage", "adjustment", "void" or "amendment" of a record; "account", "grant", "expiry" or "grant_void".
    record_id: of the record, or of the correction; "" for changes of the account. place: where it stands.
    """

    place: StreamId
    kind: str
    tenant: str
    record_id: str
    model: str
    occur_time_ms: int
    receive_time_ms: int
    note: str
    moves: tuple[CreditMove, ...]


class CreditEntries:
    """Reads the entries of accounts. Thread-safe."""

    def __init__(
        self, source: LedgerSource, directory: LedgerDirectory, *, database: duckdb.DuckDBPyConnection
    ) -> None:
        self._source = source
        self._directory = directory
        self._database = database

    def read(self, root: str, *, grant_id: str, after: StreamId, count_max: int) -> list[CreditEntry]:
        """Return entries behind a place, the earliest first. grant_id: only those that touch it, "" for all."""
        query = ReportQuery(0, _TIME_US_MAX, tenant=root)
        connection = self._database.cursor()
        try:
            snapshot = take_snapshot(
                connection, self._source, self._directory, query, as_of=None, is_with_rollups=False
            )
            parameters = Parameters()
            relation = relation_of(sorted(snapshot.files), parameters)
            below = parameters.add(f"{root}/")
            ms, seq, most = parameters.add(after.ms), parameters.add(after.seq), parameters.add(count_max)
            kept = [
                f"partition = {parameters.add(partition_of(root))}",
                f"(tenant = {parameters.add(root)} OR starts_with(tenant, {below}))",
                f"(credit_moves IS NOT NULL OR kind = {KIND_CREDIT})",
                f"(stream_ms > {ms} OR (stream_ms = {ms} AND stream_seq > {seq}))",
            ]
            if grant_id:
                # As JSON writes it: a grant's id has no character that would be escaped.
                kept.append(f"contains(credit_moves, {parameters.add(json.dumps(grant_id))})")
            cursor = connection.execute(
                f"SELECT {', '.join(_COLUMNS)} FROM ({relation}) WHERE {' AND '.join(kept)}"  # noqa: S608 (names of ours)
                f" QUALIFY dense_rank() OVER (ORDER BY stream_ms, stream_seq) <= {most}"
                " ORDER BY stream_ms, stream_seq, usage_class",
                parameters.values,
            )
            rows = [dict(zip(_COLUMNS, values, strict=True)) for values in cursor.fetchall()]
        finally:
            connection.close()
        places = groupby(rows, key=lambda row: StreamId(row["stream_ms"], row["stream_seq"]))
        return [_entry(place, list(found)) for place, found in places]


def _entry(place: StreamId, rows: list[Mapping[str, Any]]) -> CreditEntry:
    first = rows[0]
    is_change = first["kind"] == KIND_CREDIT
    kind = json.loads(first["credit_change"])["op"] if is_change else KIND_NAMES[first["kind"]]
    return CreditEntry(
        place,
        "grant_void" if is_change and kind == "void" else kind,
        first["tenant"],
        "" if is_change else first["record_id"],
        first["model"] or "",
        first["occur_time_us"] // _US_PER_MS,
        first["receive_time_ms"],
        first["note"] or "",
        tuple(_moves(rows)),
    )


def _moves(rows: Iterable[Mapping[str, Any]]) -> Iterable[CreditMove]:
    for row in rows:
        for grant_id, taken in json.loads(row["credit_moves"] or "[]"):
            yield CreditMove(row["usage_class"] or "", grant_id, -taken)
