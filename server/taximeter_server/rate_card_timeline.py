# SPDX-License-Identifier: Apache-2.0
"""Which rate card is in force when: an append-only list whose entries are chained by hash.

Entry n holds ``chain_hash = SHA-256(chain_hash of entry n - 1 + its own fields)``, so that a changed, removed or
reordered entry shows. The card of an event is that of the last entry with effective_time_ms <= the event's time; the
first entry is in force for all earlier times too.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self

from taximeter_server.data_directory import make_private_directory, write_private_file
from taximeter_server.errors import (
    EffectiveTooSoonError,
    InvalidFieldsError,
    RateCardUnknownError,
    RateCardVersionConflictError,
    StoreCorruptError,
)
from taximeter_server.rate_card import parse_rate_card
from taximeter_server.store import DocumentStore

LEAD_MS = 5_000
"""A card takes force this long after it is published at the earliest: by then every instance has it or refuses."""

EFFECTIVE_TIME_MS_MAX = 253_402_300_799_999
"""The last millisecond of the year 9999."""

NOTE_LENGTH_MAX = 1_000
PREFIX_LENGTH_MIN = 8
PUBLISH_ATTEMPTS_MAX = 1_000
"""Lost races after which a publisher that compares no version gives up."""

DEFAULT_AUTHOR = "taximeter"


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineEntry:
    """Puts one card in force from an instant on. Immutable. Times are milliseconds since 1970 UTC."""

    version: int
    rate_card_id: str
    effective_time_ms: int
    publish_time_ms: int
    author: str
    note: str
    chain_hash: str = ""

    def chained(self, previous_hash: str) -> Self:
        """Return the entry with its place after previous_hash sealed in."""
        fields = asdict(self)
        del fields["chain_hash"]
        content = json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()
        return replace(self, chain_hash=hashlib.sha256(previous_hash.encode() + b"\n" + content).hexdigest())

    def to_json(self) -> str:
        """Return the entry's document."""
        return json.dumps(asdict(self), sort_keys=True)


@dataclass(frozen=True, slots=True)
class PublishedCard:
    """A card as it was published. canonical_json is the text whose SHA-256 is its id."""

    rate_card_id: str
    yaml: str
    canonical_json: str

    def to_json(self) -> str:
        """Return the card's document."""
        return json.dumps({"yaml": self.yaml, "canonical_json": self.canonical_json})

    @classmethod
    def from_json(cls, rate_card_id: str, document: str) -> Self:
        """Read a card's document. Raises StoreCorruptError, also when it is not the card of that id."""
        try:
            values = json.loads(document)
            card = cls(rate_card_id, values["yaml"], values["canonical_json"])
            actual_id = hashlib.sha256(card.canonical_json.encode()).hexdigest()
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise StoreCorruptError(f"rate card {rate_card_id}: {error}") from error
        if actual_id != rate_card_id:
            raise StoreCorruptError(f"rate card {rate_card_id} has the content of {actual_id}")
        return card


def parse_timeline(documents: Sequence[str]) -> tuple[TimelineEntry, ...]:
    """Read entries, oldest first. Raises StoreCorruptError when one was changed, removed or reordered."""
    entries: list[TimelineEntry] = []
    for number, document in enumerate(documents, start=1):
        try:
            entry = TimelineEntry(**json.loads(document))
        except (ValueError, TypeError) as error:
            raise StoreCorruptError(f"timeline entry {number}: {error}") from error
        previous_hash = entries[-1].chain_hash if entries else ""
        if entry.version != number or entry != entry.chained(previous_hash):
            raise StoreCorruptError(f"timeline entry {number} does not follow from the one before")
        entries.append(entry)
    return tuple(entries)


def entry_in_force(entries: Sequence[TimelineEntry], time_ms: int) -> TimelineEntry | None:
    """Return the entry in force at time_ms, None for an empty timeline."""
    due = [entry for entry in entries if entry.effective_time_ms <= time_ms]
    return due[-1] if due else next(iter(entries), None)


