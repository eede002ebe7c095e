# SPDX-License-Identifier: Apache-2.0
"""Waiting for what happens elsewhere, without guessing how long it takes."""

import time
from collections.abc import Callable

_POLL_SECONDS = 0.02


def eventually(condition: Callable[[], bool], timeout_seconds: float) -> bool:
    """Say whether condition became true in time."""
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True
