# SPDX-License-Identifier: Apache-2.0
"""The audit log's list in the store, and what it is compared with. Used through DocumentStore.audit.

Positions and lengths count entries that have been archived: the list begins with the first that has not.
"""

from dataclasses import dataclass
from typing import Any

from taximeter_server.store_errors import translated
from taximeter_server.store_fsync import StoreFsync
from taximeter_server.store_functions import StoreFunctions
from taximeter_server.store_names import AUDIT, AUDIT_ARCHIVED, AUDIT_OPEN, CONFIGURATION, TIMELINE


@dataclass(frozen=True, slots=True)
class AuditTail:
    """Where the next entry goes. time_ms: the store's clock. last_entry, last_timeline_entry: "" for none."""

    length: int
    last_entry: str
    time_ms: int
    last_timeline_entry: str


class AuditStore:
    """Appends and reads entries. Thread-safe. Every method raises StoreUnavailableError."""

    def __init__(self, client: Any, fsync: StoreFsync, functions: StoreFunctions) -> None:
        self._client = client
        self._fsync = fsync
        self._functions = functions

    def tail(self) -> AuditTail:
        """Return the end of the log, the end of the timeline and the time, all as of one instant."""
        with translated(), self._client.pipeline(transaction=True) as transaction:
            transaction.get(AUDIT_ARCHIVED).llen(AUDIT).lindex(AUDIT, -1).time().lindex(TIMELINE, -1)
            archived, kept, last_entry, (seconds, microseconds), last_timeline_entry = transaction.execute()
        time_ms = int(seconds) * 1_000 + int(microseconds) // 1_000
        length = int(archived or 0) + int(kept)
        return AuditTail(length, last_entry or "", time_ms, last_timeline_entry or "")

    def append(self, length: int, entry: str, *, opens: str = "", closes: str = "") -> bool:
        """Append entry if the log still has length entries; says whether it did.

        opens, closes: id of the call that begins, or ends, with this entry.
        """
        call = ("open", opens) if opens else ("close", closes) if closes else ()
        with translated():
            keys = (AUDIT, AUDIT_OPEN, AUDIT_ARCHIVED)
            return bool(self._functions.call("append_audit", keys, length, entry, *call))

    def wait_until_on_disk(self) -> None:
        """Return once everything written so far survives a power loss; see store_fsync."""
        with translated():
            self._fsync.wait()

    def lengths(self) -> tuple[int, int]:
        """Return the number of archived entries, and of all."""
        with translated(), self._client.pipeline(transaction=True) as transaction:
            archived, kept = transaction.get(AUDIT_ARCHIVED).llen(AUDIT).execute()
            return int(archived or 0), int(archived or 0) + int(kept)

    def stored_entries(self, start: int, end: int) -> list[bytes]:
        """Return the entries at positions start, inclusive, to end, exclusive, as they stand in the store.

        Fewer, when some have been archived meanwhile.
        """
        while start < end:
            archived, _ = self.lengths()
            if archived > start:
                break
            with translated():
                found: list[bytes] = self._client.execute_command(
                    "LRANGE", AUDIT, start - archived, end - archived - 1, NEVER_DECODE=True
                )
            if self.lengths()[0] == archived:
                return found
        return []

    def forget(self, archived: int, count: int) -> None:
        """Forget count entries that have been archived after the first archived ones."""
        with translated():
            self._functions.call("forget_audit", (AUDIT, AUDIT_ARCHIVED), archived, count)

    def open_calls(self) -> dict[str, int]:
        """Return the calls that have begun and not ended: sequence of the intent by id of the call."""
        with translated():
            return {call_id: int(sequence) for call_id, sequence in self._client.hgetall(AUDIT_OPEN).items()}

    def documents(self, kind: str) -> dict[str, str]:
        """Return all documents of a kind, such as "tenants", by name."""
        with translated():
            return dict(self._client.hgetall(f"{CONFIGURATION}{kind}"))
