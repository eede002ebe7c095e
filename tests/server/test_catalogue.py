# SPDX-License-Identifier: Apache-2.0
"""The catalogue: what the engine is told, and that it follows the store."""

import importlib.resources
import json
import threading
import time
from pathlib import Path

import pytest
from server.stopped_clock import StoppedClock

from taximeter_server.catalogue import POLL_INTERVAL_MS, CatalogueFollower
from taximeter_server.embedded_store import EmbeddedStore
from taximeter_server.errors import StoreUnavailableError
from taximeter_server.keys import Keys
from taximeter_server.published_card import compile_card, tenant_prices_to_publish
from taximeter_server.rate_card_snapshots import RateCardSnapshots
from taximeter_server.rate_card_timeline import RateCardTimeline
from taximeter_server.store import DocumentStore
from taximeter_server.tenant_prices import parse_tenant_prices

DEFAULT_CARD = (importlib.resources.files("taximeter_server") / "default_rate_card.yaml").read_text("utf-8")


class CatalogueLog:
    """Keeps what an engine would be told."""

    def __init__(self) -> None:
        self.catalogues: list[bytes] = []
        self.confirmations = 0

    def set_catalogue(self, catalogue_json: bytes) -> None:
        """Note a catalogue."""
        self.catalogues.append(catalogue_json)

    def confirm_catalogue(self) -> None:
        """Count a confirmation."""
        self.confirmations += 1


@pytest.fixture
def log() -> CatalogueLog:
    """What reached the engine's side."""
    return CatalogueLog()


@pytest.fixture
def follower(documents: DocumentStore, log: CatalogueLog) -> CatalogueFollower:
    """A follower of an empty store."""
    return CatalogueFollower(documents, log)


@pytest.fixture
def timeline(documents: DocumentStore, tmp_path: Path) -> RateCardTimeline:
    """A timeline that holds the default card."""
    timeline = RateCardTimeline(documents, RateCardSnapshots(tmp_path / "cards"))
    timeline.ensure_first(DEFAULT_CARD)
    return timeline


def test_catalogue_holds_what_the_engine_needs(
    documents: DocumentStore,
    clock: StoppedClock,
    timeline: RateCardTimeline,
    follower: CatalogueFollower,
    log: CatalogueLog,
) -> None:
    """Keys that work, the timeline, and every card byte for byte, as of one revision."""
    keys = Keys(documents, clock)
    key, _ = keys.create(role="read", tenants=("acme",), note="secret note", expire_time_ms=clock.now_ms + 1)
    revoked, _ = keys.create(role="meter", tenants=(), note="", expire_time_ms=None)
    keys.revoke(revoked.key_id)
    follower.refresh()
    (entry,) = timeline.entries()
    canonical_json = timeline.card(entry.rate_card_id).canonical_json

    (catalogue,) = log.catalogues
    assert json.loads(catalogue) == {
        "revision": documents.revision(),
        "leases": {},
        "timeline": [
            {
                "version": 1,
                "effective_time_ms": 0,
                "rate_card_id": entry.rate_card_id,
                "withdrawn": False,
            }
        ],
        "rate_cards": {entry.rate_card_id: json.loads(canonical_json)},
        "tenant_prices": [],
        "tenant_price_documents": {},
        "keys": [
            {
                "key_id": key.key_id,
                "secret_sha256": key.secret_sha256,
                "role": "read",
                "tenants": ["acme"],
                "expire_time_ms": clock.now_ms + 1,
            }
        ],
    }
    assert canonical_json.encode() in catalogue
    assert follower.timeline_version == 1
    assert follower.currency_code == "USD"


def test_catalogue_tells_cards_from_tenants_prices(
    timeline: RateCardTimeline, follower: CatalogueFollower, log: CatalogueLog
) -> None:
    """Own prices, their end, and what was withdrawn, each by its version; withdrawals have no place of their own."""
    later_ms = timeline.entries()[0].publish_time_ms + 60_000
    yaml = "billing: {markup_basis_points: -500}"
    prices = tenant_prices_to_publish(parse_tenant_prices(yaml), yaml)
    own, _ = timeline.put_tenant_prices(
        "acme", prices, currency=None, author="tester", effective_time_ms=later_ms
    )
    end = timeline.remove_tenant_prices("acme", author="tester")
    timeline.withdraw(end.version, author="tester")
    follower.refresh()

    catalogue = json.loads(log.catalogues[-1])
    assert [entry["version"] for entry in catalogue["timeline"]] == [1]
    assert catalogue["tenant_prices"] == [
        {
            "version": 2,
            "effective_time_ms": later_ms,
            "tenant": "acme",
            "tenant_prices_id": own.tenant_prices_id,
            "withdrawn": False,
        },
        {
            "version": 3,
            "effective_time_ms": later_ms + 1,
            "tenant": "acme",
            "tenant_prices_id": None,
            "withdrawn": True,
        },
    ]
    assert catalogue["tenant_price_documents"] == {
        own.tenant_prices_id: {"format": 1, "markup_basis_points": -500}
    }
    assert (follower.timeline_version, follower.currency_code) == (4, "USD")


def test_unchanged_store_confirms(
    timeline: RateCardTimeline, follower: CatalogueFollower, log: CatalogueLog
) -> None:
    """The same revision brings a confirmation and no new catalogue; a change brings one catalogue."""
    follower.refresh()
    follower.refresh()
    assert (len(log.catalogues), log.confirmations) == (1, 1)

    timeline.publish(
        compile_card('billing:\n  rate_card:\n    "gpt-5":\n      input: "1"\n'), author="tester"
    )
    follower.refresh()
    assert (len(log.catalogues), log.confirmations) == (2, 1)
    assert len(json.loads(log.catalogues[-1])["rate_cards"]) == 2


def test_store_that_is_away_confirms_nothing(
    embedded_store: EmbeddedStore, follower: CatalogueFollower, log: CatalogueLog
) -> None:
    """Without the store's word the engine hears nothing, so that it stops pricing by itself."""
    follower.refresh()
    embedded_store.stop()

    with pytest.raises(StoreUnavailableError):
        follower.refresh()
    assert log.confirmations == 0


def test_change_elsewhere_is_followed_within_a_second(
    documents: DocumentStore, clock: StoppedClock, follower: CatalogueFollower, log: CatalogueLog
) -> None:
    """A follower brings a change of another instance without being asked."""
    stop = threading.Event()
    thread = threading.Thread(target=follower.run, args=(stop,))
    thread.start()
    try:
        time.sleep(2 * POLL_INTERVAL_MS / 1000)
        key, _ = Keys(documents, clock).create(role="admin", tenants=(), note="", expire_time_ms=None)
        deadline = time.monotonic() + 1
        while key.key_id.encode() not in b"".join(log.catalogues) and time.monotonic() < deadline:
            time.sleep(0.01)
    finally:
        stop.set()
        thread.join()

    assert key.key_id.encode() in log.catalogues[-1]
