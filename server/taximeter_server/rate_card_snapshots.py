# SPDX-License-Identifier: Apache-2.0
"""Copies of the timeline and of every card as files beside the ledger, which prove what the store says."""

from collections.abc import Iterator
from pathlib import Path

from taximeter_server.data_directory import make_private_directory, write_private_file
from taximeter_server.published_card import PublishedCard
from taximeter_server.timeline_entry import TimelineEntry

_KEPT_SUFFIXES = frozenset({".json", ".yaml"})


class RateCardSnapshots:
    """The folder of the copies. Nothing in it is ever changed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def folder(self) -> Path:
        """Where the files are."""
        return self._folder

    def entry_file(self, version: int) -> Path:
        """Return the file of an entry: its document as in the store."""
        return self._folder / f"timeline-{version:08}.json"

    def canonical_file(self, rate_card_id: str) -> Path:
        """Return the file of a card's canonical form."""
        return self._folder / f"{rate_card_id}.json"

    def source_file(self, rate_card_id: str) -> Path:
        """Return the file of a card's YAML."""
        return self._folder / f"{rate_card_id}.yaml"

    def files(self) -> Iterator[Path]:
        """Yield every file that is a copy, or looks like one. What a kill left half-written does not."""
        for path in sorted(self._folder.glob("*")):
            if path.suffix in _KEPT_SUFFIXES and not path.name.startswith("."):
                yield path

    def keep_entry(self, entry: TimelineEntry) -> None:
        """Write an entry's file."""
        make_private_directory(self._folder)
        write_private_file(self.entry_file(entry.version), entry.to_json().encode())

    def keep_card(self, card: PublishedCard) -> None:
        """Write a card's files."""
        make_private_directory(self._folder)
        write_private_file(self.source_file(card.rate_card_id), card.yaml.encode())
        # Last, because it says that both are there.
        write_private_file(self.canonical_file(card.rate_card_id), card.canonical_json.encode())
