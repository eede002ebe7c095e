# SPDX-License-Identifier: Apache-2.0
"""A real store with the ledger's streams, a folder for the ledger's files, and what works on both."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from reports.ledger_entries import Encoder, Entry, make_encoder
from reports.stream_engine import StreamEngine

from taximeter_server.archiver import Archiver
from taximeter_server.archiver_pace import ArchiverPace
from taximeter_server.embedded_store import EmbeddedStore
from taximeter_server.ledger_directory import LedgerDirectory
from taximeter_server.ledger_merge import FileMerger
from taximeter_server.report import Reporter

TOKEN_SECRET = b"sixteen bytes or more"


@dataclass
class LedgerFixture:
    """The ledger of one test. entries is what has been recorded."""

    engine: StreamEngine
    directory: LedgerDirectory
    encode: Encoder
    temporary: Path
    now_ms: int = 1_780_000_000_000
    entries: list[Entry] = field(default_factory=list)
    closers: list[Callable[[], None]] = field(default_factory=list)

    def record(self, entries: Iterable[Entry]) -> None:
        """Append entries to the streams."""
        added = list(entries)
        self.engine.append_all([(entry.tenant, self.encode(entry)) for entry in added])
        self.entries += added

    def archiver(self, *, pace: ArchiverPace | None = None, **options: int) -> Archiver:
        """Return a new archiver, as after a restart."""
        merger = FileMerger(temporary_directory=self.temporary)
        clock = lambda: self.now_ms  # noqa: E731
        return Archiver(self.engine, self.directory, merger=merger, clock=clock, pace=pace, **options)

    def reporter(self, **options: int) -> Reporter:
        """Return a new reporter, as after a restart."""
        reporter = Reporter(
            self.engine,
            self.directory,
            token_secret=TOKEN_SECRET,
            temporary_directory=self.temporary,
            **options,
        )
        self.closers.append(reporter.close)
        return reporter


@pytest.fixture(scope="session")
def encode(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    """Turns an Entry into its stored form."""
    return make_encoder(tmp_path_factory.mktemp("proto"))


@pytest.fixture(scope="session")
def store_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The real store, shared by the tests of this folder, each of which empties it first."""
    directory = tmp_path_factory.mktemp("store")
    directory.chmod(0o700)
    store = EmbeddedStore(directory=directory, socket_path=directory / "store.sock")
    store.start()
    yield store.url
    store.stop()


@pytest.fixture(scope="session")
def engine(store_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StreamEngine]:
    """The real engine."""
    opened = StreamEngine(store_url, tmp_path_factory.mktemp("journal"))
    yield opened
    opened.close()


@pytest.fixture
def make_ledger(
    engine: StreamEngine, encode: Encoder, tmp_path: Path
) -> Iterator[Callable[[], LedgerFixture]]:
    """Makes ledgers: each empties the streams and has a new folder."""
    made: list[LedgerFixture] = []
    numbers = itertools.count()

    def make() -> LedgerFixture:
        path = tmp_path / f"ledger-{next(numbers)}"
        path.mkdir()
        engine.clear()
        fixture = LedgerFixture(engine, LedgerDirectory(path), encode, tmp_path / "temporary")
        made.append(fixture)
        return fixture

    yield make
    for fixture in made:
        for close in fixture.closers:
            close()


@pytest.fixture
def ledger(make_ledger: Callable[[], LedgerFixture]) -> LedgerFixture:
    """An empty ledger on an empty store."""
    return make_ledger()
