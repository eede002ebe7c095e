# SPDX-License-Identifier: Apache-2.0
"""A ledger as months of traffic would have left it, written by the real archiver from a source that makes entries up.

Tenants and models are used unevenly, as they are: the first ones most. Every event has three lines.
"""

import threading
from collections.abc import Sequence
from pathlib import Path

import duckdb
import pyarrow as pa

from taximeter_server.archiver import Archiver
from taximeter_server.ledger import PARTITION_COUNT, SCHEMA, SORT_COLUMNS, StreamId, partition_of
from taximeter_server.ledger_directory import LedgerDirectory
from taximeter_server.ledger_merge import FileMerger

FIRST_DAY_MS = 1_782_864_000_000
"""2026-07-01T00:00:00Z."""
DAY_MS = 86_400_000
CLASSES = ("input", "cache_read", "output")

_ROWS = """
    WITH events AS (
        SELECT number, $day_ms + number * 86400000 // $count AS stream_ms,
            power(hash(number * 3 + $seed) / 18446744073709551616, 4) AS which_tenant,
            power(hash(number * 5 + $seed) / 18446744073709551616, 3) AS which_model,
            hash(number * 7 + $seed) AS amount
        FROM range($count) AS numbers(number)
    ), named AS (
        SELECT *, floor(which_tenant * $tenants)::INTEGER AS tenant_number,
            'model-' || floor(which_model * $models)::INTEGER AS model FROM events
    )
    SELECT stream_ms, number AS stream_seq, partitions.partition, partitions.tenant,
        printf('%d-%d', $day_ms, number) AS record_id,
        stream_ms * 1000 + amount % 1000 AS occur_time_us, stream_ms AS receive_time_ms,
        CASE WHEN line = 0 THEN 1 ELSE 0 END AS calls, 1 AS entry_calls,
        model, 'provider-' || (hash(model) % 3) AS provider, NULL AS tier, NULL AS region, NULL AS speed,
        MAP {'workflow_uuid': 'workflow-' || (amount % 500)} AS attributes, 1 AS quality,
        repeat('ab', 32) AS rate_card_id, 1 AS rate_card_version, model AS rate_card_row,
        $classes[line + 1] AS usage_class, $classes[line + 1] AS priced_as,
        (amount // (line + 1)) % 20000 + 1 AS quantity, (amount // (line + 1)) % 20000 + 1 AS billed_quantity,
        3000000000000 AS amount_picos, 1000000 AS per,
        ((amount // (line + 1)) % 20000 + 1) * 3000000 AS cost_picos, false AS unpriced,
        priced_as AS list_priced_as,
        billed_quantity AS list_billed_quantity, amount_picos AS list_amount_picos, per AS list_per,
        cost_picos AS list_cost_picos, false AS prices_unpriced
    FROM named JOIN partitions USING (tenant_number), range(3) AS lines(line)
    ORDER BY partition, number, line
"""


