# SPDX-License-Identifier: Apache-2.0
"""A new store and a new engine that live by a clock that the test sets."""

import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from quota.engine_calls import catalogue

from harness.engine_process import EngineProcess
from harness.stepped_clock import SteppedClock, with_environment
from harness.store_process import StoreProcess
from taximeter_server.embedded_store import find_store_binary

NOON_MS = 1_780_488_000_500
"""2026-06-03T12:00:00.500Z, day 20607, generation 515."""


class ClockedEngine:
    """A store with an engine that can be restarted, and the clock of both."""

    def __init__(self, directory: Path) -> None:
        self.clock = SteppedClock(directory / "clock", NOON_MS)
        script = with_environment(find_store_binary(), self.clock.environment, directory / "store.sh")
        self._store = StoreProcess(directory / "store", binary=script)
        self._journals = (directory / f"journal-{number}" for number in itertools.count())
        self.journal = next(self._journals)
        self._store.start()
        self.client: Any = self._store.client()
        self.engine = self._open()

    def _open(self) -> EngineProcess:
        engine = EngineProcess(self._store.url, self.journal, self.clock.environment)
        engine.set_catalogue(catalogue())
        return engine

    def set_clock(self, time_ms: int) -> None:
        """Set the clock and wait until the store goes by it."""
        self.clock.set(time_ms)
        while not 0 <= self.engine.store_time_ms() - time_ms < 1_000:
            pass

    def restart_engine(self) -> None:
        """Close the engine and open another on the same journal."""
        self.engine.close()
        self.engine = self._open()

    def replace_engine(self) -> None:
        """Close the engine and open one with an empty journal, as on another machine."""
        self.journal = next(self._journals)
        self.restart_engine()

    def keys(self, pattern: str = "*") -> set[str]:
        """Return the names of the store's keys."""
        return {name.decode() for name in self.client.scan_iter(match=pattern, count=1_000)}

    def close(self) -> None:
        """Stop everything."""
        self.engine.close()
        self.client.close()
        self._store.stop()


@pytest.fixture
def clocked() -> Iterator[ClockedEngine]:
    """Yield a new store and engine."""
    with tempfile.TemporaryDirectory(prefix="tx") as directory:
        found = ClockedEngine(Path(directory))
        yield found
        found.close()
