# SPDX-License-Identifier: Apache-2.0
"""What a batch would do to limits: how much of it would pass, and when which limit would stop it.

Everything is integers: amounts are those of whole batches, divided last and rounded up, so that a limit is never said
to last longer than it would.
"""

from collections.abc import Sequence
from dataclasses import dataclass

MINUTE_MS = 60_000
DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Batch:
    """item_count calls that together need total of a limit's unit, calls_per_minute of them; 0 is all at once."""

    item_count: int
    total: int
    calls_per_minute: int


@dataclass(frozen=True, slots=True)
class Window:
    """A limit per window: maximum in each, remaining in the one that ends at end_ms, which lasts length_ms."""

    maximum: int
    remaining: int
    end_ms: int
    length_ms: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """passed_count: items before the limit stops the batch, all when it does not. stop_time_ms: then when it does.

    remaining: in the window in which least remains, 0 when it stops the batch.
    """

    passed_count: int
    remaining: int
    stop_time_ms: int | None


def run_batch(batch: Batch, window: Window, *, now_ms: int) -> Outcome:
    """Follow a batch through the windows of a limit, from now on until it has passed or is stopped."""
    passed, start_ms, remaining = 0, now_ms, window.remaining
    least, end_ms = remaining, window.end_ms
    while True:
        waiting = batch.item_count - passed
        due = min(waiting, _count_within(batch, end_ms - start_ms))
        # Items that fit: the largest n with n * total / item_count <= remaining.
        fitting = due if not batch.total else min(due, remaining * batch.item_count // batch.total)
        if fitting < due:
            wait_ms = 0 if not batch.calls_per_minute else fitting * MINUTE_MS // batch.calls_per_minute
            return Outcome(passed + fitting, 0, start_ms + wait_ms)
        passed += fitting
        left = remaining - needed(batch, fitting)
        least = min(least, left)
        if passed == batch.item_count:
            return Outcome(passed, least, None)
        if due == _count_within(batch, window.length_ms) and remaining == window.maximum:
            # A whole window passed, so every window after it does, and the last has fewer items.
            return Outcome(batch.item_count, least, None)
        start_ms, end_ms, remaining = end_ms, end_ms + window.length_ms, window.maximum


def needed(batch: Batch, item_count: int) -> int:
    """Return what some items of a batch need, rounded up."""
    return -(-batch.total * item_count // batch.item_count)


def _count_within(batch: Batch, duration_ms: int) -> int:
    """Return how many items come within a time; at least one, so that a slow batch gets on."""
    if not batch.calls_per_minute:
        return batch.item_count
    return max(1, -(-max(0, duration_ms) * batch.calls_per_minute // MINUTE_MS))


def first_to_stop(outcomes: Sequence[Outcome]) -> list[int]:
    """Return the order in which to show outcomes: those that stop the batch first, soonest first."""

    def key(index: int) -> tuple[bool, int, int]:
        outcome = outcomes[index]
        return (outcome.stop_time_ms is None, outcome.stop_time_ms or 0, outcome.passed_count)

    return sorted(range(len(outcomes)), key=key)
