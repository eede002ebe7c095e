# SPDX-License-Identifier: Apache-2.0
"""Record ids: UUIDv7 of RFC 9562, in order within one generator.

Layout, from the highest bit: 48 bits of Unix milliseconds, 4 of version (7), a counter of 12, 2 of variant
(10), 62 random ones. The counter starts at a random value below 2048 in each millisecond and counts up within
it, so that ids of one generator sort in the order they were made; where it would overflow, the id borrows the
next millisecond.
"""

import os
import threading
from collections.abc import Callable
from uuid import UUID

from taximeter.clock import system_clock_ms

_COUNTER_MAX = 0xFFF
_COUNTER_START_MASK = 0x7FF
_RANDOM_MASK = (1 << 62) - 1


class RecordIds:
    """Makes record ids. Safe to share between threads."""

    def __init__(
        self,
        clock: Callable[[], int] = system_clock_ms,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """Takes the clock, in Unix milliseconds, and the source of random bytes."""
        self._clock = clock
        self._random_bytes = random_bytes
        self._lock = threading.Lock()
        self._time_ms = -1
        self._counter = 0

    def new(self) -> str:
        """Returns a new id of 36 characters, greater than every id that this generator made before."""
        return str(self.new_uuid())

    def new_uuid(self) -> UUID:
        """Returns a new id as a UUID."""
        random = int.from_bytes(self._random_bytes(10))
        with self._lock:
            now_ms = self._clock()
            if now_ms > self._time_ms:
                self._time_ms, self._counter = now_ms, (random >> 62) & _COUNTER_START_MASK
            elif self._counter < _COUNTER_MAX:
                # The clock stands still or went back: the order holds, the time in the id waits for it.
                self._counter += 1
            else:
                self._time_ms, self._counter = self._time_ms + 1, (random >> 62) & _COUNTER_START_MASK
            high = (self._time_ms << 16) | (0x7 << 12) | self._counter
        return UUID(int=(high << 64) | (0b10 << 62) | (random & _RANDOM_MASK))


_default = RecordIds()


def new_record_id() -> str:
    """Returns a new record id from the generator of this process."""
    return _default.new()
