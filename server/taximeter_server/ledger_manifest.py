# SPDX-License-Identifier: Apache-2.0
"""The manifest: which files make up the ledger, and how far into each stream they reach.

It is the one place that says what has been archived. A file that it does not name does not exist for readers; an
entry at or before its partition's watermark is in exactly one of the files it names.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from taximeter_server.ledger import BEFORE_ALL, PARTITION_COUNT, StreamId

FORMAT = 1
"""Version of the manifest. A reader refuses one that it does not know."""


class LedgerCorruptError(Exception):
    """The ledger's folder is not what it must be. Not transient: restore the folder from a backup."""


@dataclass(frozen=True, slots=True)
class LedgerFile:
    """One Parquet file of the ledger. path is relative to the ledger's folder; bounds are inclusive.

    generation: of the manifest that archived the newest of its rows. rollup: path of the rollup that has summed the
    whole file; None while there is none.
    """

    path: str
    row_count: int
    size_bytes: int
    stream_ms_min: int
    stream_ms_max: int
    occur_time_us_min: int
    occur_time_us_max: int
    generation: int
    rollup: str | None = None

    @property
    def folder(self) -> str:
        """Folder "date=YYYY-MM-DD", the UTC date on which everything in the file occurred."""
        return self.path.partition("/")[0]


@dataclass(frozen=True, slots=True)
class RollupFile:
    """Sums of all files of the manifest that name its path, and of nothing else: by the hour, and by the day.

    path, size_bytes, row_count: of the file of hours. days_path, days_size_bytes: of the file of days; day_row_count,
    tenant_day_row_count and together_row_count: its rows of each grain. attributes_path, attributes_size_bytes,
    attributes_row_count: of the file of attributes; "" and 0 where there is none. generation: the newest of the files'.
    format: ledger_rollup.FORMAT of the server that wrote it. month: path of the month that has its days; None while
    there is none.
    """

    path: str
    row_count: int
    day_row_count: int
    size_bytes: int
    stream_ms_max: int
    generation: int
    format: int
    # Older servers had no file of days; what they wrote has another format and is made again.
    days_path: str = ""
    days_size_bytes: int = 0
    tenant_day_row_count: int = 0
    together_row_count: int = 0
    attributes_path: str = ""
    attributes_size_bytes: int = 0
    attributes_row_count: int = 0
    month: str | None = None

    @property
    def folder(self) -> str:
        """Folder "date=YYYY-MM-DD" of the files that it sums."""
        return self.path.split("/")[1]

    @property
    def sizes_bytes(self) -> Mapping[str, int]:
        """Its files, by path."""
        parts = (
            (self.path, self.size_bytes),
            (self.days_path, self.days_size_bytes),
            (self.attributes_path, self.attributes_size_bytes),
        )
        return {path: size_bytes for path, size_bytes in parts if path}


@dataclass(frozen=True, slots=True)
class MonthFile:
    """The days of all rollups of the manifest that name its path, in one file, and their sums in another.

    Rows of dates whose rollups do not name it any more are not to be read; date_count says how many there were. path,
    size_bytes: of the file of days. month_path, month_size_bytes: of the file of sums of all its dates. format:
    ledger_rollup.FORMAT of the server that wrote it.
    """

    path: str
    size_bytes: int
    month_path: str
    month_size_bytes: int
    date_count: int
    format: int

    @property
    def sizes_bytes(self) -> Mapping[str, int]:
        """Its files, by path."""
        return {self.path: self.size_bytes, self.month_path: self.month_size_bytes}


