# SPDX-License-Identifier: Apache-2.0
"""The audit log's list in the store, and what it is compared with. Used through DocumentStore.audit."""

from dataclasses import dataclass
from typing import Any

from taximeter_server.store_errors import translated
from taximeter_server.store_fsync import StoreFsync
from taximeter_server.store_functions import StoreFunctions
from taximeter_server.store_names import AUDIT, AUDIT_OPEN, CONFIGURATION, TIMELINE


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
            transaction.llen(AUDIT).lindex(AUDIT, -1).time().lindex(TIMELINE, -1)
            length, last_entry, (seconds, microseconds), last_timeline_entry = transaction.execute()
        time_ms = int(seconds) * 1_000 + int(microseconds) // 1_000
        return AuditTail(int(length), last_entry or "", time_ms, last_timeline_entry or "")

    def append(self, length: int, entry: str, *, opens: str = "", closes: str = "") -> bool:
        """Append entry if the log still has length entries; says whether it did.

        opens, closes: id of the call that begins, or ends, with this entry.
        """
        call = ("open", opens) if opens else ("close", closes) if closes else ()
        with translated():
            appended: int = self._functions.call("append_audit", (AUDIT, AUDIT_OPEN), length, entry, *call)
            return bool(appended)

    def wait_until_on_disk(self) -> None:
        """Return once everything written so far survives a power loss; see store_fsync."""
        with translated():
            self._fsync.wait()

    def length(self) -> int:
        """Return the number of entries."""
        with translated():
            return int(self._client.llen(AUDIT))

    def entries(self, start: int, end: int) -> list[str]:
        """Return the entries at positions start, inclusive, to end, exclusive, oldest first."""
        if end <= start:
            return []
        with translated():
            return list(self._client.lrange(AUDIT, start, end - 1))

    def stored_entries(self, start: int, end: int) -> list[bytes]:
        """Return the entries as they stand in the store, whatever they are."""
        with translated():
            found: list[bytes] = self._client.execute_command(
                "LRANGE", AUDIT, start, end - 1, NEVER_DECODE=True
            )
            return found

    def open_calls(self) -> dict[str, int]:
        """Return the calls that have begun and not ended: sequence of the intent by id of the call."""
        with translated():
            return {call_id: int(sequence) for call_id, sequence in self._client.hgetall(AUDIT_OPEN).items()}

    def documents(self, kind: str) -> dict[str, str]:
        """Return all documents of a kind, such as "tenants", by name."""
        with translated():
            return dict(self._client.hgetall(f"{CONFIGURATION}{kind}"))
