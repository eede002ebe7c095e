# SPDX-License-Identifier: Apache-2.0
"""The files of a spool: segments, the cursor, dead letters, what was damaged; and the lock of their one owner."""

import base64
import fcntl
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path

from taximeter._spool_frames import frame, frames
from taximeter.errors import SpoolError

_SEGMENT, _CURSOR, _LOCK = "segment-{:016d}.spool", "cursor.json", "lock"
_DEAD_LETTERS, _DAMAGED = "dead-letters.spool", "damaged-{:016d}-{:012d}.bin"
_logger = logging.getLogger("taximeter.spool")

Place = tuple[int, int]
"""Number of a segment and an offset in it."""


class SpoolFiles:
    """The directory as whoever may look into it, also while another process uses it."""

    def __init__(self, path: Path) -> None:
        """Takes its path."""
        self.path = path

    def segments(self) -> list[int]:
        """Returns the numbers of the segments, oldest first."""
        return sorted(int(path.stem.partition("-")[2]) for path in self.path.glob("segment-*.spool"))

    def segment(self, number: int) -> Path:
        """Returns the file of a segment."""
        return self.path / _SEGMENT.format(number)

    def read_cursor(self) -> Place:
        """Returns from where on records are still to be sent; from the first when nobody has noted it."""
        try:
            found = json.loads((self.path / _CURSOR).read_text())
            return int(found["segment"]), int(found["offset"])
        except FileNotFoundError:
            return 0, 0
        except (ValueError, KeyError, TypeError):
            # Sending everything again is harmless: the ids are the same.
            _logger.warning("%s: the cursor is damaged; everything is sent again", self.path)
            return 0, 0

    def dead_letters(self) -> list[bytes]:
        """Returns the dead letters, oldest first."""
        try:
            data = (self.path / _DEAD_LETTERS).read_bytes()
        except FileNotFoundError:
            return []
        return [found.payload for found in frames(data, 0) if found.payload is not None]

    def damaged_count(self) -> int:
        """Returns how many pieces of damaged segments were put aside."""
        return len(list(self.path.glob("damaged-*.bin")))


class SpoolDirectory(SpoolFiles):
    """The directory, locked for this process as long as it is open."""

    def __init__(self, path: Path, sync: Callable[[int], None] = os.fsync) -> None:
        """Creates and locks it, and cuts what a crash left unfinished. Raises SpoolError."""
        super().__init__(path)
        self._sync = sync
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            message = f"{path}: the spool cannot be opened: {error.strerror}"
            raise SpoolError(message) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            message = f"{path}: another process uses this spool"
            raise SpoolError(message) from error
        if numbers := self.segments():
            self._cut_torn_tail(numbers[-1])

    def close(self) -> None:
        """Unlocks it."""
        os.close(self._lock)

    def create_segment(self, number: int) -> int:
        """Creates a segment and returns its descriptor. Raises OSError."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_APPEND
        descriptor = os.open(self.segment(number), flags, 0o600)
        self.sync_names()
        return descriptor

    def sync(self, descriptor: int) -> None:
        """Makes what was written to a file durable. Raises OSError, which is final for this file."""
        self._sync(descriptor)

    def sync_names(self) -> None:
        """Makes the names of the files durable."""
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._sync(descriptor)
        finally:
            os.close(descriptor)

    def write_cursor(self, place: Place) -> None:
        """Notes durably up to where records are settled, and then removes the segments before. Raises OSError."""
        self._write_durably(_CURSOR, json.dumps({"segment": place[0], "offset": place[1]}).encode())
        done = [number for number in self.segments() if number < place[0]]
        for number in done:
            self.segment(number).unlink()
        if done:
            self.sync_names()

    def add_dead_letter(self, payload: bytes) -> None:
        """Appends to the dead letters, durably. Raises OSError."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        descriptor = os.open(self.path / _DEAD_LETTERS, flags, 0o600)
        try:
            os.write(descriptor, frame(payload))
            self._sync(descriptor)
        finally:
            os.close(descriptor)
        self.sync_names()

    def drop_dead_letters(self) -> None:
        """Removes all dead letters, after somebody has put them elsewhere."""
        (self.path / _DEAD_LETTERS).unlink(missing_ok=True)
        self.sync_names()

    def put_aside(self, number: int, offset: int, data: bytes) -> None:
        """Keeps damaged bytes for an operator, and says so."""
        name = _DAMAGED.format(number, offset)
        if not (self.path / name).exists():
            self._write_durably(name, data)
            _logger.error("%s: %d damaged bytes were put aside as %s", self.path, len(data), name)

    def _write_durably(self, name: str, data: bytes) -> None:
        temporary = self.path / f"{name}.new"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, data)
            self._sync(descriptor)
        finally:
            os.close(descriptor)
        temporary.replace(self.path / name)
        self.sync_names()

    def _cut_torn_tail(self, number: int) -> None:
        """Cuts the newest segment behind its last whole frame: nobody was told that the rest is kept."""
        data = self.segment(number).read_bytes()
        end = 0
        for found in frames(data, 0):
            end = found.end
        if end < len(data):
            self.put_aside(number, end, data[end:])
            with self.segment(number).open("r+b") as file:
                file.truncate(end)
                self._sync(file.fileno())


def record_of(letter: bytes) -> bytes:
    """Returns the record of a dead letter, which is JSON with time_ms, code, reason, message and it."""
    return base64.b64decode(json.loads(letter)["record"])