@dataclass(frozen=True, slots=True)
class ObsoleteFile:
    """A file whose rows are in another one now. Kept for readers that opened an earlier manifest."""

    path: str
    obsolete_time_ms: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """One version of the ledger. generation grows by 1 with each."""

    generation: int = 0
    watermarks: tuple[StreamId, ...] = (BEFORE_ALL,) * PARTITION_COUNT
    files: tuple[LedgerFile, ...] = ()
    rollups: tuple[RollupFile, ...] = ()
    months: tuple[MonthFile, ...] = ()
    obsolete_files: tuple[ObsoleteFile, ...] = ()

    @property
    def paths(self) -> frozenset[str]:
        """Everything that the folder holds for this version and those before it that may still be read."""
        return frozenset(
            (
                *(file.path for file in self.files),
                *(path for rollup in self.rollups for path in rollup.sizes_bytes),
                *(path for month in self.months for path in month.sizes_bytes),
                *(file.path for file in self.obsolete_files),
            )
        )

    def with_archived(self, files: Iterable[LedgerFile], watermarks: Mapping[int, StreamId]) -> Self:
        """Return the next version: files added, watermarks moved on by partition."""
        moved = tuple(watermarks.get(partition, old) for partition, old in enumerate(self.watermarks))
        return replace(self, generation=self.generation + 1, watermarks=moved, files=(*self.files, *files))

    def with_merged(self, merged: LedgerFile, sources: Iterable[LedgerFile], *, time_ms: int) -> Self:
        """Return the next version: sources replaced by merged and obsolete since time_ms."""
        gone = {file.path for file in sources}
        kept = tuple(file for file in self.files if file.path not in gone)
        obsolete = tuple(ObsoleteFile(path, time_ms) for path in sorted(gone))
        return replace(
            self,
            generation=self.generation + 1,
            files=(*kept, merged),
            obsolete_files=(*self.obsolete_files, *obsolete),
        )

    def with_rollup(
        self,
        rollup: RollupFile,
        files: Iterable[LedgerFile],
        rollups: Collection[RollupFile],
        *,
        time_ms: int,
    ) -> "Manifest":
        """Return the next version: rollup sums files and what rollups summed, which are obsolete since time_ms."""
        new = {file.path for file in files}
        gone = {old.path for old in rollups}
        kept = tuple(old for old in self.rollups if old.path not in gone)
        struck = {rollup.folder} if any(old.month for old in rollups) else set[str]()
        changed = replace(
            self,
            generation=self.generation + 1,
            files=tuple(
                replace(file, rollup=rollup.path) if file.path in new or file.rollup in gone else file
                for file in self.files
            ),
            rollups=(*_without_month(kept, struck), rollup),
            obsolete_files=(
                *self.obsolete_files,
                *(ObsoleteFile(path, time_ms) for old in rollups for path in old.sizes_bytes),
            ),
        )
        return _with_named_months(changed, time_ms)

    def with_month(self, month: MonthFile, rollups: Collection[RollupFile], *, time_ms: int) -> "Manifest":
        """Return the next version: month has the days of rollups, and takes the place of those that had them."""
        new = {rollup.path for rollup in rollups}
        changed = replace(
            self,
            generation=self.generation + 1,
            rollups=tuple(
                replace(rollup, month=month.path) if rollup.path in new else rollup for rollup in self.rollups
            ),
            months=(*self.months, month),
        )
        return _with_named_months(changed, time_ms)

    def without_sums(self, paths: set[str], *, time_ms: int) -> "Manifest":
        """Return the next version: rollups and months with these paths forgotten, and what is left of the former."""
        lost = {rollup.folder for rollup in self.rollups if rollup.path in paths}
        kept = _without_month((rollup for rollup in self.rollups if rollup.path not in paths), lost)
        changed = replace(
            self,
            generation=self.generation + 1,
            files=tuple(replace(file, rollup=None) if file.rollup in paths else file for file in self.files),
            rollups=tuple(
                replace(rollup, month=None) if rollup.month in paths else rollup for rollup in kept
            ),
            months=tuple(month for month in self.months if month.path not in paths),
        )
        return _with_named_months(changed, time_ms)

    def without_obsolete(self, paths: set[str]) -> Self:
        """Return the next version: obsolete files with these paths forgotten."""
        kept = tuple(file for file in self.obsolete_files if file.path not in paths)
        return replace(self, generation=self.generation + 1, obsolete_files=kept)

    def to_json(self) -> bytes:
        """Return the form in which the manifest is kept."""
        document = {
            "format": FORMAT,
            "generation": self.generation,
            "watermarks": [str(watermark) for watermark in self.watermarks],
            "files": [asdict(file) for file in self.files],
            "rollups": [asdict(rollup) for rollup in self.rollups],
            "months": [asdict(month) for month in self.months],
            "obsolete_files": [asdict(file) for file in self.obsolete_files],
        }
        return json.dumps(document, separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, content: bytes) -> Self:
        """Read what to_json wrote. Raises LedgerCorruptError."""
        try:
            document: dict[str, Any] = json.loads(content)
            if document["format"] != FORMAT:
                raise LedgerCorruptError(
                    f"manifest has format {document['format']}, this server knows {FORMAT}"
                )
            manifest = cls(
                generation=document["generation"],
                watermarks=tuple(StreamId.parse(text) for text in document["watermarks"]),
                files=tuple(LedgerFile(**_with_generation(file)) for file in document["files"]),
                rollups=tuple(RollupFile(**rollup) for rollup in document.get("rollups", ())),
                months=tuple(MonthFile(**month) for month in document.get("months", ())),
                obsolete_files=tuple(ObsoleteFile(**file) for file in document["obsolete_files"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise LedgerCorruptError("manifest cannot be read") from error
        if len(manifest.watermarks) != PARTITION_COUNT:
            raise LedgerCorruptError(
                f"manifest has {len(manifest.watermarks)} partitions, not {PARTITION_COUNT}"
            )
        return manifest


def _without_month(rollups: Iterable[RollupFile], folders: Collection[str]) -> Iterator[RollupFile]:
    """Yield rollups, those of some dates without a month, whose rows of the date are those of rollups now gone."""
    for rollup in rollups:
        yield replace(rollup, month=None) if rollup.folder in folders else rollup


def _with_named_months(manifest: Manifest, time_ms: int) -> Manifest:
    """Return a manifest without the months that no rollup names, which are obsolete since time_ms."""
    named = {rollup.month for rollup in manifest.rollups}
    gone = [path for month in manifest.months if month.path not in named for path in month.sizes_bytes]
    return replace(
        manifest,
        months=tuple(month for month in manifest.months if month.path in named),
        obsolete_files=(*manifest.obsolete_files, *(ObsoleteFile(path, time_ms) for path in gone)),
    )


def _with_generation(file: dict[str, Any]) -> dict[str, Any]:
    """Return a file as it is kept today: its generation used to be known by its name only."""
    name = str(file["path"]).rpartition("/")[2]
    return {"generation": int(name.partition("-")[0]), **file}