class RateCardTimeline:
    """The timeline of a store. snapshots: folder that keeps every card as a file too, beside the ledger."""

    def __init__(self, store: DocumentStore, clock: Callable[[], int], *, snapshots: Path) -> None:
        self._store = store
        self._clock = clock
        self._snapshots = snapshots

    def entries(self) -> tuple[TimelineEntry, ...]:
        """Return all entries, oldest first. Raises StoreCorruptError."""
        return parse_timeline(self._store.timeline())

    def publish(
        self,
        yaml: str,
        *,
        author: str,
        effective_time_ms: int | None = None,
        expected_version: int | None = None,
        note: str = "",
    ) -> tuple[TimelineEntry, bool]:
        """Put a card in force from effective_time_ms on, None for the earliest possible.

        Returns (the new entry, True), or (the newest entry, False) when that has the same content already.
        expected_version: newest version that the author saw, 0 for none, None not to compare.
        Raises RateCardInvalidError, RateCardVersionConflictError, EffectiveTooSoonError, InvalidFieldsError.
        """
        if len(note) > NOTE_LENGTH_MAX:
            raise InvalidFieldsError.of("note", f"at most {NOTE_LENGTH_MAX} characters")
        if effective_time_ms is not None and effective_time_ms > EFFECTIVE_TIME_MS_MAX:
            raise InvalidFieldsError.of("effective_time", "at most the year 9999")
        card = compile_card(yaml)
        entries: Sequence[TimelineEntry] = ()
        for _ in range(PUBLISH_ATTEMPTS_MAX):
            entries = self.entries()
            newest = entries[-1] if entries else None
            if newest is not None and newest.rate_card_id == card.rate_card_id:
                return newest, False
            if expected_version is not None and expected_version != len(entries):
                break
            self._check_currency(newest, card)
            publish_time_ms = self._clock()
            entry = TimelineEntry(
                version=len(entries) + 1,
                rate_card_id=card.rate_card_id,
                effective_time_ms=_effective_time(newest, publish_time_ms, effective_time_ms),
                publish_time_ms=publish_time_ms,
                author=author,
                note=note,
            ).chained(newest.chain_hash if newest else "")
            if self._append(len(entries), entry, card):
                return entry, True
        raise RateCardVersionConflictError(len(entries))

    def ensure_first(self, yaml: str) -> None:
        """Publish a card for all times when there is none yet."""
        if not self._store.timeline():
            card = compile_card(yaml)
            entry = TimelineEntry(
                version=1,
                rate_card_id=card.rate_card_id,
                effective_time_ms=0,
                publish_time_ms=self._clock(),
                author=DEFAULT_AUTHOR,
                note="the card that the server comes with",
            ).chained("")
            # False: another instance was first, which is as good.
            self._append(0, entry, card)
        self._keep_snapshots()

    def find(self, *, rate_card_id: str, time_ms: int) -> tuple[TimelineEntry, PublishedCard]:
        """Return a card and its newest entry.

        rate_card_id: an id or a unique prefix of at least 8 hex digits, "" for the card in force at time_ms.
        Raises RateCardUnknownError, InvalidFieldsError.
        """
        entries = self.entries()
        if not rate_card_id:
            found = entry_in_force(entries, time_ms)
            if found is None:
                raise RateCardUnknownError("no card is in force")
            return found, self.card(found.rate_card_id)
        if len(rate_card_id) < PREFIX_LENGTH_MIN:
            raise InvalidFieldsError.of("rate_card_id", f"at least {PREFIX_LENGTH_MIN} hex digits")
        matches = {
            entry.rate_card_id: entry for entry in entries if entry.rate_card_id.startswith(rate_card_id)
        }
        if len(matches) != 1:
            raise RateCardUnknownError("more than one card has this id" if matches else "no such card")
        entry = next(iter(matches.values()))
        return entry, self.card(entry.rate_card_id)

    def card(self, rate_card_id: str) -> PublishedCard:
        """Return the card of an entry. Raises StoreCorruptError when it is missing or changed."""
        return PublishedCard.from_json(rate_card_id, self._store.rate_cards([rate_card_id])[rate_card_id])

    def _check_currency(self, newest: TimelineEntry | None, card: PublishedCard) -> None:
        """Refuse a second currency: sums over records would add up what cannot be added."""
        if newest is None or newest.author == DEFAULT_AUTHOR:
            return
        so_far = currency_of(self.card(newest.rate_card_id).canonical_json)
        if currency_of(card.canonical_json) != so_far:
            raise InvalidFieldsError.of(
                "yaml", f"currency: all cards of a server are in one, so far in {so_far}"
            )

    def _append(self, length: int, entry: TimelineEntry, card: PublishedCard) -> bool:
        appended = self._store.append_timeline(
            length, entry.to_json(), rate_card_id=card.rate_card_id, rate_card=card.to_json()
        )
        if appended:
            self._keep_snapshot(card)
        return appended

    def _keep_snapshots(self) -> None:
        """Keep what a kill, or another instance, has left without a file."""
        for rate_card_id in {entry.rate_card_id for entry in self.entries()}:
            if not self._snapshot_file(rate_card_id).exists():
                self._keep_snapshot(self.card(rate_card_id))

    def _keep_snapshot(self, card: PublishedCard) -> None:
        make_private_directory(self._snapshots)
        write_private_file(self._snapshots / f"{card.rate_card_id}.yaml", card.yaml.encode())
        # Last, because it says that both are there.
        write_private_file(self._snapshot_file(card.rate_card_id), card.canonical_json.encode())

    def _snapshot_file(self, rate_card_id: str) -> Path:
        return self._snapshots / f"{rate_card_id}.json"


def compile_card(yaml: str) -> PublishedCard:
    """Check a card and bring it into canonical form. Raises RateCardInvalidError with all its problems."""
    document = parse_rate_card(yaml)
    return PublishedCard(document.rate_card_id, yaml, document.canonical_json.decode())


def currency_of(canonical_json: str) -> str:
    """Return the ISO 4217 code of a card. Raises StoreCorruptError."""
    try:
        return str(json.loads(canonical_json)["currency"])
    except (ValueError, TypeError, KeyError) as error:
        raise StoreCorruptError(f"rate card without a currency: {error}") from error


def _effective_time(newest: TimelineEntry | None, publish_time_ms: int, asked_ms: int | None) -> int:
    earliest_ms = publish_time_ms + LEAD_MS
    if newest is not None:
        earliest_ms = max(earliest_ms, newest.effective_time_ms + 1)
    if asked_ms is None:
        return earliest_ms
    if asked_ms < earliest_ms:
        raise EffectiveTooSoonError(earliest_ms)
    return asked_ms
