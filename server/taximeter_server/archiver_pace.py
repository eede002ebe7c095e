# SPDX-License-Identifier: Apache-2.0
"""When the archiver lets the server record first.

To archive a record costs about as much processor time as to record it. So while very much is recorded the archiver
waits, unless so much has gathered meanwhile that the store's memory, and the reports, which read what is not archived,
would suffer. Then it archives all of it, as fast as its priority lets it.
"""

from collections.abc import Callable

BURST_PER_SECOND = 20_000
"""Records of a second that the archiver gives way to. Twice what it keeps up with beside them on one core."""

WAITING_COUNT_MAX = 200_000
"""Records that may wait for the end of a burst: some 60 MB of the store's memory, and half a second of each report."""

LOOK_SECONDS = 0.3
"""How long to look whether there is a burst now."""

_INTERVAL_SECONDS_MIN = 0.25
"""A rate is that of so much time at least."""


class ArchiverPace:
    """Watches how much is recorded. Of one thread."""

    def __init__(self, recorded_count: Callable[[], int], clock: Callable[[], float]) -> None:
        """recorded_count: records so far, of a count that only grows. clock: seconds that nobody can set."""
        self._recorded_count = recorded_count
        self._clock = clock
        self._seen_count = self._archived_count = recorded_count()
        self._seen_time = clock()
        self._is_burst = False
        self._catches_up = False

    def look(self) -> None:
        """Begin to watch. What was before says nothing of now where it was long ago."""
        self._seen_time, self._seen_count = self._clock(), self._recorded_count()

    def gives_way(self) -> bool:
        """Return whether to wait rather than to archive now, by what was recorded since it was asked before."""
        now, count = self._clock(), self._recorded_count()
        seconds = now - self._seen_time
        if seconds >= _INTERVAL_SECONDS_MIN:
            self._is_burst = count - self._seen_count > BURST_PER_SECOND * seconds
            self._seen_count, self._seen_time = count, now
        if count - self._archived_count > WAITING_COUNT_MAX:
            self._catches_up = True
        return self._is_burst and not self._catches_up

    def note_archived(self) -> None:
        """Nothing, or hardly anything, is left to archive."""
        self._archived_count = self._recorded_count()
        self._catches_up = False
