# SPDX-License-Identifier: Apache-2.0
"""Sixty-four callers with holds on one tenant, some of which die or lose their answers: never too much, no leak."""

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import pytest
from quota.engine_calls import extend, put_limits, record, release, reserve, status
from quota.model_level import TOKENS, Status

from taximeter.v1 import metering_service_pb2 as pb
from taximeter_server import _native

CALLERS = 64
TTL_S = 10
TOKENS_MAX = 20
FAILED_PRECONDITION, UNAVAILABLE = 9, 14
ValueT = TypeVar("ValueT")


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
            answer = until_known(
                partial(reserve, engine, self.tenant, tokens=tokens, ttl_s=TTL_S, request_id=f"{seed:0>20}")
            )
            engine = draw.choice(self.engines)
        if answer.decision != pb.DECISION_ALLOW:
            self.tally.add(denied=1)
            return
        self.tally.add(placed=1)
        fate = draw.random()
        if fate < 0.1:
            return
        if fate < 0.25:
            until_known(partial(release, engine, self.tenant, answer.hold_id))
            return
        if fate < 0.4:
            tokens += 5 * self.may_grow(engine, answer.hold_id, tokens + 5)
        used = draw.randint(0, tokens)
        for _ in range(1 + (draw.random() < 0.3)):
            until_known(
                partial(
                    record,
                    engine,
                    self.tenant,
                    tokens=used,
                    hold_id=answer.hold_id,
                    record_id=f"r{seed:0>20}",
                )
            )
            engine = draw.choice(self.engines)
        self.tally.add(posted_tokens=used)

    def may_grow(self, engine: _native.Engine, hold_id: str, tokens: int) -> bool:
        """Ask for more; a hold whose time was over when the machine was slow may not."""
        try:
            grown = until_known(partial(extend, engine, self.tenant, hold_id, ttl_s=TTL_S, tokens=tokens))
        except _native.RpcError as error:
            if error.args[0] != FAILED_PRECONDITION:
                raise
            return False
        return grown.decision == pb.DECISION_ALLOW


def until_known(call: Callable[[], ValueT]) -> ValueT:
    """Call until an answer comes: a store that is too slow answers nothing, and what it did is unknown."""
    while True:
        try:
            return call()
        except _native.RpcError as error:
            if error.args[0] != UNAVAILABLE:
                raise


def run_storm(
    engines: tuple[_native.Engine, _native.Engine], tenant: str, attempts: int, limit: int
) -> tuple[Tally, int]:
    """Let 64 callers at a time make so many attempts; returns their tally and how often the limits were looked at."""
    tally, looks, done = Tally(), 0, threading.Event()
    over: list[Status] = []
    caller = Caller(engines, tenant, tally)

    def watch() -> int:
        count = 0
        while not done.is_set():
            count += 1
            looked = until_known(partial(status, engines[0], tenant))
            over.extend(found for found in looked if found.used + found.held > limit)
            time.sleep(0.002)
        return count

    with ThreadPoolExecutor(CALLERS) as pool, ThreadPoolExecutor(1) as watcher:
        watching = watcher.submit(watch)
        try:
            list(pool.map(caller.run, (f"{number}" for number in range(attempts))))
        finally:
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
    engines, limit = (make_engine(), make_engine()), 3_000_000
    put_limits(engines[0], tenant, {TOKENS: limit})
    tally, looks = run_storm(engines, tenant, 1_000_000, limit)
    assert_nothing_leaked(engines[0], tenant, tally)

    assert tally.denied > 1_000
    assert looks > 1_000
