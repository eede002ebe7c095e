# SPDX-License-Identifier: Apache-2.0
"""Engines on a real store, by the machine's clock or by one that the test sets."""

import itertools
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from quota.engine_calls import catalogue

from harness.engine_process import EngineProcess
from harness.stepped_clock import SteppedClock, with_environment
from harness.store_process import StoreProcess
from taximeter_server import _native
from taximeter_server.embedded_store import find_store_binary

START_MS = 1_780_000_000_250
"""2026-05-28T20:26:40.250Z"""
HOLD_ID_KEY = bytes(range(32))
CLOCK_NOISE_MS_MAX = 200
"""The store adds to a clock that stands still what its commands take. Tests step by 250 ms or more."""


@pytest.fixture(scope="session")
def short_directory() -> Iterator[Path]:
    """A folder whose path leaves room for a socket's name."""
    with tempfile.TemporaryDirectory(prefix="tx") as found:
        yield Path(found)


@pytest.fixture(scope="session")
def store(short_directory: Path) -> Iterator[StoreProcess]:
    """A store by the machine's clock."""
    with StoreProcess(short_directory / "real") as found:
        yield found


@pytest.fixture(scope="session")
def make_engine(
    store: StoreProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., _native.Engine]]:
    """Makes open engines on the store."""
    made: list[_native.Engine] = []

    def make(card: str | None = None) -> _native.Engine:
        journal = tmp_path_factory.mktemp("journal")
        engine = _native.Engine(
            store_url=store.url, journal_dir=str(journal), exclusive_store=True, hold_id_key=HOLD_ID_KEY
        )
        engine.open(archived_ids=["0-0"] * _native.PARTITION_COUNT, timeout_ms=10_000)
        engine.set_catalogue(catalogue() if card is None else catalogue(card))
        made.append(engine)
        return engine

    yield make
    for engine in made:
        engine.close()


@pytest.fixture(scope="session")
def engine(make_engine: Callable[..., _native.Engine]) -> _native.Engine:
    """An engine by the machine's clock."""
    return make_engine()


@dataclass
class Stepped:
    """A store and an engine that live by one clock, which stands still until it is set."""

    clock: SteppedClock
    engine: EngineProcess
    store: StoreProcess

    @property
    def now_ms(self) -> int:
        """Milliseconds since 1970 UTC, as set."""
        return self.clock.time_ms

    def set(self, time_ms: int) -> None:
        """Set the clock and wait until the store goes by it: it looks at the clock now and then."""
        self.clock.set(time_ms)
        for _ in range(100):
            if 0 <= self.engine.store_time_ms() - time_ms < CLOCK_NOISE_MS_MAX:
                return
        raise AssertionError("the store does not go by the clock")

    def level_bytes(self, tenant: str) -> int:
        """Return the bytes that the store keeps of one level."""
        with self.store.client() as client:
            (key,) = client.keys(f"*:t:{tenant}")
            return int(client.strlen(key))

    def advance(self, duration_ms: int) -> None:
        """Move the clock by a duration, which may be negative."""
        self.set(self.now_ms + duration_ms)


@pytest.fixture(scope="session")
def stepped(short_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stepped]:
    """A store and an engine by the test's clock, shared: tests use tenants of their own."""
    clock = SteppedClock(short_directory / "clock", START_MS)
    script = with_environment(find_store_binary(), clock.environment, short_directory / "store.sh")
    journal = tmp_path_factory.mktemp("journal")
    store = StoreProcess(short_directory / "stepped", binary=script)
    with store, EngineProcess(store.url, journal, clock.environment) as engine:
        engine.set_catalogue(catalogue())
        yield Stepped(clock, engine, store)


@pytest.fixture
def tenant(numbers: Iterator[int]) -> str:
    """A tenant that no other test uses."""
    return f"quota{next(numbers)}"


@pytest.fixture(scope="session")
def numbers() -> Iterator[int]:
    """Counts tenants."""
    return itertools.count(1)
