# SPDX-License-Identifier: Apache-2.0
"""The parts of the audit log, joined: what appends, what verifies, what keeps."""

from collections.abc import Callable, Iterable
from pathlib import Path

from taximeter_server import _native
from taximeter_server.audit_copies import AuditCopies
from taximeter_server.audit_entries import AuditEntries
from taximeter_server.audit_keeper import AuditKeeper, Denial
from taximeter_server.audit_log import AuditLog
from taximeter_server.audit_segments import AuditSegments
from taximeter_server.audit_verification import AuditVerifier
from taximeter_server.key_uses import KeyUses
from taximeter_server.store import DocumentStore


class Audit:
    """The audit log of a store, as one instance sees it."""

    def __init__(self, store: DocumentStore, engine: _native.Engine, folder: Path) -> None:
        """folder: where the copies and the archived entries go."""
        copies = AuditCopies(folder)
        entries = AuditEntries(store.audit, AuditSegments(folder / "archive"))
        self._engine = engine
        self.changes = store.changes
        self.log = AuditLog(store, entries, copies)
        self.verifier = AuditVerifier(store, entries, copies)
        self.uses = KeyUses(store, lambda: _native.key_uses(engine))

    def keeper(self, take_denials: Callable[[], Iterable[Denial]]) -> AuditKeeper:
        """Return what runs beside the calls. take_denials: those that the front did not deny itself."""
        return AuditKeeper(
            self.log, self.uses, lambda: [*_native.take_denials(self._engine), *take_denials()]
        )
