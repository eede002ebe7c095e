# SPDX-License-Identifier: Apache-2.0
"""The audit log of a store: append-only, chained by hash, one winner per place, and a copy beside the ledger.

An intent is on the store's disk before what it announces is done, so no admin change is ever without an entry, whatever
dies when. An outcome that cannot be written leaves the intent open, and the change stands.
"""

import contextlib
import secrets
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace

import structlog

from taximeter_server.audit_copies import AuditCopies, line_digest
from taximeter_server.audit_entries import AuditEntries
from taximeter_server.audit_entry import OUTCOME_OK, AuditEntry, AuditKind
from taximeter_server.document_changes import DocumentChange
from taximeter_server.errors import DataDirectoryError, RequestError, StoreUnavailableError
from taximeter_server.store import DocumentStore
from taximeter_server.timeline_entry import TimelineEntry

SERVER_ACTOR = "taximeter"
ATTEMPTS_MAX = 1_000
"""Lost races for one place in the log."""
CHANGES_MAX = 200
"""Changes that one entry lists; an entry is written at once and read whole."""

_log = structlog.get_logger(__name__)


class AuditLog:
    """Appends to the log. Thread-safe."""

    def __init__(self, store: DocumentStore, entries: AuditEntries, copies: AuditCopies) -> None:
        self._store = store
        self._entries = entries
        self._copies = copies
        # Threads of one server take turns, instead of racing for a place.
        self._lock = threading.Lock()

    def begin(self, draft: AuditEntry) -> AuditEntry:
        """Append the intent of draft's call. It is on disk when this returns. Raises StoreUnavailableError."""
        intent = self._append(
            replace(draft, kind=AuditKind.INTENT, call_id=secrets.token_hex(8), outcome=""), opens=True
        )
        self._store.audit.wait_until_on_disk()
        return intent

    def end(self, outcome: AuditEntry, changes: Sequence[DocumentChange]) -> None:
        """Append what became of a call: outcome is its intent with the outcome and what the answer named.

        Never fails: the change has been made, and its intent says so.
        """
        changes = changes[:CHANGES_MAX]
        try:
            entry = self._append(
                replace(outcome, kind=AuditKind.OUTCOME, changes=tuple(changes)), closes=True
            )
        except RequestError as error:
            _log.warning("the outcome of an admin call is not in the audit log", problem=error.reason)
            return
        _log.info(
            "admin call",
            actor=entry.actor,
            method=entry.method,
            target=entry.target,
            outcome=entry.outcome,
            peer=entry.peer,
            sequence=entry.sequence,
            chain_hash=entry.chain_hash,
        )

    def note_denials(self, *, actor: str, method: str, peer: str, count: int) -> None:
        """Append one entry for calls that were refused before they were looked at. Raises StoreUnavailableError."""
        self._append(
            AuditEntry(
                kind=AuditKind.DENIALS,
                actor=actor,
                method=method,
                peer=peer,
                outcome="PERMISSION_DENIED",
                count=count,
            )
        )

    @contextlib.contextmanager
    def own_call(self, name: str) -> Iterator[None]:
        """Audit what the server itself changes in the block. Raises StoreUnavailableError before anything is done."""
        intent = self.begin(AuditEntry(kind=AuditKind.INTENT, actor=SERVER_ACTOR, method=name))
        changes: list[DocumentChange] = []
        with self._store.changes.collected(changes):
            yield
        self.end(replace(intent, outcome=OUTCOME_OK), changes)

    def _append(self, draft: AuditEntry, *, opens: bool = False, closes: bool = False) -> AuditEntry:
        with self._lock:
            for _ in range(ATTEMPTS_MAX):
                tail = self._store.audit.tail()
                last = AuditEntry.from_json(tail.last_entry) if tail.last_entry else None
                if last and draft.call_id and (last.kind, last.call_id) == (draft.kind, draft.call_id):
                    # Sent again by the client after a connection broke: the first one had arrived.
                    return last
                timeline = (
                    TimelineEntry.from_json(tail.last_timeline_entry) if tail.last_timeline_entry else None
                )
                entry = replace(
                    draft,
                    sequence=tail.length + 1,
                    time_ms=tail.time_ms,
                    timeline_version=timeline.version if timeline else 0,
                    timeline_hash=timeline.chain_hash if timeline else "",
                ).chained(last.chain_hash if last else "")
                call_id = draft.call_id
                if self._store.audit.append(
                    tail.length,
                    entry.to_json(),
                    opens=call_id if opens else "",
                    closes=call_id if closes else "",
                ):
                    self._keep_copy(entry)
                    return entry
        raise StoreUnavailableError

    def _keep_copy(self, entry: AuditEntry) -> None:
        try:
            self._copies.keep(entry)
        except (OSError, DataDirectoryError) as error:
            # The entry stands; the next start of a server tries again.
            _log.error("no copy of an audit entry", sequence=entry.sequence, problem=str(error))

    def entries_before(self, sequence: int) -> Iterator[AuditEntry]:
        """Yield entries newest first, from the one before sequence on. Raises StoreCorruptError."""
        for document in self._entries.newest_first(min(sequence - 1, self.length())):
            yield AuditEntry.from_json(document)

    def length(self) -> int:
        """Return the number of entries."""
        return self._entries.length()

    def archive(self) -> None:
        """Move old entries out of the store. Raises StoreUnavailableError, StoreCorruptError."""
        try:
            self._entries.archive()
        except (OSError, DataDirectoryError) as error:
            # They stay in the store until that works.
            _log.error("cannot archive audit entries", problem=str(error))

    def open_sequences(self) -> frozenset[int]:
        """Return the sequences of intents without an outcome."""
        return frozenset(self._store.audit.open_calls().values())

    def keep_copies(self) -> None:
        """Keep what a kill has left without a copy."""
        kept = {line_digest(line) for _, _, line in self._copies.lines()}
        for document in self._entries.kept():
            if line_digest(document.encode()) not in kept:
                self._copies.keep(AuditEntry.from_json(document))
