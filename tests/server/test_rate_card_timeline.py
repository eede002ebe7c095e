# SPDX-License-Identifier: Apache-2.0
"""The timeline: one winner, no backdating, no silent change, and the same card at the same time for everybody."""

import importlib.resources
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import redis

from taximeter_server.embedded_store import EmbeddedStore
from taximeter_server.errors import InvalidFieldsError, StoreCorruptError
from taximeter_server.published_card import compile_card
from taximeter_server.rate_card_errors import (
    EffectiveTooSoonError,
    RateCardUnknownError,
    RateCardVersionConflictError,
)
from taximeter_server.rate_card_snapshots import RateCardSnapshots
from taximeter_server.rate_card_timeline import LEAD_MS, RateCardTimeline
from taximeter_server.store import DocumentStore
from taximeter_server.timeline_entry import entry_in_force, parse_timeline

DEFAULT_CARD = (importlib.resources.files("taximeter_server") / "default_rate_card.yaml").read_text("utf-8")


def card(price: int, currency: str = "USD") -> str:
    """Return a card whose content differs by price."""
    return f'billing:\n  currency: {currency}\n  rate_card:\n    "gpt-5":\n      input: "{price}"\n      output: "1"\n'


@pytest.fixture
def timeline(documents: DocumentStore, tmp_path: Path) -> RateCardTimeline:
    """The timeline of an empty store."""
    return RateCardTimeline(documents, RateCardSnapshots(tmp_path / "cards"))


def publish(timeline: RateCardTimeline, price: int, **settings: object) -> int:
    """Publish a card and return its version."""
    entry, _ = timeline.publish(compile_card(card(price)), author="tester", **settings)  # type: ignore[arg-type]
    return entry.version


def test_published_card_is_found_again(timeline: RateCardTimeline, documents: DocumentStore) -> None:
    """A card takes force at the earliest 5 s later and is kept as it was written."""
    before_ms = documents.time_ms()
    entry, created = timeline.publish(compile_card(card(1)), author="tester", note="why")

    assert created
    assert (entry.version, entry.author, entry.note) == (1, "tester", "why")
    assert before_ms <= entry.publish_time_ms <= documents.time_ms()
    assert entry.effective_time_ms == entry.publish_time_ms + LEAD_MS
    assert timeline.find(rate_card_id=entry.rate_card_id, time_ms=0)[1].yaml == card(1)
    assert timeline.find(rate_card_id=entry.rate_card_id[:8], time_ms=0)[0] == entry


def test_same_content_is_no_new_version(timeline: RateCardTimeline) -> None:
    """Publishing what is newest already changes nothing, also for a retry that compares versions."""
    first, _ = timeline.publish(compile_card(card(1)), author="tester", expected_version=0)
    again, created = timeline.publish(
        compile_card(f"# a comment\n{card(1)}"), author="other", expected_version=0
    )

    assert not created
    assert again == first
    assert len(timeline.entries()) == 1


def test_of_100_publishers_one_wins(timeline: RateCardTimeline) -> None:
    """Publishers that saw the same version race: exactly one wins, the others learn the newest version."""
    publish(timeline, 1)

    def race(price: int) -> tuple[str, int]:
        try:
            return "won", publish(timeline, price, expected_version=1)
        except RateCardVersionConflictError as error:
            return "lost", error.current_version

    with ThreadPoolExecutor(16) as pool:
        outcomes = list(pool.map(race, range(2, 102)))

    assert sorted(outcomes) == [("lost", 2)] * 99 + [("won", 2)]
    assert len(timeline.entries()) == 2


def test_publishers_that_do_not_compare_all_get_in(timeline: RateCardTimeline) -> None:
    """Without a version to compare every card gets its place, one after the other."""
    with ThreadPoolExecutor(8) as pool:
        versions = list(pool.map(lambda price: publish(timeline, price), range(1, 21)))

    assert sorted(versions) == list(range(1, 21))
    times_ms = [entry.effective_time_ms for entry in timeline.entries()]
    assert times_ms == sorted(set(times_ms))


@pytest.mark.parametrize("lead_ms", [-86_400_000, 0, LEAD_MS - 1])
def test_card_cannot_be_backdated(timeline: RateCardTimeline, documents: DocumentStore, lead_ms: int) -> None:
    """A card never takes force earlier than 5 s from now."""
    now_ms = documents.time_ms()
    with pytest.raises(EffectiveTooSoonError) as caught:
        publish(timeline, 1, effective_time_ms=now_ms + lead_ms)

    assert now_ms + LEAD_MS <= int(caught.value.metadata["earliest_time_ms"]) <= documents.time_ms() + LEAD_MS
    assert timeline.entries() == ()


def test_card_cannot_overtake_the_newest(timeline: RateCardTimeline, documents: DocumentStore) -> None:
    """A card takes force after the one before it."""
    later_ms = documents.time_ms() + 10 * LEAD_MS
    publish(timeline, 1, effective_time_ms=later_ms)

    with pytest.raises(EffectiveTooSoonError):
        publish(timeline, 2, effective_time_ms=later_ms)
    assert publish(timeline, 2, effective_time_ms=later_ms + 1) == 2


