# SPDX-License-Identifier: Apache-2.0
"""How an entry of the stream becomes rows, and in which partition it is."""

import pyarrow as pa
from reports.conftest import LedgerFixture
from reports.ledger_entries import JUNE_US, Entry, Line, ListPrice

from taximeter_server.ledger import PARTITION_COUNT, SCHEMA, StreamId, partition_of, read_rows
from taximeter_server.ledger_manifest import Manifest

NO_ADJUSTMENT = {
    "credits": 0,
    "overdrawn": 0,
    "credit_moves": None,
    "credit_change": None,
    "kind": 0,
    "adjusted_record_id": None,
    "note": None,
    "author": None,
    "adjusted_quantity": 0,
    "previous_cost_picos": 0,
    "prices_unpriced": False,
    "usage_provider": None,
    "usage_api": None,
    "usage_json": None,
    "usage_flags": None,
}


def rows_of(ledger: LedgerFixture, entry: Entry, stream_id: str) -> pa.Table:
    """Return the rows of one entry after its way through the store and the native module."""
    ledger.engine.append(entry.tenant, ledger.encode(entry), stream_id=stream_id)
    ipc, last_ids, count = ledger.engine.read_to_archive(["0-0"] * PARTITION_COUNT, count_max=5)
    assert (last_ids[partition_of(entry.tenant)], count) == (stream_id, 1)
    assert pa.ipc.open_stream(ipc).schema == SCHEMA
    return read_rows(ipc)


def test_each_line_is_a_row_with_all_of_its_entry(ledger: LedgerFixture) -> None:
    """Rows repeat the entry; its calls are on the first row only, its time is rounded down to microseconds."""
    entry = Entry(
        tenant="acme/research",
        occur_time_us=JUNE_US + 7,
        occur_time_rest_nanos=999,
        provider="anthropic",
        tier="batch",
        region="eu",
        speed="fast",
        calls=9,
        attributes={"b": "2", "a": ""},
        lines=(Line("input", 5, 75), Line("custom", 6, 0, unpriced=True)),
    )

    first, second = rows_of(ledger, entry, "1780272000123-4").to_pylist()

    assert first == {
        "stream_ms": 1_780_272_000_123,
        "stream_seq": 4,
        "partition": partition_of("acme"),
        "tenant": "acme/research",
        "record_id": entry.record_id,
        "occur_time_us": JUNE_US + 7,
        "receive_time_ms": JUNE_US // 1_000,
        "calls": 9,
        "entry_calls": 9,
        "model": "claude-opus-4-7",
        "provider": "anthropic",
        "tier": "batch",
        "region": "eu",
        "speed": "fast",
        "attributes": [("a", ""), ("b", "2")],
        "quality": 1,
        "rate_card_id": "ab" * 32,
        "rate_card_version": 3,
        "rate_card_row": "claude-opus-4-7",
        "usage_class": "input",
        "priced_as": "input",
        "quantity": 5,
        "billed_quantity": 5,
        "amount_picos": 15_000_000_000_000,
        "per": 1_000_000,
        "cost_picos": 75,
        "unpriced": False,
        "tenant_prices_version": 0,
        "tenant_prices_id": None,
        "list_priced_as": "input",
        "list_billed_quantity": 5,
        "list_amount_picos": 15_000_000_000_000,
        "list_per": 1_000_000,
        "list_cost_picos": 75,
        **NO_ADJUSTMENT,
    }
    line = {
        "usage_class": "custom",
        "priced_as": None,
        "quantity": 6,
        "billed_quantity": 6,
        "amount_picos": 0,
        "list_priced_as": None,
        "list_billed_quantity": 6,
        "list_amount_picos": 0,
        "list_per": 0,
        "list_cost_picos": 0,
    }
    assert second == first | line | {"calls": 0, "per": 0, "cost_picos": 0, "unpriced": True}


