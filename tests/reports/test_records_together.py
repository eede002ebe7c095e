# SPDX-License-Identifier: Apache-2.0
"""Records that were applied together are one entry of a stream, and read as if each were one of its own."""

from dataclasses import replace

import pytest
from reports.conftest import LedgerFixture
from reports.ledger_checks import archived_rows, expected_rows
from reports.ledger_entries import Entry, varied_entries

from taximeter_server._native import StoreCorruptError
from taximeter_server.ledger import PARTITION_COUNT, StreamId, partition_of, read_rows

TENANT = "acme"
PARTITION = partition_of(TENANT)


def together(messages: list[bytes]) -> bytes:
    """Return entries as a LedgerEntries: each of less than 16 KiB, with the number of its field and its size."""
    return b"".join(
        bytes([4 << 3 | 2, len(message) & 0x7F | 0x80, len(message) >> 7]) + message for message in messages
    )


def append(ledger: LedgerFixture, sizes: list[int]) -> None:
    """Append records of TENANT, in groups of these sizes, all of one millisecond."""
    seq = 0
    for size in sizes:
        entries = [replace(entry, tenant=TENANT) for entry in varied_entries(size, seed=seq, days=2)]
        messages = [ledger.encode(entry) for entry in entries]
        seq += size
        field, data = ("e", messages[0]) if size == 1 else ("b", together(messages))
        ledger.engine.append(TENANT, data, field=field, stream_id=f"1780000000000-{seq}")
        ledger.entries += entries


def read_all(
    ledger: LedgerFixture, *, after_id: str = "0-0", count_max: int = 1_000
) -> list[tuple[StreamId, str]]:
    """Return (id, record id) of what stands behind `after`, read in steps of so many entries."""
    found: dict[StreamId, str] = {}
    after = ["0-0"] * PARTITION_COUNT
    after[PARTITION] = after_id
    while True:
        ipc, last_ids, count = ledger.engine.read_to_archive(after, count_max=count_max)
        if count == 0:
            return list(found.items())
        rows = read_rows(ipc).select(["stream_ms", "stream_seq", "record_id"]).to_pylist()
        read = {StreamId(row["stream_ms"], row["stream_seq"]): row["record_id"] for row in rows}
        assert (len(read), str(max(read))) == (count, last_ids[PARTITION])
        assert count <= count_max
        assert not found.keys() & read.keys()
        found |= read
        after = last_ids


@pytest.mark.parametrize("count_max", [1, 2, 7, 1_000])
def test_each_record_is_read_once_in_order(ledger: LedgerFixture, count_max: int) -> None:
    """Whatever a reader asks for at once, groups that it divides included."""
    append(ledger, [1, 5, 1, 1, 40, 2] + [1] * 20 + [30])

    found = read_all(ledger, count_max=count_max)

    assert [record_id for _, record_id in found] == [entry.record_id for entry in ledger.entries]
    assert [place.seq for place, _ in found] == list(range(1, len(ledger.entries) + 1))


def test_reading_goes_on_within_a_group(ledger: LedgerFixture) -> None:
    """Behind every id stand exactly the records with a later one."""
    append(ledger, [3, 1, 4])
    everything = read_all(ledger)

    for number, (place, _) in enumerate(everything, start=1):
        assert read_all(ledger, after_id=str(place)) == everything[number:]


def test_groups_are_archived_once_however_rounds_divide_them(ledger: LedgerFixture) -> None:
    """A group stays in the stream until its last record is in a file, and no record gets there twice."""
    append(ledger, [5, 1, 40, 3, 1, 9])

    result = ledger.archiver(round_entries_max=7).run_once()

    assert result.entry_count == len(ledger.entries)
    assert archived_rows(ledger.directory) == expected_rows(ledger)
    assert ledger.engine.ledger_length() == 0


@pytest.mark.parametrize(
    ("field", "data"),
    [
        ("b", together([b""])[:-1]),
        ("b", together([b"", b"x"])[:-1]),
        ("b", b"\x2a\x00"),
        ("c", b""),
    ],
    ids=["cut off", "longer than it is", "another field", "another name"],
)
def test_damaged_groups_are_not_read(ledger: LedgerFixture, field: str, data: bytes) -> None:
    """What cannot be read as a whole is an error, and not fewer records."""
    append(ledger, [1])
    ledger.engine.append(TENANT, data, field=field, stream_id="1780000000000-9")
    ledger.entries.append(Entry(tenant=TENANT))

    with pytest.raises(StoreCorruptError):
        ledger.engine.read_to_archive(["0-0"] * PARTITION_COUNT, count_max=10)
