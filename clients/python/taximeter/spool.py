# SPDX-License-Identifier: Apache-2.0
"""The spool: records on this machine's disk, until the server has them."""

import contextlib
import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from taximeter._spool_directory import Place, SpoolDirectory, record_of
from taximeter._spool_frames import PAYLOAD_BYTES_MAX, TIME, frame, frames
from taximeter.clock import system_clock_ms
from taximeter.errors import SpoolError, SpoolFullError

_logger = logging.getLogger("taximeter.spool")


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolSettings:
    """Where a spool lies and how it behaves."""

    directory: Path
    """Its directory, created when it is missing. One process at a time may use it."""
    bytes_max: int = 1 << 30
    """Largest size of its segments together."""
    waits_when_full: bool = False
    """Whether a record waits for room in a full spool, instead of raising SpoolFullError."""
    segment_bytes_max: int = 16 << 20
    """Size from which on the next segment is begun."""
    start_delay_max_s: float = 30.0
    """Longest delay, drawn from 0, before what an earlier process left is sent: many clients may return at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolStatus:
    """What is in a spool."""

    backlog_bytes: int
    """Bytes that the server has not got yet."""
    backlog_age_ms: int
    """Age of the oldest record that the server has not got yet. 0 when there is none."""
    dead_letter_count: int
    """Records that the server refused for good. They stay until an operator acts."""
    damaged_count: int
    """Pieces of damaged segments that were put aside."""
    failed_sync_count: int
    """Files that were given up because the disk did not take them, since this process opened the spool."""


@dataclass(frozen=True, slots=True)
class Spooled:
    """A record in the spool."""

    place: Place
    """Where it begins."""
    end: Place
    """Where the next begins."""
    time_ms: int
    """When it was put there, in Unix milliseconds."""
    payload: bytes
    """The record."""


@dataclass(slots=True)
class _Group:
    """Records that reach the disk with one fsync."""

    frames: list[bytes] = field(default_factory=list)
    is_done: bool = False
    error: SpoolError | None = None


class Spool:
    """Keeps records in order. Safe to share between threads; of one process."""

    def __init__(
        self,
        settings: SpoolSettings,
        *,
        clock: Callable[[], int] = system_clock_ms,
        sync: Callable[[int], None] = os.fsync,
    ) -> None:
        """Opens and locks the directory. Raises SpoolError."""
        self._settings = settings
        self._clock = clock
        self._process_id = os.getpid()
        self._directory = SpoolDirectory(settings.directory, sync)
        numbers = self._directory.segments()
        # Where a segment ends for readers; what is behind it is not known to be on the disk.
        self._ends = {number: self._directory.segment(number).stat().st_size for number in numbers}
        first = min(numbers, default=0)
        self._cursor: Place = max(self._directory.read_cursor(), (first, 0))
        self._noted = self._cursor
        self._active = max([*numbers, self._cursor[0]]) + 1
        self._descriptor: int | None = None
        self._lock = threading.Condition()
        self._group = _Group()
        self._is_writing = False
        self._is_closed = False
        self._failed_sync_count = 0
        self._oldest_ms: int | None = None

    @property
    def path(self) -> Path:
        """Its directory."""
        return self._directory.path

    @property
    def is_empty(self) -> bool:
        """Whether everything in it is settled."""
        with self._lock:
            return not self._backlog_bytes()

    def append(self, payload: bytes) -> None:
        """Returns once a record is on the disk. Raises SpoolError; then nobody may rely on it."""
        if os.getpid() != self._process_id:
            message = f"{self.path}: the spool belongs to the process that this one was forked from"
            raise SpoolError(message)
        if len(payload) + TIME.size > PAYLOAD_BYTES_MAX:
            message = f"a record of {len(payload):,} bytes is too large for a spool"
            raise SpoolError(message)
        framed = frame(TIME.pack(self._clock()) + payload)
        with self._lock:
            self._wait_for_room(len(framed))
            group = self._group
            group.frames.append(framed)
            while self._is_writing and not group.is_done:
                self._lock.wait()
            if not group.is_done:
                self._is_writing = True
                self._group = _Group()
        if not group.is_done:
            self._write(group)
        if group.error is not None:
            raise group.error

    def read(self, *, count_max: int, bytes_max: int) -> tuple[list[Spooled], Place]:
        """Returns records that are not settled, oldest first, and where they end; damaged ones are put aside."""
        found: list[Spooled] = []
        with self._lock:
            ends, place = dict(self._ends), self._cursor
        for number in sorted(number for number in ends if number >= place[0]):
            start = place[1] if number == place[0] else 0
            # At least one record fits.
            size = min(ends[number] - start, max(bytes_max, 2 * PAYLOAD_BYTES_MAX))
            with self._directory.segment(number).open("rb") as file:
                file.seek(start)
                data = file.read(size)
            read_bytes = 0
            for one in frames(data, 0):
                if len(found) == count_max or bytes_max <= 0:
                    return found, (number, start + read_bytes)
                read_bytes = one.end
                begin, end = (number, start + one.offset), (number, start + one.end)
                if one.payload is None:
                    self._directory.put_aside(*begin, data[one.offset : one.end])
                    continue
                (time_ms,) = TIME.unpack_from(one.payload)
                payload = one.payload[TIME.size :]
                found.append(Spooled(begin, end, time_ms, payload))
                bytes_max -= len(payload)
            if start + size < ends[number]:
                return found, (number, start + read_bytes)
            if read_bytes < size:
                # Whatever was there, its length is gone: nothing behind it in this segment can be found.
                self._directory.put_aside(number, start + read_bytes, data[read_bytes:])
            place = (number, ends[number])
        return found, place

    @property
    def cursor(self) -> Place:
        """From where on records are not settled."""
        with self._lock:
            return self._cursor

    def advance(self, place: Place, oldest_ms: int | None) -> None:
        """Notes that everything before a place is settled. oldest_ms: of the first record behind it, if it is known."""
        with self._lock:
            if (
                place[1] >= self._ends.get(place[0], 0)
                and place[0] in self._ends
                and place[0] != self._active
            ):
                place = (place[0] + 1, 0)
            self._cursor, self._oldest_ms = place, oldest_ms
            is_segment_done = place[0] > self._noted[0]
        if is_segment_done:
            self.note_cursor()

    def note_cursor(self) -> None:
        """Writes down what is settled, so that the next process does not send it again, and frees its room."""
        with self._lock:
            place = self._cursor
        if place == self._noted:
            return
        self._directory.write_cursor(place)
        with self._lock:
            self._noted = place
            for number in [number for number in self._ends if number < place[0]]:
                del self._ends[number]
            self._lock.notify_all()

    def add_dead_letter(self, payload: bytes) -> None:
        """Keeps a record that the server refused for good. Raises OSError."""
        self._directory.add_dead_letter(payload)

    def dead_letters(self) -> list[bytes]:
        """Returns the records that the server refused for good: JSON with time_ms, code, reason, message, record."""
        return self._directory.dead_letters()

    def take_dead_letters(self, each: Callable[[bytes], None]) -> int:
        """Hands the records of all dead letters over, and then removes the letters. Returns how many there were.

        A kill in between leaves them where they are: a record that is handed over again keeps its id.
        """
        letters = self._directory.dead_letters()
        for letter in letters:
            each(record_of(letter))
        self._directory.drop_dead_letters()
        return len(letters)

    def status(self) -> SpoolStatus:
        """Returns what is in it."""
        with self._lock:
            backlog_bytes = self._backlog_bytes()
            is_late = backlog_bytes and self._oldest_ms is not None
            age_ms = max(0, self._clock() - (self._oldest_ms or 0)) if is_late else 0
            failed_sync_count = self._failed_sync_count
        return SpoolStatus(
            backlog_bytes=backlog_bytes,
            backlog_age_ms=age_ms,
            dead_letter_count=len(self._directory.dead_letters()),
            damaged_count=self._directory.damaged_count(),
            failed_sync_count=failed_sync_count,
        )

    def close(self) -> None:
        """Writes the cursor down and unlocks the directory. What is in the spool stays."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            while self._is_writing:
                self._lock.wait()
            self._lock.notify_all()
        with contextlib.suppress(OSError):
            self.note_cursor()
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._directory.close()

    def _backlog_bytes(self) -> int:
        number, offset = self._cursor
        return sum(end for at, end in self._ends.items() if at >= number) - min(
            offset, self._ends.get(number, 0)
        )

    def _wait_for_room(self, size: int) -> None:
        while not self._is_closed and sum(self._ends.values()) + size > self._settings.bytes_max:
            if not self._settings.waits_when_full:
                message = f"{self.path}: the spool is full ({self._settings.bytes_max:,} bytes)"
                raise SpoolFullError(message)
            self._lock.wait()
        if self._is_closed:
            message = f"{self.path}: the spool is closed"
            raise SpoolError(message)

    def _write(self, group: _Group) -> None:
        """Writes a group; nobody else writes meanwhile."""
        data = b"".join(group.frames)
        error: SpoolError | None = None
        try:
            self._write_synced(data)
        except OSError as first:
            # A second fsync of the same file would say nothing: what was not written goes to another one.
            _logger.exception("%s: the disk did not take a segment; it is given up", self.path)
            self._abandon_segment()
            try:
                self._write_synced(data)
            except OSError as second:
                self._abandon_segment()
                error = SpoolError(
                    f"{self.path}: the disk takes nothing: {second.strerror or first.strerror}"
                )
        with self._lock:
            group.error = error
            group.is_done = True
            self._is_writing = False
            self._lock.notify_all()

    def _write_synced(self, data: bytes) -> None:
        end = self._ends.get(self._active, 0)
        if self._descriptor is not None and end >= self._settings.segment_bytes_max:
            os.close(self._descriptor)
            self._descriptor = None
            with self._lock:
                self._active += 1
            end = 0
        if self._descriptor is None:
            self._descriptor = self._directory.create_segment(self._active)
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]
        self._directory.sync(self._descriptor)
        with self._lock:
            self._ends[self._active] = end + len(data)

    def _abandon_segment(self) -> None:
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = None
        with self._lock:
            self._active += 1
            self._failed_sync_count += 1
