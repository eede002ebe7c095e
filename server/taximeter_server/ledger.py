# SPDX-License-Identifier: Apache-2.0
"""What the ledger is made of: entries in the partitions' streams, and the same entries as rows.

A row is one (entry, usage class); an entry without lines has one row whose usage_class is null. Amounts are
pico-units, quantities in the unit of their class, all of them int64. Amounts are negative only in corrections. The
calls and quantities of adjustments are 0; those of other corrections are what they add, or take back.

Columns are only ever added, at the end: files outlive the server that wrote them. Whoever reads files matches columns
by name; one that a file does not have is null there.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, Self

import pyarrow as pa

PARTITION_COUNT = 64
"""Partitions of the ledger, fixed when a store is created."""

KIND_USAGE, KIND_ADJUSTMENT, KIND_VOID, KIND_AMENDMENT, KIND_CREDIT = 0, 1, 2, 3, 4
"""What an entry is: usage as it was recorded, or a correction of a record: of what it cost, or of what it says; or a
change of a credit account, which no report of usage sees."""
KIND_NAMES = {
    KIND_USAGE: "usage",
    KIND_ADJUSTMENT: "adjustment",
    KIND_VOID: "void",
    KIND_AMENDMENT: "amendment",
}

SCHEMA = pa.schema(
    [
        pa.field("stream_ms", pa.int64(), nullable=False),
        pa.field("stream_seq", pa.int64(), nullable=False),
        pa.field("partition", pa.int16(), nullable=False),
        pa.field("tenant", pa.string(), nullable=False),
        pa.field("record_id", pa.string(), nullable=False),
        pa.field("occur_time_us", pa.int64(), nullable=False),
        pa.field("receive_time_ms", pa.int64(), nullable=False),
        # The entry's calls on its first row and 0 on the others: what to sum over all rows of an entry.
        pa.field("calls", pa.int64(), nullable=False),
        # The entry's calls on each of its rows: what to sum where only one row of an entry is kept.
        pa.field("entry_calls", pa.int64(), nullable=False),
        pa.field("model", pa.string()),
        pa.field("provider", pa.string()),
        pa.field("tier", pa.string()),
        pa.field("region", pa.string()),
        pa.field("speed", pa.string()),
        pa.field("attributes", pa.map_(pa.string(), pa.string()), nullable=False),
        pa.field("quality", pa.int8(), nullable=False),
        pa.field("rate_card_id", pa.string()),
        pa.field("rate_card_version", pa.int64(), nullable=False),
        pa.field("rate_card_row", pa.string()),
        pa.field("usage_class", pa.string()),
        pa.field("priced_as", pa.string()),
        pa.field("quantity", pa.int64(), nullable=False),
        pa.field("billed_quantity", pa.int64(), nullable=False),
        pa.field("amount_picos", pa.int64(), nullable=False),
        pa.field("per", pa.int64(), nullable=False),
        pa.field("cost_picos", pa.int64(), nullable=False),
        pa.field("unpriced", pa.bool_(), nullable=False),
        # The tenant's own prices that were charged; 0 and null when the card's were.
        pa.field("tenant_prices_version", pa.int64(), nullable=False),
        pa.field("tenant_prices_id", pa.string()),
        # What the card would charge: the same as above unless the tenant has its own prices. Files written before
        # these columns existed lack them: they are read by name, and null means "as charged".
        pa.field("list_priced_as", pa.string()),
        pa.field("list_billed_quantity", pa.int64(), nullable=False),
        pa.field("list_amount_picos", pa.int64(), nullable=False),
        pa.field("list_per", pa.int64(), nullable=False),
        pa.field("list_cost_picos", pa.int64(), nullable=False),
        # One of KIND_NAMES; what follows says something of corrections only.
        pa.field("kind", pa.int8(), nullable=False),
        pa.field("adjusted_record_id", pa.string()),
        pa.field("note", pa.string()),
        pa.field("author", pa.string()),
        pa.field("adjusted_quantity", pa.int64(), nullable=False),
        pa.field("previous_cost_picos", pa.int64(), nullable=False),
        pa.field("prices_unpriced", pa.bool_(), nullable=False),
        # What the provider reported, on the entry's first row; null where the caller sent classes. Flags with commas.
        pa.field("usage_provider", pa.string()),
        pa.field("usage_api", pa.string()),
        pa.field("usage_json", pa.string()),
        pa.field("usage_flags", pa.string()),
        # Microcredits that the line took of the root tenant's credits, and the part that no grant covered; negative
        # where a correction gave some back. 0 in entries of KIND_CREDIT.
        pa.field("credits", pa.int64(), nullable=False),
        pa.field("overdrawn", pa.int64(), nullable=False),
        # JSON: [[grant id, "" for no grant, microcredits taken or, negative, given], ...]; null where there are none.
        pa.field("credit_moves", pa.string()),
        # Of KIND_CREDIT only: what it changed, as JSON.
        pa.field("credit_change", pa.string()),
    ]
)

SORT_COLUMNS = ("partition", "tenant", "stream_ms", "stream_seq")
"""Order of the rows within a file, so that a report about one tenant skips most of it."""


class LedgerSource(Protocol):
    """The part of taximeter_server._native.Engine that the ledger needs."""

    def store_time_ms(self) -> int:
        """Return the clock that stream ids are made by."""

    def read_to_archive(self, after_ids: Sequence[str], *, count_max: int) -> tuple[bytes, list[str], int]:
        """Return (Arrow IPC stream of rows by SORT_COLUMNS, last stream id read of each partition, number of entries).

        after_ids: after which to read, by partition.
        """

    def read_tail(
        self,
        spans: Sequence[tuple[int, str, str]],
        *,
        columns: Sequence[str],
        intervals_us: Sequence[tuple[int, int]],
        tenants: Sequence[str] | None = None,
    ) -> tuple[bytes, list[str], bool]:
        """Return (Arrow IPC stream of rows, last stream id read of each span, whether that is everything)."""

    def begin_archive(self) -> int:
        """Name the opening of the store that entries are about to be read from."""

    def hold_archive(self, opening: int) -> None:
        """Keep the store from being opened again; fail when it has been since opening."""

    def release_archive(self) -> None:
        """Let the store be opened again."""

    def set_archived(self, partition: int, stream_id: str) -> None:
        """Learn that the manifest covers the partition through stream_id."""

    def trim_ledger(self, partition: int, *, through_id: str) -> None:
        """Drop entries up to and including through_id."""


class StreamId(NamedTuple):
    """Place of an entry in its partition's stream; compares as the store does."""

    ms: int
    seq: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read "MS-SEQ". Raises ValueError."""
        ms, _, seq = text.partition("-")
        return cls(int(ms), int(seq))

    def __str__(self) -> str:
        return f"{self.ms}-{self.seq}"


BEFORE_ALL = StreamId(0, 0)
"""Smaller than the id of any entry."""

AFTER_ALL = StreamId(2**64 - 1, 2**64 - 1)
"""Not smaller than the id of any entry."""


def read_rows(ipc: bytes) -> pa.Table:
    """Return the rows that read_to_archive answered. Raises pyarrow.ArrowInvalid when they do not fit SCHEMA."""
    rows = pa.ipc.open_stream(ipc).read_all()
    # A cast costs a millisecond, also where there is nothing to do: a round of the archiver has up to 64 of them.
    return rows if rows.schema.equals(SCHEMA) else rows.cast(SCHEMA)


def partition_of(tenant: str) -> int:
    """Return the partition of a tenant path: CRC-32C of its first segment, modulo PARTITION_COUNT."""
    return _crc32c(tenant.partition("/")[0].encode()) % PARTITION_COUNT


def _crc32c_table() -> tuple[int, ...]:
    reversed_polynomial = 0x82F63B78
    table = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = (value >> 1) ^ (reversed_polynomial if value & 1 else 0)
        table.append(value)
    return tuple(table)


_CRC32C_TABLE = _crc32c_table()


def _crc32c(data: bytes) -> int:
    value = 0xFFFFFFFF
    for byte in data:
        value = (value >> 8) ^ _CRC32C_TABLE[(value ^ byte) & 0xFF]
    return value ^ 0xFFFFFFFF
