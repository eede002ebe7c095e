# SPDX-License-Identifier: Apache-2.0
"""The append-only file of an embedded store, watched and cut from outside, as a crash of its disk would cut it."""

import random
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

SAMPLE_INTERVAL_S = 0.02


class AppendOnlyFile:
    """Remembers how long the newest increment was when. Use as a context manager while the store runs."""

    def __init__(self, store_directory: Path) -> None:
        self._directory = store_directory / "appendonlydir"
        self._samples: list[tuple[float, str, int]] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.cut_bytes: list[int] = []
        """How much each cut took."""

    def __enter__(self) -> Self:
        """Begin to watch."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop watching."""
        self._stopping.set()
        self._thread.join()

    def newest(self) -> Path:
        """Return the increment that the store writes to."""
        return max(self._directory.glob("*.incr.aof"), key=lambda path: int(path.name.split(".")[-3]))

    def _watch(self) -> None:
        while not self._stopping.wait(SAMPLE_INTERVAL_S):
            try:
                path = self.newest()
                self._samples.append((time.monotonic(), path.name, path.stat().st_size))
            except (OSError, ValueError):
                # Not there yet, or being replaced.
                continue

    def cut(self, seconds: float, rng: random.Random) -> None:
        """Take what was written in the last seconds, half of the time in the middle of a command.

        Only while no store runs.
        """
        path = self.newest()
        size = path.stat().st_size
        earliest = time.monotonic() - seconds
        sizes = [(at, known) for at, name, known in self._samples if name == path.name]
        before = [known for at, known in sizes if at <= earliest]
        # An earlier cut within these seconds made it shorter than it was before them.
        offset = min([before[-1] if before else 0, size, *(known for at, known in sizes if at > earliest)])
        if rng.random() < 0.5:
            offset = rng.randint(offset, min(size, offset + 400))
        with path.open("r+b") as file:
            file.truncate(offset)
        self.cut_bytes.append(size - offset)
        self._samples.append((time.monotonic(), path.name, offset))
