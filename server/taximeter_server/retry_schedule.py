# SPDX-License-Identifier: Apache-2.0
"""When something that others must take is tried again."""

import secrets
from collections.abc import Sequence

_MINUTE, _HOUR, _DAY = 60, 3_600, 86_400
RETRY_DELAYS_SECONDS: Sequence[int] = (
    *(1, 5, 30),
    *(2 * _MINUTE, 10 * _MINUTE, 30 * _MINUTE),
    *(_HOUR, 2 * _HOUR, 4 * _HOUR, 8 * _HOUR, 16 * _HOUR),
    *(_DAY, _DAY, _DAY),
)
"""Before each attempt but the first; about four and a half days in all."""
DECLINE_DELAYS_SECONDS: Sequence[int] = (_HOUR, _DAY, 3 * _DAY)
"""Before a card that was declined is charged again: soon enough for one that was changed, too seldom to annoy banks."""
JITTER_PERCENT = 20
"""Delays vary by so much in both directions, so that what fails together is not tried together."""


def delay_ms(
    attempt_count: int, jitter_percent: int, delays_seconds: Sequence[int] = RETRY_DELAYS_SECONDS
) -> int | None:
    """Return the wait after so many attempts, at least 1; None for no more. jitter_percent: within JITTER_PERCENT."""
    if attempt_count > len(delays_seconds):
        return None
    return delays_seconds[attempt_count - 1] * (100 + jitter_percent) * 10


def draw_jitter_percent() -> int:
    """Return a jitter at random."""
    return secrets.randbelow(2 * JITTER_PERCENT + 1) - JITTER_PERCENT
