# SPDX-License-Identifier: Apache-2.0
"""Stops an archiver at any one of its steps, as a kill would: what is done stays, what is not never happens."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
from reports.stream_engine import StreamEngine

from taximeter_server.ledger_directory import LedgerDirectory
from taximeter_server.ledger_manifest import Manifest


class KilledError(BaseException):
    """The process is gone: no handler of ordinary errors sees it."""


class Steps:
    """Counts steps and ends at the one numbered stop_at, counted from 0; after each step comes another."""

    def __init__(self, stop_at: int | None) -> None:
        self.count = 0
        self._stop_at = stop_at

    def step(self) -> None:
        """Pass, or raise KilledError."""
        if self.count == self._stop_at:
            raise KilledError
        self.count += 1


class FaultyEngine:
    """An engine with a step before and after all that changes something."""

    def __init__(self, engine: StreamEngine, steps: Steps) -> None:
        self._engine = engine
        self._steps = steps
        self.store_time_ms = engine.store_time_ms
        self.read_to_archive = engine.read_to_archive
        self.read_tail = engine.read_tail
        self.begin_archive = engine.begin_archive
        self.hold_archive = engine.hold_archive
        self.release_archive = engine.release_archive

    def set_archived(self, partition: int, stream_id: str) -> None:
        """Pass on between two steps."""
        self._steps.step()
        self._engine.set_archived(partition, stream_id)
        self._steps.step()

    def trim_ledger(self, partition: int, *, through_id: str) -> None:
        """Pass on between two steps."""
        self._engine.trim_ledger(partition, through_id=through_id)
        self._steps.step()


class FaultyDirectory(LedgerDirectory):
    """A folder with a step between all that changes something, and within what writes a file."""

    def __init__(self, path: Path, steps: Steps) -> None:
        super().__init__(path)
        self._steps = steps

    def replace_manifest(self, manifest: Manifest) -> None:
        """Pass on between two steps."""
        self._steps.step()
        super().replace_manifest(manifest)
        self._steps.step()

    def write_file(self, name: str, rows: pa.Table) -> int:
        """Pass on; before that, a kill may leave a part of the file."""
        size_bytes = super().write_file(name, rows)
        try:
            self._steps.step()
        except KilledError:
            with (self.path / name).open("r+b") as file:
                file.truncate(size_bytes // 2)
            raise
        self._steps.step()
        return size_bytes

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """Pass on; a kill may come before and within the block. After it is before what follows."""
        self._steps.step()
        with super().writing(name) as path:
            yield path
            self._steps.step()

    def remove_file(self, name: str) -> None:
        """Pass on; a kill may come before. After it is before what follows."""
        self._steps.step()
        super().remove_file(name)
