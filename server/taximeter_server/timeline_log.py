# SPDX-License-Identifier: Apache-2.0
"""The list of timeline entries in the store: append-only, one winner, with a copy of each beside the ledger."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

from taximeter_server.errors import InvalidFieldsError
from taximeter_server.published_card import PublishedCard
from taximeter_server.rate_card_errors import RateCardVersionConflictError
from taximeter_server.rate_card_snapshots import RateCardSnapshots
from taximeter_server.store import DocumentStore
from taximeter_server.timeline_entry import TimelineEntry, parse_timeline

Entries: TypeAlias = Sequence[TimelineEntry]

NOTE_LENGTH_MAX = 1_000
APPEND_MS_MAX = 250
"""An entry that reaches the store later than this after its publish time was read is made anew."""

ATTEMPTS_MAX = 1_000
"""Lost races after which an author that compares no version gives up."""


class TimelineLog:
    """The list of a store."""

    def __init__(self, store: DocumentStore, snapshots: RateCardSnapshots) -> None:
        self._store = store
        self._snapshots = snapshots

    def entries(self) -> tuple[TimelineEntry, ...]:
        """Return all entries, oldest first. Raises StoreCorruptError."""
        return parse_timeline(self._store.timeline())

    def card(self, rate_card_id: str) -> PublishedCard:
        """Return the card, or the own prices, of an entry. Raises StoreCorruptError when missing or changed."""
        return PublishedCard.from_json(rate_card_id, self._store.rate_cards([rate_card_id])[rate_card_id])

    def change(
        self,
        same: Callable[[Entries], TimelineEntry | None],
        draft: Callable[[Entries, int], TimelineEntry],
        card: PublishedCard | None,
        *,
        expected_version: int | None = None,
        note: str = "",
    ) -> tuple[TimelineEntry, bool]:
        """Append what draft makes of the entries and the store's clock, unless same finds that nothing changes.

        Returns (the new entry, True), or (what same found, False). card: what the entry puts in force.
        Raises RateCardVersionConflictError when expected_version is not the newest, InvalidFieldsError.
        """
        if len(note) > NOTE_LENGTH_MAX:
            raise InvalidFieldsError.of("note", f"at most {NOTE_LENGTH_MAX} characters")
        entries: Entries = ()
        for _ in range(ATTEMPTS_MAX):
            entries = self.entries()
            found = same(entries)
            if found is not None:
                return found, False
            if expected_version is not None and expected_version != len(entries):
                break
            now_ms = self._store.time_ms()
            kept = None if card is None else self._first_published(card)
            entry = replace(
                draft(entries, now_ms),
                version=len(entries) + 1,
                publish_time_ms=now_ms,
                source_sha256="" if kept is None else kept.source_sha256,
            ).chained(entries[-1].chain_hash if entries else "")
            if self._append(len(entries), entry, kept):
                return entry, True
        raise RateCardVersionConflictError(len(entries))

    def _first_published(self, card: PublishedCard) -> PublishedCard:
        """Return the card as the store keeps it: comments of a later file with the same content are not kept."""
        document = self._store.find_rate_card(card.rate_card_id)
        return card if document is None else PublishedCard.from_json(card.rate_card_id, document)

    def _append(self, length: int, entry: TimelineEntry, card: PublishedCard | None) -> bool:
        appended = self._store.append_timeline(
            length,
            entry.to_json(),
            until_ms=entry.publish_time_ms + APPEND_MS_MAX,
            rate_card=None if card is None else (card.rate_card_id, card.to_json()),
        )
        if appended:
            if card is not None:
                self._snapshots.keep_card(card)
            self._snapshots.keep_entry(entry)
        return appended

    def keep_snapshots(self) -> None:
        """Keep what a kill, or another instance, has left without a file."""
        for entry in self.entries():
            rate_card_id = entry.document_id
            if rate_card_id and not self._snapshots.canonical_file(rate_card_id).exists():
                self._snapshots.keep_card(self.card(rate_card_id))
            if not self._snapshots.entry_file(entry.version).exists():
                self._snapshots.keep_entry(entry)
