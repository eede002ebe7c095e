# SPDX-License-Identifier: Apache-2.0
"""Withdrawing what is still to come: an entry of its own, in time, and then as if the other had never been."""

import time
from pathlib import Path

import pytest
from server.test_rate_card_timeline import card

from taximeter_server.published_card import compile_card
from taximeter_server.rate_card_errors import (
    RateCardVersionConflictError,
    TimelineEntryUnknownError,
    WithdrawTooLateError,
)
from taximeter_server.rate_card_snapshots import RateCardSnapshots
from taximeter_server.rate_card_timeline import LEAD_MS, RateCardTimeline
from taximeter_server.store import DocumentStore
from taximeter_server.timeline_entry import EntryKind, entry_in_force, parse_timeline

LATER_MS = 10 * LEAD_MS


@pytest.fixture
def timeline(documents: DocumentStore, tmp_path: Path) -> RateCardTimeline:
    """A timeline with one card in force."""
    timeline = RateCardTimeline(documents, RateCardSnapshots(tmp_path / "cards"))
    timeline.ensure_first(card(1))
    return timeline


def publish_later(timeline: RateCardTimeline, documents: DocumentStore, price: int) -> tuple[int, int]:
    """Publish a card that is still far away. Returns its version and when it takes force."""
    effective_time_ms = documents.time_ms() + LATER_MS
    entry, _ = timeline.publish(
        compile_card(card(price)), author="tester", effective_time_ms=effective_time_ms
    )
    return entry.version, effective_time_ms


def test_withdrawn_card_never_takes_force(timeline: RateCardTimeline, documents: DocumentStore) -> None:
    """A withdrawal is the next entry of the chain, and the card before stays in force."""
    version, effective_time_ms = publish_later(timeline, documents, 2)
    withdrawal, created = timeline.withdraw(version, author="tester", expected_version=2, note="typo")
    first, second, third = timeline.entries()

    assert created
    assert withdrawal == third
    assert (third.version, third.kind, third.withdrawn_version) == (3, EntryKind.WITHDRAWAL, version)
    assert (third.effective_time_ms, third.author, third.note) == (effective_time_ms, "tester", "typo")
    assert second.version == version
    assert entry_in_force(timeline.entries(), effective_time_ms) == first
    assert parse_timeline(documents.timeline()) == (first, second, third)


def test_withdrawing_twice_is_withdrawing_once(timeline: RateCardTimeline, documents: DocumentStore) -> None:
    """A retry is answered with the first withdrawal, also when it compares versions."""
    version, _ = publish_later(timeline, documents, 2)
    first = timeline.withdraw(version, author="tester", expected_version=2)

    assert timeline.withdraw(version, author="other", expected_version=2) == (first[0], False)
    assert len(timeline.entries()) == 3


def test_what_may_have_priced_usage_stays(timeline: RateCardTimeline, documents: DocumentStore) -> None:
    """In force, less than 5 s away, a withdrawal, or never published: each is refused, and nothing changes."""
    soon, _ = timeline.publish(compile_card(card(2)), author="tester")
    while documents.time_ms() == soon.publish_time_ms:
        time.sleep(0.001)
    later, _ = publish_later(timeline, documents, 3)
    withdrawal, _ = timeline.withdraw(later, author="tester")
    before = timeline.entries()

    for version, problem in (
        (1, "is in force"),
        (soon.version, "less than 5 s"),
        (withdrawal.version, "itself"),
    ):
        with pytest.raises(WithdrawTooLateError, match=problem):
            timeline.withdraw(version, author="tester")
    for version in (-1, 0, len(before) + 1):
        with pytest.raises(TimelineEntryUnknownError, match=f"no entry {version}"):
            timeline.withdraw(version, author="tester")
    assert timeline.entries() == before


def test_withdrawing_compares_versions(timeline: RateCardTimeline, documents: DocumentStore) -> None:
    """An author who has not seen the newest entry withdraws nothing."""
    version, _ = publish_later(timeline, documents, 2)

    with pytest.raises(RateCardVersionConflictError) as caught:
        timeline.withdraw(version, author="tester", expected_version=1)
    assert caught.value.current_version == 2


def test_another_card_takes_the_place_of_a_withdrawn_one(
    timeline: RateCardTimeline, documents: DocumentStore
) -> None:
    """Once the later card is withdrawn an earlier one can be published, and the same content is new again."""
    version, effective_time_ms = publish_later(timeline, documents, 2)
    timeline.withdraw(version, author="tester")
    earlier, _ = timeline.publish(compile_card(card(3)), author="tester")
    again, created = timeline.publish(
        compile_card(card(2)), author="tester", effective_time_ms=effective_time_ms
    )
    entries = timeline.entries()

    assert created
    assert earlier.effective_time_ms < effective_time_ms
    assert entry_in_force(entries, effective_time_ms - 1) == earlier
    assert entry_in_force(entries, effective_time_ms) == again


def test_first_card_for_all_times_when_later_ones_are_withdrawn(
    timeline: RateCardTimeline, documents: DocumentStore
) -> None:
    """What lies before every entry has the first card, whatever was withdrawn."""
    version, _ = publish_later(timeline, documents, 2)
    timeline.withdraw(version, author="tester")

    assert entry_in_force(timeline.entries(), -1) == timeline.entries()[0]
