# SPDX-License-Identifier: Apache-2.0
"""The catalogue: what the engine needs of keys, rate cards and their timeline, as one immutable JSON text.

A follower asks the store for its revision four times a second. The same revision confirms the engine's catalogue, a
new one brings a new catalogue; an engine that hears neither for 5 s refuses to price.
"""

import json
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Protocol

import structlog

from taximeter_server.errors import StoreUnavailableError
from taximeter_server.keys import Key
from taximeter_server.published_card import PublishedCard, currency_of
from taximeter_server.store import DocumentStore
from taximeter_server.timeline_entry import (
    EntryKind,
    TimelineEntry,
    parse_timeline,
    standing_cards,
    withdrawn_versions,
)

POLL_INTERVAL_MS = 250
CONFIRM_AGE_MS_MAX = 500
"""An answer of the store that took longer does not confirm: what it says may be older than it looks."""

_log = structlog.get_logger(__name__)


class CatalogueReader(Protocol):
    """Takes catalogues; the engine does."""

    def set_catalogue(self, catalogue_json: bytes) -> None:
        """Swap a catalogue in."""

    def confirm_catalogue(self) -> None:
        """Hear that the catalogue is still the store's."""


def build_catalogue(
    *,
    revision: int,
    timeline: Sequence[TimelineEntry],
    cards: Mapping[str, str],
    keys: Sequence[Key],
    leases: Mapping[str, int],
) -> bytes:
    """Return the catalogue as set_catalogue() takes it.

    cards: canonical JSON of cards and tenants' own prices, by id. Revoked keys are left out. leases: requests that an
    instance may let pass while the store cannot decide, by tenant.
    """
    card_ids = {entry.rate_card_id for entry in timeline}
    head = {
        "revision": revision,
        **_timeline_parts(timeline),
        "keys": [
            {
                "key_id": key.key_id,
                "secret_sha256": key.secret_sha256,
                "role": key.role,
                "tenants": list(key.tenants),
                "expire_time_ms": key.expire_time_ms,
            }
            for key in keys
            if key.revoke_time_ms is None
        ],
        "leases": dict(leases),
    }
    # Cards are put in as they are, byte for byte: their hash is their name.
    texts = _joined({name: text for name, text in cards.items() if name in card_ids})
    own_texts = _joined({name: text for name, text in cards.items() if name not in card_ids})
    return (
        f'{json.dumps(head)[:-1]},"rate_cards":{{{texts}}},"tenant_price_documents":{{{own_texts}}}}}'
    ).encode()


def _timeline_parts(timeline: Sequence[TimelineEntry]) -> dict[str, list[dict[str, object]]]:
    """Return the entries by what they put in force. What was withdrawn may have priced what is dated ahead."""
    withdrawn = withdrawn_versions(timeline)
    return {
        "timeline": [
            {
                "version": entry.version,
                "effective_time_ms": entry.effective_time_ms,
                "rate_card_id": entry.rate_card_id,
                "withdrawn": entry.version in withdrawn,
            }
            for entry in timeline
            if entry.kind is EntryKind.CARD
        ],
        "tenant_prices": [
            {
                "version": entry.version,
                "effective_time_ms": entry.effective_time_ms,
                "tenant": entry.tenant,
                "tenant_prices_id": entry.tenant_prices_id or None,
                "withdrawn": entry.version in withdrawn,
            }
            for entry in timeline
            if entry.kind is EntryKind.TENANT_PRICES
        ],
    }


def _joined(texts: Mapping[str, str]) -> str:
    return ",".join(f"{json.dumps(name)}:{text}" for name, text in texts.items())


class CatalogueFollower:
    """Keeps one engine's catalogue the same as the store's."""

    def __init__(self, store: DocumentStore, reader: CatalogueReader) -> None:
        self._store = store
        self._reader = reader
        self._lock = threading.Lock()
        self._revision: int | None = None
        self._cards: dict[str, str] = {}
        self._timeline_version = 0
        self._currency_code = "USD"

    @property
    def timeline_version(self) -> int:
        """Newest version of the timeline that the engine knows."""
        return self._timeline_version

    @property
    def currency_code(self) -> str:
        """ISO 4217 code of the newest card that the engine knows."""
        return self._currency_code

    def refresh(self) -> None:
        """Bring the engine up to date before returning. Raises StoreUnavailableError, StoreCorruptError."""
        with self._lock:
            started_at = time.monotonic()
            if self._store.revision() == self._revision:
                if time.monotonic() - started_at <= CONFIRM_AGE_MS_MAX / 1000:
                    self._reader.confirm_catalogue()
                return
            snapshot = self._store.snapshot()
            timeline = parse_timeline(snapshot.timeline)
            cards = self._load_cards({entry.document_id for entry in timeline if entry.document_id})
            keys = [Key.from_json(document) for document in snapshot.keys.values()]
            leases = {tenant: int(requests) for tenant, requests in snapshot.leases.items()}
            self._reader.set_catalogue(
                build_catalogue(
                    revision=snapshot.revision, timeline=timeline, cards=cards, keys=keys, leases=leases
                )
            )
            self._cards = cards
            self._revision = snapshot.revision
            self._timeline_version = len(timeline)
            for entry in standing_cards(timeline)[-1:]:
                self._currency_code = currency_of(cards[entry.rate_card_id])

    def _load_cards(self, ids: set[str]) -> dict[str, str]:
        """Return canonical JSON by id, reading only cards not yet known: cards never change."""
        missing = sorted(ids - self._cards.keys())
        loaded = {
            rate_card_id: PublishedCard.from_json(rate_card_id, document).canonical_json
            for rate_card_id, document in self._store.rate_cards(missing).items()
        }
        known = {**self._cards, **loaded}
        return {rate_card_id: known[rate_card_id] for rate_card_id in sorted(ids)}

    def run(self, stop: threading.Event) -> None:
        """Follow the store until stop is set; meant for a thread of its own."""
        failing = False
        while not stop.wait(POLL_INTERVAL_MS / 1000):
            try:
                self.refresh()
            except Exception as error:  # noqa: BLE001 (following must go on, whatever one answer looks like)
                # Once per outage: the engine refuses to price by itself when this goes on.
                if not failing:
                    if isinstance(error, StoreUnavailableError):
                        _log.warning("cannot follow the store's catalogue", problem=str(error))
                    else:
                        _log.exception("cannot follow the store's catalogue")
                failing = True
            else:
                if failing:
                    _log.info("following the store's catalogue again")
                failing = False
