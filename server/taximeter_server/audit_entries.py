# SPDX-License-Identifier: Apache-2.0
"""All entries of the audit log, wherever they are: the old ones in segments, the new ones in the store."""

from collections.abc import Iterator

import structlog

from taximeter_server.audit_segments import AuditSegments
from taximeter_server.store_audit import AuditStore
from taximeter_server.store_names import AUDIT

READ_COUNT = 1_000

_log = structlog.get_logger(__name__)


class AuditEntries:
    """Reads entries by position, from 0, and moves old ones out of the store. Raises StoreUnavailableError."""

    def __init__(self, store: AuditStore, segments: AuditSegments) -> None:
        self._store = store
        self._segments = segments

    def length(self) -> int:
        """Return the number of entries."""
        return self._store.lengths()[1]

    def newest_first(self, end: int) -> Iterator[str]:
        """Yield the entries before a position. Raises StoreCorruptError."""
        while end > 0:
            start = max(0, end - READ_COUNT)
            archived, _ = self._store.lengths()
            start = max(start, archived) if end > archived else start
            found = (
                self._store.stored_entries(start, end)
                if end > archived
                else self._segments.documents(start, end)
            )
            if not found:
                # Archived meanwhile.
                continue
            yield from (document.decode() for document in reversed(found))
            end = start

    def kept(self) -> Iterator[str]:
        """Yield the entries that are still in the store, oldest first."""
        at, length = self._store.lengths()
        while at < length:
            found = self._store.stored_entries(at, min(at + READ_COUNT, length))
            if not found:
                return
            yield from (document.decode() for document in found)
            at += len(found)

    def walk(self, length: int) -> Iterator[tuple[str, bytes]]:
        """Yield place and text of the first entries as they stand there, whatever they are, oldest first."""
        at, _ = self._store.lengths()
        yield from self._segments.walk(at)
        while at < length:
            found = self._store.stored_entries(at, min(at + READ_COUNT, length))
            if not found and self._store.lengths()[0] > at:
                found = self._segments.documents(at, min(self._store.lengths()[0], length))
            if not found:
                return
            for document in found:
                yield f"{AUDIT}[{at}]", document
                at += 1

    def archive(self) -> None:
        """Move the oldest entries to segments, as long as the store keeps enough. Raises StoreCorruptError, OSError."""
        count = self._segments.segment_entries
        while True:
            archived, length = self._store.lengths()
            if length - archived < 2 * count:
                return
            documents = self._store.stored_entries(archived, archived + count)
            if len(documents) == count:
                self._segments.write(archived, documents)
                self._store.forget(archived, count)
                _log.info("archived audit entries", first=archived + 1, last=archived + count)
