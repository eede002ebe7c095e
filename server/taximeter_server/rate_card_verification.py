# SPDX-License-Identifier: Apache-2.0
"""Whether the timeline is as it was published: chain and cards in the store, and their copies beside the ledger.

Every byte of an entry and of a card stands in two places and under a hash, so one changed byte in one place is found
and named. Somebody who rewrites the whole chain, store and files alike, changes its newest hash: keep that elsewhere.
"""

import hashlib
import json
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from taximeter_server.errors import StoreCorruptError
from taximeter_server.published_card import PublishedCard
from taximeter_server.rate_card_snapshots import RateCardSnapshots
from taximeter_server.store import DocumentStore
from taximeter_server.store_names import RATE_CARDS, TIMELINE
from taximeter_server.timeline_entry import TimelineEntry

WALKS_MAX = 3
SETTLE_SECONDS = 1


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as it was published. version is 0, document_id "", where there is none."""

    version: int
    document_id: str
    place: str
    message: str


@dataclass(slots=True)
class Verification:
    """What was looked at and what differs. chain_hash: of the newest entry that could be read."""

    entry_count: int = 0
    document_count: int = 0
    file_count: int = 0
    chain_hash: str = ""
    differences: list[Difference] = field(default_factory=list)


class RateCardVerifier:
    """Reads everything and changes nothing."""

    def __init__(self, store: DocumentStore, snapshots: RateCardSnapshots) -> None:
        self._store = store
        self._snapshots = snapshots

    def verify(self) -> Verification:
        """Walk the whole timeline. Raises StoreUnavailableError, StoreCorruptError when a key is no list or hash."""
        found = self._walk()
        for _ in range(WALKS_MAX - 1):
            if not found.differences:
                break
            # What is being published just now is in one place and not yet in the other: look again.
            time.sleep(SETTLE_SECONDS)
            found = self._walk()
        return found

    def _walk(self) -> Verification:
        documents = self._store.stored_timeline()
        cards = self._store.stored_rate_cards()
        files = {path.name: path.read_bytes() for path in self._snapshots.files()}
        return _Walk(self._snapshots, cards, files).walk(documents)


class _Walk:
    """One walk over what was read."""

    def __init__(
        self, snapshots: RateCardSnapshots, cards: dict[bytes, bytes], files: dict[str, bytes]
    ) -> None:
        self._snapshots = snapshots
        self._cards = cards
        self._files = files
        self._found = Verification(document_count=len(cards), file_count=len(files))

    def walk(self, documents: Sequence[bytes]) -> Verification:
        """Look at every entry and everything that it names, then at what no entry names."""
        self._found.entry_count = len(documents)
        known_cards: dict[str, int] = {}
        known_files: set[str] = set()
        previous_hash: str | None = ""
        for version, document in enumerate(documents, start=1):
            entry = self._entry(version, document, previous_hash)
            known_files.add(self._entry_copy(version, document))
            previous_hash = None if entry is None else entry.chain_hash
            if entry is None:
                continue
            self._found.chain_hash = entry.chain_hash
            rate_card_id = entry.document_id
            if rate_card_id and rate_card_id not in known_cards:
                known_cards[rate_card_id] = version
                known_files |= self._card(entry)
        unreadable = any(difference.place.startswith(TIMELINE) for difference in self._found.differences)
        if not unreadable:
            self._superfluous(len(documents), known_cards.keys(), known_files)
        return self._found

    def _note(self, version: int, document_id: str, place: str, message: str) -> None:
        self._found.differences.append(Difference(version, document_id, place, message))

    def _entry(self, version: int, document: bytes, previous_hash: str | None) -> TimelineEntry | None:
        """Return an entry as far as it can be read. previous_hash: None after one that could not."""
        place = f"{TIMELINE}[{version - 1}]"
        try:
            entry = TimelineEntry.from_json(document.decode())
        except (ValueError, TypeError, AttributeError) as error:
            self._note(version, "", place, f"not an entry: {error}")
            return None
        if entry.version != version:
            self._note(version, "", place, f"says that it is version {entry.version}")
        elif previous_hash is not None and entry != entry.chained(previous_hash):
            self._note(version, "", place, f"its chain hash does not match: {self._changes(entry)}")
        elif document != entry.to_json().encode():
            self._note(version, "", place, "is written in another way than it was published")
        return entry

    def _changes(self, entry: TimelineEntry) -> str:
        """Say in which fields an entry differs from its copy."""
        try:
            copy = TimelineEntry.from_json(
                self._files[self._snapshots.entry_file(entry.version).name].decode()
            )
        except (KeyError, ValueError, TypeError, AttributeError):
            return "a field or the hash was changed"
        here, there = json.loads(entry.to_json()), json.loads(copy.to_json())
        names = sorted(name for name in here.keys() | there.keys() if here.get(name) != there.get(name))
        changes = [f"{name} is {here.get(name)!r} here and {there.get(name)!r} in its copy" for name in names]
        return ", ".join(changes) or "it does not follow from the entry before"

    def _entry_copy(self, version: int, document: bytes) -> str:
        """Compare an entry with its file. Returns the file's name."""
        file = self._snapshots.entry_file(version)
        self._compare(version, "", file, document)
        return file.name

    def _card(self, entry: TimelineEntry) -> set[str]:
        """Look at the card of an entry. Returns the names of its files."""
        version, rate_card_id = entry.version, entry.document_id
        place = f"{RATE_CARDS}[{rate_card_id}]"
        files = {self._snapshots.canonical_file(rate_card_id), self._snapshots.source_file(rate_card_id)}
        names = {file.name for file in files}
        document = self._cards.get(rate_card_id.encode())
        if document is None:
            self._note(version, rate_card_id, place, "missing")
            return names
        try:
            card = PublishedCard.from_json(rate_card_id, document.decode())
        except UnicodeDecodeError as error:
            self._note(version, rate_card_id, place, f"not UTF-8: {error}")
            return names
        except StoreCorruptError as error:
            self._note(version, rate_card_id, place, error.problem)
            return names
        if entry.source_sha256 and entry.source_sha256 != card.source_sha256:
            self._note(version, rate_card_id, place, "its YAML is not the one that was published")
        elif document != card.to_json().encode():
            self._note(version, rate_card_id, place, "is written in another way than it was published")
        self._compare(
            version, rate_card_id, self._snapshots.canonical_file(rate_card_id), card.canonical_json.encode()
        )
        self._compare(version, rate_card_id, self._snapshots.source_file(rate_card_id), card.yaml.encode())
        return names

    def _compare(self, version: int, rate_card_id: str, file: Path, expected: bytes) -> None:
        """Compare a file with what the store says."""
        content = self._files.get(file.name)
        if content is None:
            self._note(version, rate_card_id, str(file), "missing")
        elif content != expected:
            at = next(
                (
                    place
                    for place, pair in enumerate(zip(content, expected, strict=False))
                    if pair[0] != pair[1]
                ),
                min(len(content), len(expected)),
            )
            digest = hashlib.sha256(content).hexdigest()
            message = f"differs from the store from byte {at} on; its SHA-256 is {digest}"
            self._note(version, rate_card_id, str(file), message)

    def _superfluous(self, entry_count: int, cards: Collection[str], files: Collection[str]) -> None:
        """Name what no entry names: the end of the timeline may have been cut off."""
        for rate_card_id in sorted(self._cards.keys() - {name.encode() for name in cards}):
            shown = rate_card_id.decode("utf-8", "replace")
            self._note(0, shown, f"{RATE_CARDS}[{shown}]", "no entry names it")
        for name in sorted(self._files.keys() - files):
            message = f"no entry names it; the timeline in the store ends with version {entry_count}"
            self._note(0, "", str(self._snapshots.folder / name), message)
