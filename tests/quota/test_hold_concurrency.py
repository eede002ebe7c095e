# SPDX-License-Identifier: Apache-2.0
"""Sixty-four callers with holds on one tenant, some of which die or lose their answers: never too much, no leak."""

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest
from quota.engine_calls import extend, put_limits, record, release, reserve, status
from quota.model_level import TOKENS

from taximeter.v1 import metering_service_pb2 as pb
from taximeter_server import _native

CALLERS = 64
TTL_S = 2
TOKENS_MAX = 20


@dataclass
class Tally:
    """What callers know for certain."""

    posted_tokens: int = 0
    placed: int = 0
    denied: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, *, posted_tokens: int = 0, placed: int = 0, denied: int = 0) -> None:
        """Add to the sums."""
        with self.lock:
            self.posted_tokens += posted_tokens
            self.placed += placed
            self.denied += denied


@dataclass
class Caller:
    """One caller after the other, each with a fate drawn by its seed."""

    engines: tuple[_native.Engine, _native.Engine]
    tenant: str
    tally: Tally

    def run(self, seed: str) -> None:
        """Ask, and do with the hold whatever callers do: use it up, release it, forget it."""
        draw = random.Random(seed)
        engine = draw.choice(self.engines)
        tokens = draw.randint(1, TOKENS_MAX)
        for _ in range(1 + (draw.random() < 0.3)):
            # An answer that was lost: the caller asks again, anywhere, and means the same call.
            answer = reserve(engine, self.tenant, tokens=tokens, ttl_s=TTL_S, request_id=f"{seed:0>20}")
            engine = draw.choice(self.engines)
        if answer.decision != pb.DECISION_ALLOW:
            self.tally.add(denied=1)
            return
        self.tally.add(placed=1)
        fate = draw.random()
        if fate < 0.1:
            return
        if fate < 0.25:
            release(engine, self.tenant, answer.hold_id)
            return
        if fate < 0.4:
            grown = extend(engine, self.tenant, answer.hold_id, ttl_s=TTL_S, tokens=tokens + 5)
            tokens += 5 if grown.decision == pb.DECISION_ALLOW else 0
        used = draw.randint(0, tokens)
        for _ in range(1 + (draw.random() < 0.3)):
            record(engine, self.tenant, tokens=used, hold_id=answer.hold_id, record_id=f"r{seed:0>20}")
            engine = draw.choice(self.engines)
        self.tally.add(posted_tokens=used)


def run_storm(
    engines: tuple[_native.Engine, _native.Engine], tenant: str, attempts: int, limit: int
) -> tuple[Tally, int]:
    """Let 64 callers at a time make so many attempts; returns their tally and how often the limits were looked at."""
    tally, over, looks, done = Tally(), [], 0, threading.Event()
    caller = Caller(engines, tenant, tally)

    def watch() -> int:
        count = 0
        while not done.is_set():
            count += 1
            over.extend(found for found in status(engines[0], tenant) if found.used + found.held > limit)
            time.sleep(0.002)
        return count

    with ThreadPoolExecutor(CALLERS) as pool, ThreadPoolExecutor(1) as watcher:
        watching = watcher.submit(watch)
        list(pool.map(caller.run, (f"{number}" for number in range(attempts))))
        done.set()
        looks = watching.result()
    assert over == []
    return tally, looks


def assert_nothing_leaked(engine: _native.Engine, tenant: str, tally: Tally) -> None:
    """Wait until the forgotten holds must have expired, and compare."""
    time.sleep(TTL_S + 2)
    (tokens,) = status(engine, tenant)

    assert (tokens.used, tokens.held) == (tally.posted_tokens, 0)


def test_nothing_is_admitted_beyond_the_limit(
    make_engine: Callable[..., _native.Engine], tenant: str
) -> None:
    """Whatever callers do with their holds, used + held never exceeds a limit, and at the end nothing is held."""
    engines, limit = (make_engine(), make_engine()), 12_000
    path = f"{tenant}/team"
    put_limits(engines[0], tenant, {TOKENS: limit})
    tally, looks = run_storm(engines, path, 6_000, limit)
    assert_nothing_leaked(engines[0], path, tally)

    assert tally.denied > 100
    assert tally.placed > 500
    assert looks > 50


@pytest.mark.wide
@pytest.mark.timeout(1_800)
def test_nothing_is_admitted_beyond_the_limit_for_long(
    make_engine: Callable[..., _native.Engine], tenant: str
) -> None:
    """Of a million attempts none is admitted beyond the limit, and none leaves anything behind."""
    engines, limit = (make_engine(), make_engine()), 5_000_000
    put_limits(engines[0], tenant, {TOKENS: limit})
    tally, looks = run_storm(engines, tenant, 1_000_000, limit)
    assert_nothing_leaked(engines[0], tenant, tally)

    assert tally.denied > 1_000
    assert looks > 1_000
