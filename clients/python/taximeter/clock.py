# SPDX-License-Identifier: Apache-2.0
"""The one place in the client that reads the wall clock; everything else is given the time."""

import time


def system_clock_ms() -> int:
    """Returns the time of this machine in milliseconds since the Unix epoch."""
    return time.time_ns() // 1_000_000
