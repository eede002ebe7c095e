# SPDX-License-Identifier: Apache-2.0
"""When keys were last used, to some minutes: noted by each front in memory, kept in the store now and then."""

from collections.abc import Callable, Mapping

from taximeter_server.store import DocumentStore


class KeyUses:
    """The uses of all keys of a store."""

    def __init__(self, store: DocumentStore, seen: Callable[[], Mapping[str, int]]) -> None:
        """seen: the uses that this instance's front has noted, milliseconds since 1970 UTC by key id."""
        self._store = store
        self._seen = seen
        self._kept: dict[str, int] = {}

    def keep(self) -> None:
        """Keep what this instance has seen. Raises StoreUnavailableError."""
        seen = dict(self._seen())
        newer = {key_id: time_ms for key_id, time_ms in seen.items() if self._kept.get(key_id) != time_ms}
        if newer:
            self._store.put_key_uses(newer)
            self._kept = seen

    def latest(self) -> dict[str, int]:
        """Return the last use of each key, milliseconds since 1970 UTC by key id. Raises StoreUnavailableError."""
        latest = self._store.key_uses()
        for key_id, time_ms in self._seen().items():
            latest[key_id] = max(time_ms, latest.get(key_id, 0))
        return latest
