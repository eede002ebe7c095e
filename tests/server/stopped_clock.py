# SPDX-License-Identifier: Apache-2.0
"""A clock for tests that must say what time it is."""


class StoppedClock:
    """A clock that stands still until told otherwise. Calling it gives milliseconds since 1970 UTC."""

    def __init__(self, now_ms: int) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        """Return the time."""
        return self.now_ms
