# SPDX-License-Identifier: Apache-2.0
"""What a spool holds, read without its lock: a client may be using it."""

import contextlib
from collections.abc import Callable
from pathlib import Path

from taximeter._spool_directory import SpoolFiles
from taximeter._spool_frames import TIME, frames
from taximeter.clock import system_clock_ms
from taximeter.spool import SpoolStatus


def read_status(directory: Path, clock: Callable[[], int] = system_clock_ms) -> SpoolStatus:
    """Returns what the files of a spool say, also while a client uses it; settled a moment ago may still count."""
    files = SpoolFiles(directory)
    number, offset = files.read_cursor()
    backlog_bytes, oldest_ms = 0, None
    for segment in files.segments():
        start = offset if segment == number else 0
        # A client may be done with it meanwhile, and remove it.
        with contextlib.suppress(FileNotFoundError):
            if segment >= number and (data := files.segment(segment).read_bytes()[start:]):
                backlog_bytes += len(data)
                payload = next(
                    (found.payload for found in frames(data, 0) if found.payload is not None), None
                )
                if oldest_ms is None and payload is not None:
                    (oldest_ms,) = TIME.unpack_from(payload)
    return SpoolStatus(
        backlog_bytes=backlog_bytes,
        backlog_age_ms=0 if oldest_ms is None else max(0, clock() - oldest_ms),
        dead_letter_count=len(files.dead_letters()),
        damaged_count=files.damaged_count(),
        failed_sync_count=0,
    )
