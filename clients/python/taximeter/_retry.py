# SPDX-License-Identifier: Apache-2.0
"""Retries of Record and RecordBatch, which are safe with the same record_id.

gRPC's own retries end with the deadline of the call, so they cannot send again what the server did not answer
in time. Here every attempt has a deadline of its own within that of the caller.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import grpc

T = TypeVar("T")

ATTEMPTS_MAX = 5
BACKOFF_FIRST_S = 0.1
BACKOFF_MAX_S = 2.0
# The server answers or fails within 2 s; what takes longer was lost on the way.
ATTEMPT_TIMEOUT_S = 2.5
RETRYABLE = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
    }
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


def call_until_known(attempt_once: Callable[[float, bool], T], timeout_s: float, timing: Timing) -> T:
    """Calls until the outcome is known: an answer, or a status that says that nothing was recorded.

    `attempt_once` takes the seconds it may take and whether to wait for a connection. Raises the last
    grpc.RpcError or OutcomeUnknownError after 5 attempts, or when the wait for the next would pass the
    deadline.
    """
    deadline = timing.monotonic() + timeout_s
    attempt = 1
    while True:
        left_s = deadline - timing.monotonic()
        try:
            # Only the first attempt fails at once when there is no connection: a server that restarts needs
            # seconds.
            return attempt_once(min(left_s, ATTEMPT_TIMEOUT_S), attempt > 1)
        except (grpc.RpcError, OutcomeUnknownError) as error:
            code = error.code() if isinstance(error, grpc.RpcError) else grpc.StatusCode.UNKNOWN
            wait_s = timing.uniform(0, backoff_max_s(attempt))
            if code not in RETRYABLE or attempt == ATTEMPTS_MAX or timing.monotonic() + wait_s >= deadline:
                raise
            timing.sleep(wait_s)
            attempt += 1
