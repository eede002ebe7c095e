# SPDX-License-Identifier: Apache-2.0
"""Whether the audit log is as it was written, and whether what it is about is as it says.

Every byte of an entry stands under a hash and in a copy. The log also says what each key, tenant and entry of the
timeline must be now, so a change that went past the server shows. Somebody who rewrites everything, store and files
alike, changes the newest hash: keep that elsewhere.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from taximeter_server.audit_copies import AuditCopies, line_digest
from taximeter_server.audit_entries import AuditEntries
from taximeter_server.audit_entry import AuditEntry, AuditKind
from taximeter_server.document_changes import document_sha256
from taximeter_server.errors import StoreCorruptError
from taximeter_server.store import DocumentStore
from taximeter_server.timeline_entry import TimelineEntry, parse_timeline

WALKS_MAX = 3
SETTLE_SECONDS = 1
DIFFERENCES_MAX = 1_000

LOGGED_KINDS = ("keys", "tenants", "plans")
"""Kinds of documents of which none may exist that no entry names."""


@dataclass(frozen=True, slots=True)
class AuditDifference:
    """One thing that is not as the log says. sequence is 0 where no entry is meant."""

    sequence: int
    place: str
    message: str


@dataclass(slots=True)
class AuditVerification:
    """What was looked at and what differs. chain_hash: of the newest entry that could be read."""

    entry_count: int = 0
    open_call_count: int = 0
    chain_hash: str = ""
    differences: list[AuditDifference] = field(default_factory=list)

    def note(self, sequence: int, place: str, message: str) -> None:
        """Add a difference, up to DIFFERENCES_MAX."""
        if len(self.differences) < DIFFERENCES_MAX:
            self.differences.append(AuditDifference(sequence, place, message))


class AuditVerifier:
    """Reads everything and changes nothing."""

    def __init__(
        self,
        store: DocumentStore,
        entries: AuditEntries,
        copies: AuditCopies,
        *,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """sleep: takes seconds."""
        self._store = store
        self._entries = entries
        self._copies = copies
        self._sleep = sleep

    def verify(self) -> AuditVerification:
        """Walk the whole log. Raises StoreUnavailableError."""
        found = self._walk()
        for _ in range(WALKS_MAX - 1):
            if not found.differences:
                break
            # What is being written just now is in one place and not yet in the other: look again.
            self._sleep(SETTLE_SECONDS)
            found = self._walk()
        return found

    def _walk(self) -> AuditVerification:
        walk = _Walk(self._copies_by_sequence())
        # The timeline and the documents first: what is newer in the log than they are is not yet in them.
        timeline = self._timeline()
        documents = {kind: self._store.audit.documents(kind) for kind in LOGGED_KINDS}
        length = self._entries.length()
        for place, document in self._entries.walk(length):
            walk.entry(place, document)
        walk.compare_timeline(timeline)
        walk.compare_documents(documents)
        return walk.finish(length)

    def _timeline(self) -> tuple[TimelineEntry, ...]:
        try:
            return parse_timeline(self._store.timeline())
        except StoreCorruptError:
            # That is for the verification of rate cards to say.
            return ()

    def _copies_by_sequence(self) -> dict[int, list[tuple[str, bytes]]]:
        """Return place and digest of the copies by sequence; under 0 the lines that are no entry."""
        copies: dict[int, list[tuple[str, bytes]]] = {}
        for path, number, line in self._copies.lines():
            try:
                sequence = AuditEntry.from_json(line.decode()).sequence
            except (StoreCorruptError, UnicodeDecodeError):
                sequence = 0
            kept = line_digest(line) if sequence else line
            copies.setdefault(sequence, []).append((f"{path}:{number}", kept))
        return copies


class _Walk:
    """One walk over what was read."""

    def __init__(self, copies: dict[int, list[tuple[str, bytes]]]) -> None:
        # A line that a power loss cut off is kept whole further on.
        self._cut_off = copies.pop(0, [])
        self._copies = copies
        self._found = AuditVerification()
        self._previous_hash: str | None = ""
        self._latest: dict[str, tuple[int, str]] = {}
        self._open: dict[str, int] = {}
        self._timeline_hashes: dict[int, tuple[int, str]] = {}

    def entry(self, place: str, document: bytes) -> None:
        """Look at the next entry and its copy."""
        sequence = self._found.entry_count + 1
        self._found.entry_count = sequence
        self._cut_off = [found for found in self._cut_off if not document.startswith(found[1])]
        self._compare_copies(sequence, document)
        previous_hash, self._previous_hash = self._previous_hash, None
        try:
            entry = AuditEntry.from_json(document.decode())
        except (StoreCorruptError, UnicodeDecodeError):
            self._found.note(sequence, place, "cannot be read")
            return
        self._previous_hash = entry.chain_hash
        if entry.to_json().encode() != document or entry.sequence != sequence:
            self._found.note(sequence, place, "is not as it was written")
        elif previous_hash is not None and entry != entry.chained(previous_hash):
            self._found.note(sequence, place, "does not follow from the entry before")
        self._found.chain_hash = entry.chain_hash
        self._remember(entry)

    def _remember(self, entry: AuditEntry) -> None:
        if entry.kind is AuditKind.INTENT:
            self._open[entry.call_id] = entry.sequence
        elif entry.kind is AuditKind.OUTCOME:
            self._open.pop(entry.call_id, None)
        for change in entry.changes:
            self._latest[change.document] = (entry.sequence, change.after_sha256)
        if entry.timeline_version:
            self._timeline_hashes[entry.timeline_version] = (entry.sequence, entry.timeline_hash)

    def _compare_copies(self, sequence: int, document: bytes) -> None:
        copies = self._copies.pop(sequence, [])
        if not copies:
            self._found.note(sequence, "the copies beside the ledger", f"entry {sequence} is missing")
        for place, digest in copies:
            if digest != line_digest(document):
                self._found.note(sequence, place, "differs from the store")

    def compare_timeline(self, timeline: tuple[TimelineEntry, ...]) -> None:
        """Look for entries of the timeline that are not those that the log has seen, or that it does not know."""
        for version, (sequence, timeline_hash) in self._timeline_hashes.items():
            if version > len(timeline):
                self._found.note(sequence, "the timeline", f"entry {version}, seen then, is missing")
            elif timeline[version - 1].chain_hash != timeline_hash:
                self._found.note(sequence, "the timeline", f"entry {version} is not the one seen then")
        documents = {str(entry.version): entry.to_json() for entry in timeline}
        self._compare("timeline", documents)

    def compare_documents(self, documents: dict[str, dict[str, str]]) -> None:
        """Look for documents that are not what the log says, or that it does not know."""
        for kind, found in documents.items():
            self._compare(kind, found)

    def _compare(self, kind: str, documents: dict[str, str]) -> None:
        names = set(documents)
        names |= {name.partition("/")[2] for name in self._latest if name.startswith(f"{kind}/")}
        last_open = max(self._open.values(), default=0)
        for name in sorted(names):
            sequence, expected = self._latest.get(f"{kind}/{name}", (0, ""))
            # A call that has no outcome may have changed it since.
            if document_sha256(documents.get(name)) != expected and last_open <= sequence:
                message = "is not what the log says" if sequence else "no entry of the log names it"
                self._found.note(sequence, f"{kind}/{name}", message)

    def finish(self, length: int) -> AuditVerification:
        """Look at what no entry names: the end of the log may have been cut off."""
        for place, _ in self._cut_off:
            self._found.note(0, place, "cannot be read")
        for sequence, copies in sorted(self._copies.items()):
            for place, _ in copies:
                self._found.note(sequence, place, f"the log in the store ends with entry {length}")
        self._found.open_call_count = len(self._open)
        return self._found
