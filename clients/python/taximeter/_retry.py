# SPDX-License-Identifier: Apache-2.0
"""Retries of what is metered.

A record is sent again on every status that leaves its outcome unknown, anything else while the server could not answer.
gRPC's own retries end with the deadline of the call: they cannot send again what the server did not answer in
time, and hide what it had said behind DEADLINE_EXCEEDED. Here an attempt for a record has a deadline of its own
within that of the caller, and what the server said last is what is raised.
"""

import asyncio
import random
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

import grpc

from taximeter._status import metadata_of

T = TypeVar("T")

ATTEMPTS_MAX = 5
BACKOFF_FIRST_S = 0.1
BACKOFF_MAX_S = 2.0
# The server answers or fails within 2 s; what takes longer was lost on the way.
ATTEMPT_TIMEOUT_S = 2.5
BUDGET_RATIO = 0.1
BUDGET_RESERVE = 100
PUSHBACK_KEY = "grpc-retry-pushback-ms"
RETRYABLE = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
    }
)


class Repeating(Enum):
    """On which statuses a call is sent again."""

    WHEN_UNAVAILABLE = "UNAVAILABLE alone, within the one deadline"
    WHEN_UNKNOWN = (
        "all that leave the outcome unknown, with a deadline per attempt, waiting for a server that restarts"
    )


class OutcomeUnknownError(Exception):
    """An answer came, but it leaves some records unknown: they are to be sent again."""


@dataclass(frozen=True, slots=True)
class Timing:
    """What a retry loop needs of the world, so that tests can hold it still."""

    monotonic: Callable[[], float] = time.monotonic
    """Seconds of a clock that never goes back."""
    sleep: Callable[[float], None] = time.sleep
    """Waits for a number of seconds."""
    uniform: Callable[[float, float], float] = random.uniform
    """A random number between two."""


def backoff_max_s(attempt: int) -> float:
    """Returns the longest wait after a failed attempt, counted from 1; the wait is drawn from 0 to this."""
    return float(min(BACKOFF_FIRST_S * 2 ** (attempt - 1), BACKOFF_MAX_S))


class RetryBudget:
    """What may be sent again: a tenth of what is sent, and a reserve. Safe to share between threads.

    When every call fails, retries would multiply the load on a server that cannot bear it already.
    """

    def __init__(self) -> None:
        """Begins with the whole reserve."""
        self._tokens = float(BUDGET_RESERVE)
        self._lock = threading.Lock()

    def earn(self) -> None:
        """Notes a call."""
        with self._lock:
            self._tokens = min(self._tokens + BUDGET_RATIO, float(BUDGET_RESERVE))

    def spend(self) -> bool:
        """Takes one retry; False when there is none left."""
        with self._lock:
            if self._tokens < 1:
                return False
            self._tokens -= 1
            return True


class Attempts:
    """The attempts of one call: how long each may take, and whether and when another follows."""

    def __init__(self, repeating: Repeating, timeout_s: float, timing: Timing, budget: RetryBudget) -> None:
        """`timeout_s` is the time for all attempts together."""
        self._is_record = repeating is Repeating.WHEN_UNKNOWN
        self._deadline_s = timing.monotonic() + timeout_s
        self._timing = timing
        self._budget = budget
        self._number = 1
        self._known: Exception | None = None
        budget.earn()

    @property
    def timeout_s(self) -> float:
        """The time that the attempt may take."""
        left_s = self._deadline_s - self._timing.monotonic()
        return min(left_s, ATTEMPT_TIMEOUT_S) if self._is_record else left_s

    @property
    def waits_for_ready(self) -> bool:
        """Whether to wait for a connection, as records do on a retry: a server that restarts needs seconds."""
        return self._is_record and self._number > 1

    def wait_s(self, error: Exception) -> float:
        """Returns how long to wait before the next attempt.

        Raises the error when it is final; or the one before, where the time was over before the server could say
        anything new.
        """
        code = error.code() if isinstance(error, grpc.RpcError) else grpc.StatusCode.UNKNOWN
        if self._known is None or code is not grpc.StatusCode.DEADLINE_EXCEEDED:
            self._known = error
        pushback_s = pushback_of(error)
        is_retryable = code in (RETRYABLE if self._is_record else {grpc.StatusCode.UNAVAILABLE}) or (
            code is grpc.StatusCode.RESOURCE_EXHAUSTED and pushback_s is not None
        )
        if not is_retryable or self._number == ATTEMPTS_MAX or (pushback_s is not None and pushback_s < 0):
            raise self._known
        # The server knows best when it will have time.
        wait_s = self._timing.uniform(0, backoff_max_s(self._number)) if pushback_s is None else pushback_s
        if self._timing.monotonic() + wait_s >= self._deadline_s or not self._budget.spend():
            raise self._known
        self._number += 1
        return wait_s


def pushback_of(error: Exception) -> float | None:
    """Returns the seconds that the server asks to wait, negative for "not again", None when it does not say."""
    if not isinstance(error, grpc.RpcError):
        return None
    for key, value in metadata_of(error):
        if key == PUSHBACK_KEY:
            text = value.decode() if isinstance(value, bytes) else value
            # What is no number means "not again", as gRPC has it.
            return int(text) / 1_000 if text.isascii() and text.isdigit() else -1.0
    return None


def call_until_known(
    attempt_once: Callable[[float, bool], T],
    repeating: Repeating,
    timeout_s: float,
    timing: Timing,
    budget: RetryBudget,
) -> T:
    """Calls until the outcome is known: an answer, or a status that is final.

    `attempt_once` takes the seconds it may take and whether to wait for a connection. Raises the last
    grpc.RpcError or OutcomeUnknownError after 5 attempts, when the budget is spent, or when the wait for the next
    would pass the deadline.
    """
    attempts = Attempts(repeating, timeout_s, timing, budget)
    while True:
        try:
            return attempt_once(attempts.timeout_s, attempts.waits_for_ready)
        except (grpc.RpcError, OutcomeUnknownError) as error:
            wait_s = attempts.wait_s(error)
        timing.sleep(wait_s)


async def await_until_known(
    attempt_once: Callable[[float, bool], Awaitable[T]],
    repeating: Repeating,
    timeout_s: float,
    timing: Timing,
    budget: RetryBudget,
) -> T:
    """Does what call_until_known does, without holding up the event loop."""
    attempts = Attempts(repeating, timeout_s, timing, budget)
    while True:
        try:
            return await attempt_once(attempts.timeout_s, attempts.waits_for_ready)
        except (grpc.RpcError, OutcomeUnknownError) as error:
            wait_s = attempts.wait_s(error)
        await asyncio.sleep(wait_s)
