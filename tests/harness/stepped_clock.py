# SPDX-License-Identifier: Apache-2.0
"""A wall clock that a test sets, for processes it starts: through libfaketime, which Debian has as `faketime`.

The monotonic clock stays real, so timeouts and threads go on as always.
"""

import os
import shlex
from collections.abc import Mapping
from pathlib import Path

_MS_PER_SECOND = 1_000


def _library() -> Path:
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    assert found, "libfaketime is missing; on Debian and Ubuntu: apt-get install faketime"
    return found[0]


def running_clock(*, speed: int) -> dict[str, str]:
    """Return the environment of a process whose clock runs so many times faster, from now on."""
    return {"LD_PRELOAD": str(_library()), "FAKETIME": f"+0 x{speed}", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


def with_environment(binary: Path, environment: Mapping[str, str], script: Path) -> Path:
    """Write a script that becomes binary with the environment; returns it."""
    settings = " ".join(f"{name}={shlex.quote(value)}" for name, value in environment.items())
    script.write_text(f'#!/bin/sh\n{settings} exec {shlex.quote(str(binary))} "$@"\n')
    script.chmod(0o700)
    return script


class SteppedClock:
    """A clock that stands still until it is set. Processes with its environment share it."""

    def __init__(self, file: Path, time_ms: int) -> None:
        """time_ms: milliseconds since 1970 UTC."""
        self._file = file
        self.time_ms = 0
        self.set(time_ms)

    @property
    def environment(self) -> dict[str, str]:
        """The variables of a process that lives by this clock."""
        return {
            "LD_PRELOAD": str(_library()),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_FMT": "%s",
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, time_ms: int) -> None:
        """Set the clock, forward or back."""
        seconds, rest_ms = divmod(time_ms, _MS_PER_SECOND)
        temporary = self._file.with_suffix(".new")
        # A little more: the library's fractions are not exact.
        temporary.write_text(f"{seconds}.{rest_ms:03}100\n")
        os.replace(temporary, self._file)  # noqa: PTH105 (replaces whole or not at all)
        self.time_ms = time_ms

    def advance(self, duration_ms: int) -> None:
        """Move the clock by a duration, which may be negative."""
        self.set(self.time_ms + duration_ms)
