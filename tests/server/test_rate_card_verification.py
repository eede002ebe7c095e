# SPDX-License-Identifier: Apache-2.0
"""Verification: one changed byte anywhere in the timeline, in the store or beside the ledger, is found and named."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis
from server.test_rate_card_timeline import card

from taximeter_server import rate_card_verification
from taximeter_server.embedded_store import EmbeddedStore
from taximeter_server.published_card import compile_card, tenant_prices_to_publish
from taximeter_server.rate_card_snapshots import RateCardSnapshots
from taximeter_server.rate_card_timeline import RateCardTimeline
from taximeter_server.rate_card_verification import Difference, RateCardVerifier
from taximeter_server.store import DocumentStore
from taximeter_server.store_names import RATE_CARDS, TIMELINE
from taximeter_server.tenant_prices import parse_tenant_prices
from taximeter_server.timeline_entry import TimelineEntry


class Kept:
    """A timeline with every kind of entry, and everything that was kept of it."""

    def __init__(self, documents: DocumentStore, store_url: str, folder: Path) -> None:
        snapshots = RateCardSnapshots(folder)
        self.folder = folder
        self.client: Any = redis.Redis.from_url(store_url)
        self.verifier = RateCardVerifier(documents, snapshots)
        timeline = RateCardTimeline(documents, snapshots)
        timeline.ensure_first(f"# prices\n{card(1)}")
        timeline.publish(compile_card(card(2)), author="tester", note="Grüße")
        later_ms = documents.time_ms() + 60_000
        entry, _ = timeline.publish(compile_card(card(3)), author="tester", effective_time_ms=later_ms)
        timeline.withdraw(entry.version, author="tester")
        own_yaml = "billing: {markup_basis_points: -500} # a tenth"
        own = tenant_prices_to_publish(parse_tenant_prices(own_yaml), own_yaml)
        timeline.put_tenant_prices("acme", own, currency=None, author="tester")
        timeline.remove_tenant_prices("acme", author="tester")
        self.entries = timeline.entries()

    def differences(self) -> list[Difference]:
        """Verify."""
        return self.verifier.verify().differences

    def flip_everywhere(self, content: bytes, write: Callable[[bytes], object], step: int) -> list[int]:
        """Change every step-th byte in turn. Returns where nobody noticed."""
        silent = []
        for place in range(0, len(content), step):
            write(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
            if not self.differences():
                silent.append(place)
        write(content)
        return silent


@pytest.fixture
def kept(
    documents: DocumentStore, embedded_store: EmbeddedStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Kept:
    """Everything as it was published."""
    # Nothing is being published beside these tests, so what differs need not be looked at again.
    monkeypatch.setattr(rate_card_verification, "WALKS_MAX", 1)
    return Kept(documents, embedded_store.url, tmp_path / "cards")


def test_untouched_timeline_is_as_published(kept: Kept) -> None:
    """Nothing differs, and the answer says how much was looked at."""
    found = kept.verifier.verify()

    assert found.differences == []
    # Three cards and one tenant's prices, two files each, and a file of each entry.
    assert (found.entry_count, found.document_count, found.file_count) == (6, 4, 14)
    assert found.chain_hash == kept.entries[-1].chain_hash


def test_every_byte_of_an_entry_counts(kept: Kept) -> None:
    """No byte of an entry in the store can change unnoticed, whatever kind of entry it is."""
    for position, document in enumerate(kept.client.lrange(TIMELINE, 0, -1)):
        write = partial(kept.client.lset, TIMELINE, position)
        assert kept.flip_everywhere(document, write, 1 if position == 1 else 7) == []
    assert kept.differences() == []


def test_every_byte_of_a_card_counts(kept: Kept) -> None:
    """No byte of a card in the store can change unnoticed: source, canonical form, and what is around them."""
    for rate_card_id, document in kept.client.hgetall(RATE_CARDS).items():
        write = partial(kept.client.hset, RATE_CARDS, rate_card_id)
        assert kept.flip_everywhere(document, write, 3) == []
    assert kept.differences() == []


def test_every_byte_of_a_file_counts(kept: Kept) -> None:
    """No byte of a file beside the ledger can change unnoticed."""
    for file in sorted(kept.folder.iterdir()):
        assert kept.flip_everywhere(file.read_bytes(), file.write_bytes, 5) == []
    assert kept.differences() == []


def test_a_difference_names_entry_and_field(kept: Kept) -> None:
    """An entry that was changed is named with the field, its value, and the value in its copy."""
    document = json.loads(kept.client.lindex(TIMELINE, 1))
    kept.client.lset(TIMELINE, 1, json.dumps({**document, "note": "Grusse"}, sort_keys=True))

    entry, copy = kept.differences()
    assert (entry.version, entry.place) == (2, "{tx:cfg}:timeline[1]")
    assert "note is 'Grusse' here and 'Grüße' in its copy" in entry.message
    assert (copy.version, copy.place) == (2, str(kept.folder / "timeline-00000002.json"))
    assert "differs from the store from byte" in copy.message


def test_a_difference_names_the_card(kept: Kept) -> None:
    """A source text that was changed where it means nothing is named all the same."""
    rate_card_id = kept.entries[0].rate_card_id
    document = json.loads(kept.client.hget(RATE_CARDS, rate_card_id))
    document["yaml"] = document["yaml"].replace("# prices", "# Prices")
    kept.client.hset(RATE_CARDS, rate_card_id, json.dumps(document))

    card_difference, file_difference = kept.differences()
    assert card_difference == Difference(
        1, rate_card_id, f"{RATE_CARDS}[{rate_card_id}]", "its YAML is not the one that was published"
    )
    assert file_difference.place.endswith(f"{rate_card_id}.yaml")


def test_what_is_missing_or_too_much_is_named(kept: Kept) -> None:
    """A removed file, an end that was cut off, a card that nobody published, a card under another name."""
    kept.folder.joinpath("timeline-00000003.json").unlink()
    assert [(d.version, d.message) for d in kept.differences()] == [(3, "missing")]
    kept.folder.joinpath("timeline-00000003.json").write_bytes(kept.client.lindex(TIMELINE, 2))

    last = kept.client.rpop(TIMELINE)
    (cut,) = kept.differences()
    assert cut.place.endswith("timeline-00000006.json")
    assert "ends with version 5" in cut.message
    kept.client.rpush(TIMELINE, last)

    kept.client.hset(RATE_CARDS, "ab" * 32, "{}")
    assert [(d.document_id, d.message) for d in kept.differences()] == [("ab" * 32, "no entry names it")]
    kept.client.hdel(RATE_CARDS, "ab" * 32)

    assert kept.differences() == []


def test_reordered_entries_are_named(kept: Kept) -> None:
    """Two entries that changed places are both named."""
    second, third = kept.client.lrange(TIMELINE, 1, 2)
    kept.client.lset(TIMELINE, 1, third)
    kept.client.lset(TIMELINE, 2, second)

    messages = [d.message for d in kept.differences() if d.place.startswith(TIMELINE)]
    assert messages[:2] == ["says that it is version 3", "says that it is version 2"]


def test_a_rewritten_chain_differs_from_its_copies(kept: Kept) -> None:
    """Somebody who seals a changed entry, and all after it, anew in the store is found by the files."""
    documents = [json.loads(document) for document in kept.client.lrange(TIMELINE, 0, -1)]
    documents[1]["effective_time_ms"] += 1
    previous_hash = ""
    for position, document in enumerate(documents):
        entry = TimelineEntry.from_json(json.dumps(document)).chained(previous_hash)
        previous_hash = entry.chain_hash
        kept.client.lset(TIMELINE, position, entry.to_json())

    assert [d.version for d in kept.differences()] == [2, 3, 4, 5, 6]
