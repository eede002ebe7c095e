# SPDX-License-Identifier: Apache-2.0
"""The old part of the audit log: segments of a fixed number of entries beside the copies, which never change.

The store keeps what is new, so that its memory does not grow with all that admins have ever done. The chain goes on
from segment to segment and into the store.
"""

from collections.abc import Iterator
from pathlib import Path

from taximeter_server.data_directory import make_private_directory, write_private_file
from taximeter_server.errors import StoreCorruptError

SEGMENT_ENTRIES = 10_000
"""Entries of a segment; the store keeps at least as many. Part of the format."""


class AuditSegments:
    """The folder of the segments."""

    def __init__(self, folder: Path, *, segment_entries: int = SEGMENT_ENTRIES) -> None:
        self._folder = folder
        self.segment_entries = segment_entries

    def file(self, position: int) -> Path:
        """Return the file with the entry at a position, from 0."""
        first = position - position % self.segment_entries + 1
        return self._folder / f"{first:010}-{first + self.segment_entries - 1:010}.jsonl"

    def write(self, start: int, documents: list[bytes]) -> None:
        """Write the segment that begins at a position. It is on disk when this returns.

        Raises StoreCorruptError when another is there already, OSError, DataDirectoryError.
        """
        content = b"".join(document + b"\n" for document in documents)
        path = self.file(start)
        make_private_directory(self._folder)
        if path.exists():
            # A kill came between this and what the store forgets.
            if path.read_bytes() != content:
                raise StoreCorruptError(f"{path} is not what the store has")
            return
        write_private_file(path, content)

    def documents(self, start: int, end: int) -> list[bytes]:
        """Return the entries at positions start, inclusive, to end, exclusive. Raises StoreCorruptError."""
        found: list[bytes] = []
        for first in range(start - start % self.segment_entries, end, self.segment_entries):
            lines = self._lines(self.file(first))
            found += lines[max(start - first, 0) : end - first]
        return found

    def _lines(self, path: Path) -> list[bytes]:
        try:
            lines = path.read_bytes().split(b"\n")
        except OSError as error:
            raise StoreCorruptError(f"audit segment {path}: {error.strerror}") from error
        return lines[:-1] if not lines[-1] else lines

    def walk(self, end: int) -> Iterator[tuple[str, bytes]]:
        """Yield place and text of the entries before a position. One that is not there is empty."""
        for first in range(0, end, self.segment_entries):
            path = self.file(first)
            try:
                lines = self._lines(path)
            except StoreCorruptError:
                lines = []
            lines += [b""] * (self.segment_entries - len(lines))
            for number, line in enumerate(lines, start=1):
                yield f"{path}:{number}", line