class SyntheticSource:
    """A LedgerSource that has one day's entries at a time. Stream ids are the times of the events."""

    def __init__(self, *, tenant_count: int, model_count: int) -> None:
        self._database = duckdb.connect()
        tenants = [f"tenant-{number:05}" for number in range(tenant_count)]
        table = pa.table(
            {
                "tenant_number": range(tenant_count),
                "tenant": tenants,
                "partition": pa.array([partition_of(tenant) for tenant in tenants], pa.int16()),
            }
        )
        self._database.register("partitions", table)
        self._tenant_count = tenant_count
        self._model_count = model_count
        self._waiting: dict[int, pa.Table] = {}
        self._now_ms = FIRST_DAY_MS

    def make_day(self, day: int, event_count: int) -> None:
        """Have the events of a day, which is over."""
        day_ms = FIRST_DAY_MS + day * DAY_MS
        self._now_ms = day_ms + DAY_MS
        values = {"day_ms": day_ms, "count": event_count, "seed": day, "classes": list(CLASSES)}
        values |= {"tenants": self._tenant_count, "models": self._model_count}
        rows = _with_all_columns(self._database.sql(_ROWS, params=values).to_arrow_table())
        partitions = rows["partition"].to_pylist()
        starts = {partition: index for index, partition in reversed(list(enumerate(partitions)))}
        ends = [*sorted(starts.values()), rows.num_rows]
        for partition, start in starts.items():
            end = ends[ends.index(start) + 1]
            self._waiting[partition] = rows.slice(start, end - start)

    def store_time_ms(self) -> int:
        """The end of the newest day."""
        return self._now_ms

    def read_to_archive(self, after_ids: Sequence[str], *, count_max: int) -> tuple[bytes, list[str], int]:
        """Return the next entries, one partition after the other."""
        taken, last_ids, room = [_EMPTY], list(after_ids), count_max * len(CLASSES)
        for partition, waiting in self._waiting.items():
            if rows := waiting.slice(0, room):
                self._waiting[partition] = waiting.slice(rows.num_rows)
                room -= rows.num_rows
                last = rows.slice(rows.num_rows - 1).to_pylist()[0]
                last_ids[partition] = str(StreamId(last["stream_ms"], last["stream_seq"]))
                taken.append(rows)
        found = pa.concat_tables(taken).sort_by([(name, "ascending") for name in SORT_COLUMNS])
        return _ipc(found), last_ids, found.num_rows // len(CLASSES)

    def read_tail(
        self, spans: Sequence[tuple[int, str, str]], **_wanted: object
    ) -> tuple[bytes, list[str], bool]:
        """Return nothing: everything is archived."""
        return _NOTHING, [after_id for _, after_id, _ in spans], True

    def begin_archive(self) -> int:
        """Always the same opening."""
        return 0

    def hold_archive(self, opening: int) -> None:
        """Nothing opens this store again."""

    def release_archive(self) -> None:
        """Nothing was held."""

    def set_archived(self, partition: int, stream_id: str) -> None:
        """What was read is forgotten."""

    def trim_ledger(self, partition: int, *, through_id: str) -> None:
        """What was read is forgotten."""


def _with_all_columns(rows: pa.Table) -> pa.Table:
    """Return rows with every column of the ledger; those that the traffic has not are null or 0."""
    columns = []
    for field in SCHEMA:
        if field.name in rows.column_names:
            columns.append(rows[field.name])
        elif field.nullable:
            columns.append(pa.nulls(rows.num_rows, field.type))
        else:
            columns.append(pa.array([0], field.type).take(pa.repeat(0, rows.num_rows)))
    return pa.table(columns, names=SCHEMA.names).cast(SCHEMA)


def _ipc(rows: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, SCHEMA) as writer:
        writer.write_table(rows)
    return sink.getvalue().to_pybytes()


_EMPTY = SCHEMA.empty_table()
_NOTHING = _ipc(_EMPTY)


def write_ledger(
    folder: Path, *, event_count: int, day_count: int, tenant_count: int, model_count: int
) -> tuple[SyntheticSource, LedgerDirectory]:
    """Write event_count events, spread over day_count days from FIRST_DAY_MS on."""
    assert PARTITION_COUNT == 64  # noqa: PLR2004, S101 (what the tenants were spread over)
    ledger = folder / "ledger"
    ledger.mkdir(parents=True)
    source = SyntheticSource(tenant_count=tenant_count, model_count=model_count)
    directory = LedgerDirectory(ledger)
    archiver = Archiver(
        source,
        directory,
        merger=FileMerger(temporary_directory=folder / "temporary"),
        clock=source.store_time_ms,
    )
    stop = threading.Event()
    for day in range(day_count):
        source.make_day(day, event_count * (day + 1) // day_count - event_count * day // day_count)
        while archiver.run_once(stop).entry_count:
            pass
    # Two hours later the last day is quiet, too.
    source.make_day(day_count, 0)
    archiver.run_once(stop)
    return source, directory
