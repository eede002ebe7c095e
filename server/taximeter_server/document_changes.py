# SPDX-License-Identifier: Apache-2.0
"""What the call in progress has changed: noted by the store where it writes, collected by who audits the call."""

import contextlib
import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DocumentChange:
    """One document before and after. document: its kind and name, such as ``tenants/acme``; "" for a hash is none."""

    document: str
    before_sha256: str
    after_sha256: str


def document_sha256(document: str | None) -> str:
    """Return the lower-case hex SHA-256 of a document, "" for none."""
    return "" if document is None else hashlib.sha256(document.encode()).hexdigest()


class DocumentChanges:
    """Hands changes to whoever collects them in the thread that makes them."""

    def __init__(self) -> None:
        self._threads = threading.local()

    @contextlib.contextmanager
    def collected(self, into: list[DocumentChange]) -> Iterator[None]:
        """Collect the changes that this thread makes within the block."""
        before = getattr(self._threads, "changes", None)
        self._threads.changes = into
        try:
            yield
        finally:
            self._threads.changes = before

    def note(self, document: str, before_sha256: str, after_sha256: str) -> None:
        """Note a change of this thread. Nobody collects those that no call asked for."""
        changes = getattr(self._threads, "changes", None)
        if changes is not None:
            changes.append(DocumentChange(document, before_sha256, after_sha256))
