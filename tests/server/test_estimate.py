# SPDX-License-Identifier: Apache-2.0
"""What a batch would do to a limit, against a simulation that makes every call."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taximeter_server.estimate import DAY_MS, Batch, Outcome, Window, needed, run_batch

NOON_MS = 20_000 * DAY_MS + DAY_MS // 2
MIDNIGHT_MS = NOON_MS + DAY_MS // 2


def simulated(batch: Batch, window: Window, now_ms: int) -> Outcome:
    """Make the calls one by one, each at its time, in windows that are full at first but for what was used."""
    passed = used = 0
    remaining, end_ms, start_ms, in_window = window.remaining, window.end_ms, now_ms, 0
    least = remaining
    while passed < batch.item_count:
        time_ms = start_ms + (in_window * 60_000 // batch.calls_per_minute if batch.calls_per_minute else 0)
        if time_ms >= end_ms and in_window:
            start_ms, end_ms = end_ms, end_ms + window.length_ms
            remaining, used, in_window = window.maximum, 0, 0
            continue
        used = needed(batch, in_window + 1)
        if used > remaining:
            return Outcome(passed, 0, time_ms)
        passed, in_window = passed + 1, in_window + 1
        least = min(least, remaining - used)
    return Outcome(passed, least, None)


@given(
    item_count=st.integers(1, 300),
    per_item=st.integers(0, 50),
    rest=st.integers(0, 49),
    calls_per_minute=st.sampled_from([0, 1, 7, 60, 1_000]),
    maximum=st.integers(0, 3_000),
    used=st.integers(0, 3_500),
    left_ms=st.integers(1, 200_000),
    length_ms=st.sampled_from([60_000, 90_000]),
)
def test_windows_are_followed_as_calls_are_made(
    *, item_count: int, per_item: int, rest: int, calls_per_minute: int, maximum: int, used: int, left_ms: int,
    length_ms: int,
) -> None:  # fmt: skip
    """How many calls pass, when they stop and what remains is what making them one by one finds."""
    batch = Batch(item_count, per_item * item_count + rest % item_count, calls_per_minute)
    window = Window(maximum, max(0, maximum - used), NOON_MS + left_ms, length_ms)

    assert run_batch(batch, window, now_ms=NOON_MS) == simulated(batch, window, NOON_MS)


@pytest.mark.parametrize(
    ("batch", "window", "outcome"),
    [
        # All at once: what is left of today is all there is.
        (Batch(100, 1_000, 0), Window(900, 500, MIDNIGHT_MS, DAY_MS), Outcome(50, 0, NOON_MS)),
        # One a minute: 720 calls come until midnight, and then the day begins anew.
        (Batch(1_000, 10_000, 1), Window(8_000, 7_200, MIDNIGHT_MS, DAY_MS), Outcome(1_000, 0, None)),
        (
            Batch(1_000, 10_000, 1),
            Window(8_000, 7_190, MIDNIGHT_MS, DAY_MS),
            Outcome(719, 0, MIDNIGHT_MS - 60_000),
        ),
        # Slower than the limit for ever, also for a billion calls.
        (Batch(10**9, 10**9, 10), Window(14_400, 14_400, MIDNIGHT_MS, DAY_MS), Outcome(10**9, 0, None)),
        # Nothing passes a limit of nothing.
        (Batch(5, 5, 0), Window(0, 0, MIDNIGHT_MS, DAY_MS), Outcome(0, 0, NOON_MS)),
        (Batch(5, 0, 0), Window(0, 0, MIDNIGHT_MS, DAY_MS), Outcome(5, 0, None)),
    ],
)
def test_batches(batch: Batch, window: Window, outcome: Outcome) -> None:
    """Limits per day are new at midnight; a batch without a pace has only today."""
    assert run_batch(batch, window, now_ms=NOON_MS) == outcome
