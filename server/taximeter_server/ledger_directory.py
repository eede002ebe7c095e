# SPDX-License-Identifier: Apache-2.0
"""The ledger's folder on a local disk. All that is read from it or written to it goes through here.

::

    ledger/
    ├── lock                                           held by whoever changes the folder
    ├── ledger_id                                      names the ledger for good: a store has one
    ├── manifest.json                                  replaced as a whole, never edited
    ├── date=2026-06-03/
    │   └── 000000000042-1780495629123-1780495631000.parquet
    └── rollups/
        ├── date=2026-06-03/                           sums of the files of that date; made again when lost
        │   ├── 000000000043.attributes.parquet        by the attributes and the day
        │   ├── 000000000043.days.parquet
        │   └── 000000000043.parquet                   by the hour
        └── month=2026-06/                             the days of that month's dates; made again when lost
            ├── 000000000099.days.parquet
            └── 000000000099.parquet                   sums of them all

A file's name is the generation of the manifest that brought it in and the range of stream milliseconds in it. The
generation alone makes it unique within its date, so a name is never used for two contents.
"""

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from taximeter_server.data_directory import write_private_file
from taximeter_server.ledger import SCHEMA
from taximeter_server.ledger_manifest import LedgerCorruptError, LedgerFile, Manifest, MonthFile, RollupFile

_MANIFEST_NAME = "manifest.json"
_LOCK_NAME = "lock"
_ID_NAME = "ledger_id"
_FOLDER_PATTERN = "date=*"
_SUMS_PATTERNS = (f"rollups/{_FOLDER_PATTERN}", "rollups/month=*")

ROW_GROUP_ROWS = 16_384
"""Rows that a reader skips or takes as a whole: few, so that a report about one tenant skips nearly all of a day."""

YOUNG_ROWS_MAX = 65_536
"""Rows of a file that is one such group: it is merged before long, and each group costs as much as 5,000 rows."""

_VARIED = frozenset(
    {"stream_ms", "stream_seq", "record_id", "occur_time_us", "usage_json"}
    | {"quantity", "billed_quantity", "cost_picos", "list_billed_quantity", "list_cost_picos"}
)
"""Columns whose values hardly repeat: without a dictionary they are smaller, and take less time."""
_REPEATED = [
    *(name for name in SCHEMA.names if name not in _VARIED),
    *("attributes.key_value.key", "attributes.key_value.value"),
]
_WITH_STATISTICS = ["partition", "tenant", "occur_time_us"]
"""What reports find the groups by that they need."""


class LedgerDirectory:
    """The folder at path, which must exist. Reading needs no lock; changing needs lock()."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # Bytes of the manifest and what they say: most reports find the one that the report before has read.
        self._last_read: tuple[bytes, Manifest] | None = None

    @contextlib.contextmanager
    def lock(self) -> Iterator[bool]:
        """Hold the right to change the folder. Yields False when another holder has it, here or elsewhere."""
        descriptor = os.open(self.path / _LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True
        finally:
            os.close(descriptor)

    def ledger_id(self) -> str:
        """Return the ledger's name, made on first use. Servers may share the folder; one of them makes the name."""
        path = self.path / _ID_NAME
        descriptor = os.open(self.path / _LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if not path.exists():
                write_private_file(path, f"{secrets.token_hex(8)}\n".encode())
            return path.read_text(encoding="ascii").strip()
        finally:
            os.close(descriptor)

    def read_manifest(self) -> Manifest:
        """Return the manifest; the empty one of generation 0 for a new folder. Raises LedgerCorruptError."""
        content = self._read_manifest_bytes()
        if content is None and next(self.path.glob(f"{_FOLDER_PATTERN}/*"), None) is not None:
            # The first manifest is written before the first file, so it is here by now unless it was lost. Taking
            # the folder for new would remove its files as leftovers.
            content = self._read_manifest_bytes()
            if content is None:
                raise LedgerCorruptError("manifest is missing beside files of the ledger")
        if content is None:
            return Manifest()
        last_read = self._last_read
        if last_read is None or last_read[0] != content:
            self._last_read = last_read = content, Manifest.from_json(content)
        return last_read[1]

    def _read_manifest_bytes(self) -> bytes | None:
        try:
            return (self.path / _MANIFEST_NAME).read_bytes()
        except FileNotFoundError:
            return None

    def replace_manifest(self, manifest: Manifest) -> None:
        """Put manifest in the place of the one before, whole or not at all, on disk when this returns."""
        write_private_file(self.path / _MANIFEST_NAME, manifest.to_json())

    def write_file(self, name: str, rows: pa.Table) -> int:
        """Write rows to a new file, on disk when this returns. Returns its size in bytes."""
        path = self._make_room(name)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            pq.write_table(
                rows,
                file,
                compression="zstd",
                row_group_size=YOUNG_ROWS_MAX if rows.num_rows <= YOUNG_ROWS_MAX else ROW_GROUP_ROWS,
                use_dictionary=_REPEATED,
                write_statistics=_WITH_STATISTICS,
            )
            file.flush()
            os.fsync(file.fileno())
        _fsync_directory(path.parent)
        return path.stat().st_size

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """Yield the absolute path of a new file to be written by other means; on disk when the block ends."""
        path = self._make_room(name)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        yield path
        path.chmod(0o600)
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        _fsync_directory(path.parent)

    def absolute(self, name: str) -> str:
        """Return where a file of the manifest can be opened."""
        # By text: a report asks this of hundreds of files, and takes a millisecond less without a Path of each.
        return f"{self.path}/{name}"

    def check_files(self, files: tuple[LedgerFile, ...]) -> None:
        """Raise LedgerCorruptError when one of files is missing or has another size."""
        for file in files:
            try:
                size_bytes = (self.path / file.path).stat().st_size
            except FileNotFoundError:
                raise LedgerCorruptError(f"{file.path} is missing") from None
            if size_bytes != file.size_bytes:
                raise LedgerCorruptError(f"{file.path} has {size_bytes} bytes, not {file.size_bytes}")

    def lost_sums(self, sums: Iterable[RollupFile | MonthFile]) -> set[str]:
        """Return the paths of those rollups and months of which a file is missing or has another size."""
        return {
            one.path
            for one in sums
            if any(self._size_of(path) != size_bytes for path, size_bytes in one.sizes_bytes.items())
        }

    def _size_of(self, name: str) -> int:
        try:
            return (self.path / name).stat().st_size
        except FileNotFoundError:
            return -1

    def list_files(self) -> list[str]:
        """Return the paths of all files but lock and manifest itself: data, and what a kill left behind."""
        folders = (_FOLDER_PATTERN, *_SUMS_PATTERNS)
        patterns = (*(f"{folder}/*" for folder in folders), f".{_MANIFEST_NAME}.*")
        paths = (path for pattern in patterns for path in self.path.glob(pattern))
        return sorted(path.relative_to(self.path).as_posix() for path in paths)

    def remove_file(self, name: str) -> None:
        """Remove a file if it is there. It may come back after a power failure, as a leftover."""
        (self.path / name).unlink(missing_ok=True)

    def _make_room(self, name: str) -> Path:
        path = self.path / name
        for parent in reversed(Path(name).parents[:-1]):
            folder = self.path / parent
            if not folder.is_dir():
                folder.mkdir(mode=0o700)
                _fsync_directory(folder.parent)
        return path


def _fsync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
