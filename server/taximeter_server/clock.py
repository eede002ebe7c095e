# SPDX-License-Identifier: Apache-2.0
"""The wall clock, for the composition root to hand out. Nothing else reads it."""

import time


def wall_clock_ms() -> int:
    """Return milliseconds since 1970 UTC."""
    return time.time_ns() // 1_000_000
