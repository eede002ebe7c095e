# SPDX-License-Identifier: Apache-2.0
"""Copies of the audit log beside the ledger, one line per entry in a file per month, which prove what the store says.

The servers on one store append to the same files. A line that a kill kept out is added at the next start.
"""

import hashlib
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from taximeter_server.audit_entry import AuditEntry
from taximeter_server.data_directory import make_private_directory


def line_digest(line: bytes) -> bytes:
    """Return what stands for a line in memory: there may be millions."""
    return hashlib.sha256(line).digest()


class AuditCopies:
    """The folder of the copies. Nothing in it is ever changed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, entry: AuditEntry) -> None:
        """Append an entry's line."""
        make_private_directory(self._folder)
        month = datetime.fromtimestamp(entry.time_ms / 1000, UTC).strftime("%Y-%m")
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(self._folder / f"{month}.jsonl", flags, 0o600)
        try:
            # One write: lines of several servers never mix. A line that a power loss cut off is ended first.
            size = os.fstat(descriptor).st_size
            cut_off = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
            os.write(descriptor, (b"\n" if cut_off else b"") + f"{entry.to_json()}\n".encode())
        finally:
            os.close(descriptor)

    def lines(self) -> Iterator[tuple[Path, int, bytes]]:
        """Yield every line with its file and its number in it, from 1."""
        for path in sorted(self._folder.glob("*.jsonl")):
            with path.open("rb") as file:
                for number, line in enumerate(file, start=1):
                    yield path, number, line.rstrip(b"\n")
