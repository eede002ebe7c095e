# SPDX-License-Identifier: Apache-2.0
"""The entries of the rate-card timeline: cards, tenants' own prices, and withdrawals of either, chained by hash.

Entry n holds ``chain_hash = SHA-256(chain_hash of entry n - 1 + its own fields)``, so that a changed, removed or
reordered entry shows. Nothing is ever removed: what must not take force is withdrawn by an entry of its own.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from enum import StrEnum
from typing import Self

from taximeter_server.errors import StoreCorruptError
from taximeter_server.hash_chain import chain_hash
from taximeter_server.tenant_path import levels_of


class EntryKind(StrEnum):
    """What an entry does."""

    CARD = "card"
    WITHDRAWAL = "withdrawal"
    TENANT_PRICES = "tenant_prices"


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineEntry:
    """Puts one card, or one tenant's own prices, in force from an instant on, or withdraws such an entry.

    Immutable. Times are milliseconds since 1970 UTC. Fields that say nothing are left out of the document.
    """

    version: int = 0
    kind: EntryKind = EntryKind.CARD
    rate_card_id: str = ""
    """The card; "" unless kind is CARD."""
    tenant: str = ""
    """Level whose own prices are set or end; "" unless kind is TENANT_PRICES."""
    tenant_prices_id: str = ""
    """The own prices; "" where they end."""
    withdrawn_version: int = 0
    """Entry that is withdrawn; 0 unless kind is WITHDRAWAL."""
    source_sha256: str = ""
    """SHA-256 of the YAML as published; "" where there is none."""
    effective_time_ms: int
    publish_time_ms: int = 0
    author: str
    note: str
    chain_hash: str = ""

    @property
    def document_id(self) -> str:
        """Id of the card or of the own prices, "" for none."""
        return self.rate_card_id or self.tenant_prices_id

    def chained(self, previous_hash: str) -> Self:
        """Return the entry with its place after previous_hash sealed in."""
        content = self._values()
        content.pop("chain_hash", None)
        return replace(self, chain_hash=chain_hash(previous_hash, content))

    def to_json(self) -> str:
        """Return the entry's document."""
        return json.dumps(self._values(), sort_keys=True)

    def _values(self) -> dict[str, object]:
        values = asdict(self)
        return {
            name: value for name, value in values.items() if name not in _OPTIONAL or value != _OPTIONAL[name]
        }

    @classmethod
    def from_json(cls, document: str) -> Self:
        """Read a document. Raises ValueError or TypeError."""
        values = json.loads(document)
        return cls(**{**values, "kind": EntryKind(values.get("kind", EntryKind.CARD))})


_NAMES_ALWAYS = {"version", "effective_time_ms", "publish_time_ms", "author", "note", "chain_hash"}
_OPTIONAL = {field.name: field.default for field in fields(TimelineEntry) if field.name not in _NAMES_ALWAYS}


def parse_timeline(documents: Sequence[str]) -> tuple[TimelineEntry, ...]:
    """Read entries, oldest first. Raises StoreCorruptError when one was changed, removed or reordered."""
    entries: list[TimelineEntry] = []
    for number, document in enumerate(documents, start=1):
        try:
            entry = TimelineEntry.from_json(document)
        except (ValueError, TypeError, AttributeError) as error:
            raise StoreCorruptError(f"timeline entry {number}: {error}") from error
        previous_hash = entries[-1].chain_hash if entries else ""
        if entry.version != number or entry != entry.chained(previous_hash):
            raise StoreCorruptError(f"timeline entry {number} does not follow from the one before")
        entries.append(entry)
    return tuple(entries)


def withdrawn_versions(entries: Iterable[TimelineEntry]) -> frozenset[int]:
    """Return the versions that were withdrawn."""
    return frozenset(entry.withdrawn_version for entry in entries if entry.kind is EntryKind.WITHDRAWAL)


def standing_cards(entries: Sequence[TimelineEntry]) -> list[TimelineEntry]:
    """Return the entries of cards that were not withdrawn; each takes force after the one before it."""
    withdrawn = withdrawn_versions(entries)
    return [entry for entry in entries if entry.kind is EntryKind.CARD and entry.version not in withdrawn]


def standing_prices(entries: Sequence[TimelineEntry], tenant: str) -> list[TimelineEntry]:
    """Return the entries of one level's own prices that were not withdrawn, the ends of prices among them."""
    withdrawn = withdrawn_versions(entries)
    return [
        entry
        for entry in entries
        if entry.kind is EntryKind.TENANT_PRICES and entry.tenant == tenant and entry.version not in withdrawn
    ]


def last_due(entries: Sequence[TimelineEntry], time_ms: int) -> TimelineEntry | None:
    """Return the last entry that has taken force at time_ms."""
    due = [entry for entry in entries if entry.effective_time_ms <= time_ms]
    return due[-1] if due else None


def entry_in_force(entries: Sequence[TimelineEntry], time_ms: int) -> TimelineEntry | None:
    """Return the entry of the card in force at time_ms, None for an empty timeline.

    The first card is in force for all earlier times too.
    """
    cards = standing_cards(entries)
    return last_due(cards, time_ms) or next(iter(cards), None)


def prices_in_force(entries: Sequence[TimelineEntry], tenant: str, time_ms: int) -> TimelineEntry | None:
    """Return the entry of the own prices that apply to a tenant at time_ms, None when the card's do.

    They are those of the nearest level that has any, from the tenant upwards; levels are never combined.
    """
    for level in levels_of(tenant):
        found = last_due(standing_prices(entries, level), time_ms)
        if found is not None and found.tenant_prices_id:
            return found
    return None