def test_list_prices_stand_beside_the_charged_ones(ledger: LedgerFixture) -> None:
    """Where a tenant has its own prices, a row shows them and what the card would have charged."""
    discounted = ListPrice(priced_as="input", billed_quantity=9, amount_picos=7, per=2, cost_picos=32)
    lines = (Line("cache_read", 5, 75, list_price=discounted), Line("custom", 6, 3, list_price=ListPrice()))
    entry = Entry(tenant_prices_id="ef" * 32, lines=lines)

    rows = rows_of(ledger, entry, "1780272000123-4").to_pylist()

    shown = (
        *("tenant_prices_version", "tenant_prices_id", "priced_as", "cost_picos", "list_priced_as"),
        *("list_billed_quantity", "list_amount_picos", "list_per", "list_cost_picos"),
    )
    assert [[row[name] for name in shown] for row in rows] == [
        [4, "ef" * 32, "cache_read", 75, "input", 9, 7, 2, 32],
        [4, "ef" * 32, "custom", 3, None, 0, 0, 0, 0],
    ]


def test_an_entry_without_lines_is_one_row(ledger: LedgerFixture) -> None:
    """What is empty in the entry is null in the row, and there is a row to count the calls by."""
    (row,) = rows_of(ledger, Entry(model="", rate_card_id="", calls=2, lines=()), "5-1").to_pylist()

    absent = {name for name, value in row.items() if value is None}
    line = {"usage_class", "priced_as", "list_priced_as", "tenant_prices_id"}
    line |= {"adjusted_record_id", "note", "author"}
    line |= {"usage_provider", "usage_api", "usage_json", "usage_flags", "credit_moves", "credit_change"}
    assert absent == {"model", "provider", "tier", "region", "speed", "rate_card_id", "rate_card_row"} | line
    assert (row["calls"], row["entry_calls"], row["quantity"], row["unpriced"]) == (2, 2, 0, False)
    assert row["attributes"] == []


def test_times_before_1970_are_rounded_down(ledger: LedgerFixture) -> None:
    """One nanosecond before 1970 is in the microsecond before it, not in the one after."""
    entry = Entry(occur_time_us=-1, occur_time_rest_nanos=999)

    assert rows_of(ledger, entry, "5-1")["occur_time_us"].to_pylist() == [-1]


def test_no_entries_are_no_rows(ledger: LedgerFixture) -> None:
    """An empty stream still has the schema."""
    after_ids = [f"7-{partition}" for partition in range(PARTITION_COUNT)]
    ipc, last_ids, count = ledger.engine.read_to_archive(after_ids, count_max=5)

    assert (last_ids, count) == (after_ids, 0)
    assert read_rows(ipc).num_rows == 0


def test_rows_to_archive_are_in_the_order_of_files(ledger: LedgerFixture) -> None:
    """By partition, tenant, and place in the stream; the lines of an entry in theirs, whatever was read together."""
    lines = (Line("output", 1), Line("input", 2))
    entries = [Entry(tenant=tenant, lines=lines) for tenant in ("acme/b", "globex", "acme", "acme/b", "acme")]
    ledger.record(entries)

    ipc, _, count = ledger.engine.read_to_archive(["0-0"] * PARTITION_COUNT, count_max=100)

    rows = read_rows(ipc).select(["tenant", "record_id", "usage_class"]).to_pylist()
    # Sorting keeps the order of what is alike, which is that of the stream.
    entries.sort(key=lambda entry: (partition_of(entry.tenant), entry.tenant))
    assert count == len(entries)
    assert [tuple(row.values()) for row in rows] == [
        (entry.tenant, entry.record_id, line.usage_class) for entry in entries for line in lines
    ]


def test_partitions_follow_from_the_first_segment() -> None:
    """The partition is the CRC-32C of the first segment modulo 64: fixed for ever, as stores depend on it."""
    assert partition_of("123456789") == 0xE3069283 % 64
    assert partition_of("123456789/below/it") == partition_of("123456789")
    assert len({partition_of(f"tenant-{number}") for number in range(1_000)}) == 64


def test_stream_ids_compare_as_numbers() -> None:
    """9-0 is before 10-0 and 10-9 before 10-10."""
    texts = ["9-0", "10-0", "10-9", "10-10"]

    assert [str(stream_id) for stream_id in sorted(map(StreamId.parse, reversed(texts)))] == texts


def test_a_manifest_is_read_as_written() -> None:
    """The empty manifest has a watermark per partition and survives its JSON form."""
    manifest = Manifest()

    assert len(manifest.watermarks) == 64
    assert Manifest.from_json(manifest.to_json()) == manifest