def test_event_time_chooses_the_card(timeline: RateCardTimeline, documents: DocumentStore) -> None:
    """The last card in force at an instant counts; the first one for all earlier times too."""
    publish(timeline, 1)
    publish(timeline, 2)
    first, second = timeline.entries()

    assert entry_in_force((), 0) is None
    assert entry_in_force([first, second], 0) == first
    assert entry_in_force([first, second], second.effective_time_ms - 1) == first
    assert entry_in_force([first, second], second.effective_time_ms) == second
    assert timeline.find(rate_card_id="", time_ms=documents.time_ms())[0] == first


def test_changed_history_is_noticed(timeline: RateCardTimeline, embedded_store: EmbeddedStore) -> None:
    """An entry that was changed, removed or reordered breaks the chain."""
    for price in (1, 2, 3):
        publish(timeline, price)
    client = redis.Redis.from_url(embedded_store.url, decode_responses=True)
    documents = [str(text) for text in client.lrange("{tx:cfg}:timeline", 0, -1)]
    changed = json.dumps({**json.loads(documents[1]), "effective_time_ms": 0})

    assert len(parse_timeline(documents)) == 3
    for forged in (
        [documents[0], changed, documents[2]],
        documents[1:],
        [documents[0], documents[2]],
        [documents[1], documents[0], documents[2]],
        [*documents, "{}"],
    ):
        with pytest.raises(StoreCorruptError):
            parse_timeline(forged)


def test_changed_card_is_noticed(timeline: RateCardTimeline, embedded_store: EmbeddedStore) -> None:
    """A card whose content is not what its id says is corruption."""
    entry, _ = timeline.publish(compile_card(card(1)), author="tester")
    client = redis.Redis.from_url(embedded_store.url, decode_responses=True)
    document = json.loads(str(client.hget("{tx:cfg}:rate_cards", entry.rate_card_id)))
    document["canonical_json"] = document["canonical_json"].replace("gpt-5", "gpt-6")
    client.hset("{tx:cfg}:rate_cards", entry.rate_card_id, json.dumps(document))

    with pytest.raises(StoreCorruptError):
        timeline.find(rate_card_id=entry.rate_card_id, time_ms=0)


def test_first_start_publishes_the_default_for_all_times(timeline: RateCardTimeline) -> None:
    """The card that comes with the server is in force from the beginning, once."""
    timeline.ensure_first(DEFAULT_CARD)
    timeline.ensure_first(card(1))
    (entry,) = timeline.entries()

    assert entry.effective_time_ms == 0
    assert timeline.card(entry.rate_card_id).yaml == DEFAULT_CARD


def test_every_card_is_kept_as_a_file_too(timeline: RateCardTimeline, tmp_path: Path) -> None:
    """A card's snapshot lies beside the ledger, and a lost one comes back at the next start."""
    timeline.ensure_first(DEFAULT_CARD)
    (entry,) = timeline.entries()
    file = tmp_path / "cards" / f"{entry.rate_card_id}.json"
    content = file.read_text()
    file.unlink()
    timeline.ensure_first(DEFAULT_CARD)

    assert file.read_text() == content == timeline.card(entry.rate_card_id).canonical_json
    assert file.with_suffix(".yaml").read_text() == DEFAULT_CARD
    assert (tmp_path / "cards" / "timeline-00000001.json").read_text() == entry.to_json()


def test_second_currency_is_refused(timeline: RateCardTimeline) -> None:
    """Amounts of one server can be added up: after the default card its currency is settled."""
    timeline.ensure_first(DEFAULT_CARD)
    timeline.publish(compile_card(card(1, "EUR")), author="tester")

    with pytest.raises(InvalidFieldsError, match="so far in EUR"):
        timeline.publish(compile_card(card(1, "USD")), author="tester")


def test_unknown_cards_are_told_apart_from_bad_questions(timeline: RateCardTimeline) -> None:
    """A prefix that is too short is a bad question; an id that nothing has is unknown."""
    with pytest.raises(RateCardUnknownError):
        timeline.find(rate_card_id="", time_ms=0)
    publish(timeline, 1)
    with pytest.raises(InvalidFieldsError):
        timeline.find(rate_card_id="abc", time_ms=0)
    with pytest.raises(RateCardUnknownError):
        timeline.find(rate_card_id="0" * 64, time_ms=0)


@pytest.mark.parametrize(
    "settings", [{"note": "x" * 1001}, {"effective_time_ms": 253_402_300_800_000}], ids=["note", "time"]
)
def test_publishing_has_limits(timeline: RateCardTimeline, settings: dict[str, object]) -> None:
    """Notes and times beyond their limits are refused."""
    with pytest.raises(InvalidFieldsError):
        publish(timeline, 1, **settings)
