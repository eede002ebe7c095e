# SPDX-License-Identifier: Apache-2.0
"""The real engine on a real store, with a way to put entries into the streams without recording them.

Recording would bound their times to the last days and price them by a card; the ledger must be right for any entry.
"""

from collections.abc import Sequence
from pathlib import Path

import redis

from taximeter_server._native import Engine
from taximeter_server.ledger import PARTITION_COUNT, StreamId, partition_of
from taximeter_server.store_users import engine_url


class StreamEngine:
    """Reads and trims through an engine of its own. archived is what set_archived was told, by partition."""

    def __init__(self, url: str, journal: Path) -> None:
        self._store = redis.Redis.from_url(url)
        self._engine = Engine(store_url=engine_url(url), journal_dir=str(journal), exclusive_store=True)
        self._engine.open(archived_ids=["0-0"] * PARTITION_COUNT, timeout_ms=10_000)
        self.archived: dict[int, str] = {}

    def store_time_ms(self) -> int:
        """Pass on."""
        return self._engine.store_time_ms()

    def read_to_archive(self, after_ids: Sequence[str], *, count_max: int) -> tuple[bytes, list[str], int]:
        """Pass on."""
        return self._engine.read_to_archive(after_ids, count_max=count_max)

    def read_tail(
        self,
        spans: Sequence[tuple[int, str, str]],
        *,
        columns: Sequence[str],
        intervals_us: Sequence[tuple[int, int]],
        tenants: Sequence[str] | None = None,
    ) -> tuple[bytes, list[str], bool]:
        """Pass on."""
        return self._engine.read_tail(spans, columns=columns, intervals_us=intervals_us, tenants=tenants)

    def begin_archive(self) -> int:
        """Pass on."""
        return self._engine.begin_archive()

    def hold_archive(self, opening: int) -> None:
        """Pass on."""
        self._engine.hold_archive(opening)

    def release_archive(self) -> None:
        """Pass on."""
        self._engine.release_archive()

    def set_archived(self, partition: int, stream_id: str) -> None:
        """Pass on and remember; archiving never goes back."""
        assert StreamId.parse(stream_id) >= StreamId.parse(self.archived.get(partition, "0-0"))
        self.archived[partition] = stream_id
        self._engine.set_archived(partition, stream_id)

    def trim_ledger(self, partition: int, *, through_id: str) -> None:
        """Pass on what is archived; nothing else may be trimmed."""
        assert StreamId.parse(through_id) <= StreamId.parse(self.archived.get(partition, "0-0"))
        self._engine.trim_ledger(partition, through_id=through_id)

    def append(self, tenant: str, data: bytes, *, field: str = "e", stream_id: str = "*") -> str:
        """Add a serialized entry, or what another field stands for, to its partition's stream; returns its id."""
        entry_id = self._store.xadd(_key(partition_of(tenant)), {field: data}, id=stream_id)
        assert isinstance(entry_id, bytes)
        return entry_id.decode()

    def append_all(self, entries: list[tuple[str, bytes]]) -> None:
        """Add many (tenant, serialized entry) pairs."""
        pipeline = self._store.pipeline(transaction=False)
        for tenant, data in entries:
            pipeline.xadd(_key(partition_of(tenant)), {"e": data})
        pipeline.execute()

    def ledger_length(self) -> int:
        """Pass on."""
        return self._engine.ledger_length()

    def clear(self) -> None:
        """Empty the streams and forget what was archived."""
        self._store.delete(*(_key(partition) for partition in range(PARTITION_COUNT)))
        self.archived = {}

    def close(self) -> None:
        """Close the connections and unlock the journal."""
        self._engine.close()
        self._store.close()


def _key(partition: int) -> str:
    return f"{{tx:{partition}}}:ledger"
