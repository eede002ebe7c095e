# SPDX-License-Identifier: Apache-2.0
"""What is not archived: a report reads of it only what it needs, and says the same as when all of it is archived."""

import itertools
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest
from reports.conftest import LedgerFixture
from reports.ledger_entries import DAY_US, JUNE_US, TENANTS, Entry, Line, ListPrice, varied_entries, void_of
from reports.test_report_exact import random_query

from taximeter_server.ledger import AFTER_ALL, PARTITION_COUNT, SCHEMA, StreamId, partition_of, read_rows
from taximeter_server.report import Reporter
from taximeter_server.report_query import ReportOrder, ReportQuery

END_US = JUNE_US + 20 * DAY_US
ALL_TIME = (0, 2**62)
SPANS = [(partition, "0-0", str(AFTER_ALL)) for partition in range(PARTITION_COUNT)]


def record_varied(ledger: LedgerFixture, *, seed: int, count: int = 300) -> None:
    """Record usage, voids of a part of it and entries of tenants with prices of their own."""
    entries = list(varied_entries(count, seed=seed))
    own = [
        replace(
            entry,
            tenant_prices_id="ef" * 32,
            lines=tuple(replace(line, list_price=ListPrice("input", 7, 9, 3, 21)) for line in entry.lines),
        )
        for entry in varied_entries(count // 10, seed=-seed - 1)
    ]
    ledger.record([*entries, *own, *map(void_of, entries[:: count // 10])])


def read_tail(
    ledger: LedgerFixture,
    columns: Sequence[str],
    *,
    intervals_us: Sequence[tuple[int, int]] = (ALL_TIME,),
    tenants: Sequence[str] | None = None,
) -> pa.Table:
    """Return the wanted rows of all partitions."""
    ipc, _, is_whole = ledger.engine.read_tail(
        SPANS, columns=columns, intervals_us=intervals_us, tenants=tenants
    )
    assert is_whole
    return pa.ipc.open_stream(ipc).read_all()


def read_everything(ledger: LedgerFixture) -> pa.Table:
    """Return all rows of all partitions as the archiver reads them."""
    ipc, _, _ = ledger.engine.read_to_archive(["0-0"] * PARTITION_COUNT, count_max=100_000)
    return read_rows(ipc)


def by_place(rows: pa.Table) -> pa.Table:
    """Return rows in an order that does not depend on which partition answered first."""
    order = [(name, "ascending") for name in ("partition", "stream_ms", "stream_seq")]
    return rows.add_column(0, "number", pa.array(range(rows.num_rows))).sort_by(
        [*order, ("number", "ascending")]
    )


def test_columns_are_the_same_whichever_are_read(ledger: LedgerFixture) -> None:
    """Each column alone, some, and all of them have what the archiver would write, in the order of the schema."""
    record_varied(ledger, seed=1)
    everything = by_place(read_everything(ledger))
    chance = random.Random(2)
    place = {"partition", "stream_ms", "stream_seq"}
    choices = [{name} for name in SCHEMA.names]
    choices += [set(chance.sample(SCHEMA.names, chance.randrange(1, 49))) for _ in range(20)]
    for names in (*choices, set(SCHEMA.names)):
        rows = by_place(read_tail(ledger, sorted(names | place)))
        assert rows.schema.names[1:] == [name for name in SCHEMA.names if name in names | place]
        assert rows.drop_columns("number") == everything.select(rows.schema.names[1:])


def test_only_usage_of_the_intervals_and_tenants_becomes_rows(ledger: LedgerFixture) -> None:
    """Rows are those of all entries with one of the times and of one of the tenants; bounds are half-open."""
    record_varied(ledger, seed=3)
    edges = [entry.occur_time_us for entry in ledger.entries[:4]]
    everything = read_everything(ledger).select(["tenant", "record_id", "occur_time_us"]).to_pylist()
    start, end = sorted(edges[:2])
    for tenants in (None, [], ["acme"], ["acme/research", "globex"], ["a", "acme/res"]):
        for intervals in ([(start, end)], [(edges[2], edges[2] + 1), (edges[3], edges[3] + 1)], []):
            rows = read_tail(ledger, ["record_id"], intervals_us=intervals, tenants=tenants)
            expected = [
                row["record_id"]
                for row in everything
                if any(first <= row["occur_time_us"] < last for first, last in intervals)
                and (tenants is None or any(f"{row['tenant']}/".startswith(f"{path}/") for path in tenants))
            ]
            assert sorted(rows["record_id"].to_pylist()) == sorted(expected)
    assert read_tail(ledger, ["tenant"], tenants=["acme"]).num_rows > 0


def test_spans_are_read_from_one_id_through_another(ledger: LedgerFixture) -> None:
    """What is before a span or behind it is no row; what is skipped counts as read."""
    for seq in range(1, 8):
        entry = Entry(tenant="acme", occur_time_us=JUNE_US if seq % 2 else END_US)
        ledger.engine.append("acme", ledger.encode(entry), stream_id=f"1780000000000-{seq}")
    partition = partition_of("acme")

    def read(after: int, through: int) -> tuple[list[int], str]:
        span = (partition, f"1780000000000-{after}", f"1780000000000-{through}")
        ipc, (last_id,), is_whole = ledger.engine.read_tail(
            [span], columns=["stream_seq"], intervals_us=[(JUNE_US, END_US)]
        )
        assert is_whole
        return pa.ipc.open_stream(ipc).read_all()["stream_seq"].to_pylist(), last_id

    assert read(0, 9) == ([1, 3, 5, 7], "1780000000000-7")
    assert read(1, 6) == ([3, 5], "1780000000000-6")
    assert read(2, 3) == ([3], "1780000000000-3")
    assert read(7, 9) == ([], "1780000000000-7")


def answer(reporter: Reporter, query: ReportQuery, number: int) -> list[object]:
    """Return the page of a query, all of its rows, or one of its exports: another for each number."""
    if number % 4 == 0:
        return list(reporter.rows(query))
    if number % 4 == 1 and query.compared_us is None:
        return list(reporter.csv_rows(query))
    if number % 4 == 2 and query.compared_us is None:
        return list(reporter.focus_rows(query))
    page = reporter.report(query, page_size=10_000)
    return [page.rows, page.total, page.compared_total]


def many_queries(count: int) -> list[ReportQuery]:
    """Return queries of all shapes."""
    chance = random.Random(4)
    found = []
    for _ in range(count):
        query, _ = random_query(chance)
        readable = chance.choice((None, None, ("acme/research", "globex"), ("acme",), tuple(TENANTS)))
        by = chance.choice(("calls", "cost", "list_cost", "quantities.input", "unpriced_lines"))
        query = replace(query, readable_tenants=readable, order=(ReportOrder(by, descending=True),))
        times = {"hour", "day", "week", "month", "quarter", "year"}
        if not times.intersection(query.group_by) and chance.random() < 0.5:
            query = replace(query, compared_us=(JUNE_US, query.start_time_us + 1))
        found.append(replace(query, top=chance.choice((0, 0, 2))))
    return found


def test_reports_do_not_tell_what_is_archived(ledger: LedgerFixture) -> None:
    """Pages, rows and exports of many queries are the same before and after the rest of their usage is archived."""
    record_varied(ledger, seed=5)
    ledger.archiver().run_once()
    record_varied(ledger, seed=6)
    queries = many_queries(40)
    reporter = ledger.reporter()
    as_ofs = {
        query.tenant: reporter.report(ReportQuery(JUNE_US, END_US, tenant=query.tenant)).as_of
        for query in queries
    }

    def answer_all(*, is_fixed: bool) -> list[list[object]]:
        return [
            answer(reporter, replace(query, as_of=as_ofs[query.tenant]) if is_fixed else query, number)
            for number, query in enumerate(queries)
        ]

    before = answer_all(is_fixed=False)
    record_varied(ledger, seed=7, count=20)
    assert answer_all(is_fixed=True) == before
    ledger.archiver().run_once()
    assert ledger.engine.ledger_length() == 0
    assert answer_all(is_fixed=True) == before


@pytest.mark.parametrize("count", [3, 2_000])
def test_what_is_archived_while_a_report_reads_counts_once(
    ledger: LedgerFixture, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """Whether the report keeps what it read in memory or, because it is much, in its database."""
    real_read = ledger.engine.read_tail
    reads = itertools.count()

    def archiving_read(spans: Sequence[tuple[int, str, str]], **wanted: Any) -> tuple[bytes, list[str], bool]:
        found = real_read(spans, **wanted)
        if found[2]:
            next(reads)
            ledger.archiver().run_once()
            ledger.record([Entry(tenant="globex")])
        return found

    entry = Entry(attributes={"long": "x" * 5 * count}, lines=(Line("input", 5),))
    ledger.record(
        [replace(entry, tenant=tenant) for tenant in itertools.islice(itertools.cycle(TENANTS), count)]
    )
    monkeypatch.setattr(ledger.engine, "read_tail", archiving_read)
    reporter = ledger.reporter()
    query = ReportQuery(JUNE_US, END_US, group_by=("usage_class", "attributes.long"))

    for round_number in range(3):
        page = reporter.report(query)
        assert page.total.calls == count + round_number
    assert next(reads) == 3


def test_much_is_read_in_parts(ledger: LedgerFixture) -> None:
    """No part is much larger than 16 MiB, and together they have every entry once."""
    entry = Entry(attributes={"long": "x" * 10_000})
    tenants = [f"tenant-{number % 200}" for number in range(4_000)]
    ledger.record([replace(entry, tenant=tenant, record_id=str(n)) for n, tenant in enumerate(tenants)])
    spans, found, sizes = SPANS, [], []
    is_whole = False
    while not is_whole:
        ipc, last_ids, is_whole = ledger.engine.read_tail(
            spans, columns=["record_id", "attributes"], intervals_us=[ALL_TIME]
        )
        spans = [
            (partition, last_id, end) for (partition, _, end), last_id in zip(spans, last_ids, strict=True)
        ]
        found += pa.ipc.open_stream(ipc).read_all()["record_id"].to_pylist()
        sizes.append(len(ipc))

    assert len(sizes) > 1
    assert sorted(map(int, found)) == list(range(4_000))
    assert max(map(StreamId.parse, (last_id for _, last_id, _ in spans))).ms > 0
    page = ledger.reporter().report(ReportQuery(JUNE_US, END_US, group_by=("tenant",)))
    assert page.total.calls == 4_000
