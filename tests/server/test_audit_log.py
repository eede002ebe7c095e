# SPDX-License-Identifier: Apache-2.0
"""The audit log: one chain, one copy, and not one byte of either that changes unnoticed."""

import importlib.resources
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis

from taximeter_server.audit_copies import AuditCopies
from taximeter_server.audit_entries import AuditEntries
from taximeter_server.audit_entry import AuditEntry, AuditKind
from taximeter_server.audit_log import AuditLog
from taximeter_server.audit_segments import AuditSegments
from taximeter_server.audit_verification import AuditVerifier
from taximeter_server.document_changes import DocumentChange, document_sha256
from taximeter_server.embedded_store import EmbeddedStore
from taximeter_server.errors import StoreCorruptError, StoreUnavailableError
from taximeter_server.rate_card_snapshots import RateCardSnapshots
from taximeter_server.rate_card_timeline import RateCardTimeline
from taximeter_server.store import DocumentStore
from taximeter_server.store_names import AUDIT, AUDIT_ARCHIVED, KEYS, TENANTS

SEGMENT_ENTRIES = 4

DRAFT = AuditEntry(
    kind=AuditKind.INTENT,
    actor="admin1",
    method="/taximeter.v1.TenantService/PutTenant",
    target="tenant.name=acme",
    tenants=("acme",),
    peer="192.0.2.1:50000",
    request_sha256="00" * 32,
)


class Audited:
    """A store with its log, and changes of tenants that go through it."""

    def __init__(self, documents: DocumentStore, url: str, folder: Path) -> None:
        self.documents = documents
        self.client: Any = redis.Redis.from_url(url)
        self.folder = folder
        self.copies = AuditCopies(folder)
        self.segments = AuditSegments(folder / "archive", segment_entries=SEGMENT_ENTRIES)
        self._entries = AuditEntries(documents.audit, self.segments)
        self.log = AuditLog(documents, self._entries, self.copies)

    def put_tenant(self, name: str, document: str) -> None:
        """Put a document as an audited call does."""
        intent = self.log.begin(replace(DRAFT, target=f"tenant.name={name}", tenants=(name,)))
        changes: list[DocumentChange] = []
        with self.documents.changes.collected(changes):
            self.documents.put_tenants([(name, document, "", 0)])
        self.log.end(replace(intent, outcome="OK"), changes)

    def differences(self) -> list[str]:
        """Verify and return what differs, place and message in one text."""
        found = AuditVerifier(self.documents, self._entries, self.copies, sleep=lambda _: None).verify()
        return [f"{difference.place}: {difference.message}" for difference in found.differences]

    def entries(self) -> list[AuditEntry]:
        """All entries, oldest first."""
        return list(self.log.entries_before(self.log.length() + 1))[::-1]


@pytest.fixture
def audited(documents: DocumentStore, embedded_store: EmbeddedStore, tmp_path: Path) -> Audited:
    """A log with two changes of one tenant."""
    found = Audited(documents, embedded_store.url, tmp_path / "audit")
    found.put_tenant("acme", '{"limit": 1}')
    found.put_tenant("acme", '{"limit": 2}')
    return found


def test_a_change_has_an_intent_and_an_outcome(audited: Audited) -> None:
    """Who, what, on what, from where and with what result; before and after of the document, by the store's clock."""
    first, second, third, fourth = audited.entries()
    one, two = document_sha256('{"limit": 1}'), document_sha256('{"limit": 2}')

    assert [entry.kind.value for entry in (first, second, third, fourth)] == ["intent", "outcome"] * 2
    assert first.call_id == second.call_id != third.call_id == fourth.call_id
    assert (fourth.actor, fourth.method, fourth.peer, fourth.tenants, fourth.outcome) == (
        "admin1",
        DRAFT.method,
        DRAFT.peer,
        ("acme",),
        "OK",
    )
    assert second.changes == (DocumentChange("tenants/acme", "", one),)
    assert fourth.changes == (DocumentChange("tenants/acme", one, two),)
    assert first.time_ms <= fourth.time_ms <= audited.documents.time_ms()
    assert audited.differences() == []


def test_an_intent_comes_first_or_nothing_happens(audited: Audited, embedded_store: EmbeddedStore) -> None:
    """Without a store there is no intent, and so no call."""
    embedded_store.stop()

    with pytest.raises(StoreUnavailableError):
        audited.log.begin(DRAFT)


def test_a_call_that_died_stays_open(audited: Audited) -> None:
    """An intent without an outcome is open, and excuses a document that the log does not know."""
    intent = audited.log.begin(DRAFT)
    audited.documents.put_tenants([("acme", '{"limit": 3}', "", 0)])

    assert audited.log.open_sequences() == {intent.sequence}
    assert audited.differences() == []


def test_copies_are_made_up_for(audited: Audited) -> None:
    """A server that was killed before it wrote a copy writes it at its next start."""
    (copy,) = audited.folder.glob("*.jsonl")
    lines = copy.read_bytes().splitlines(keepends=True)
    # Killed before the last line, and within the one before.
    copy.write_bytes(b"".join(lines[:-2]) + lines[-2][:20])
    before = audited.differences()
    audited.log.keep_copies()

    assert before == [f"the copies beside the ledger: entry {number} is missing" for number in (3, 4)]
    assert audited.differences() == []


def flipped(content: bytes, position: int) -> bytes:
    """Return content with one bit of one byte changed."""
    return content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :]


def test_one_changed_byte_anywhere_is_found(audited: Audited) -> None:
    """Every single byte of an entry in the store, and of its copy, is noticed when it changes."""
    entry = audited.client.lindex(AUDIT, 1)
    (copy,) = audited.folder.glob("*.jsonl")
    copied = copy.read_bytes()
    start = copied.index(b"\n") + 1
    unnoticed = []
    for position in range(0, len(entry), 7):
        audited.client.lset(AUDIT, 1, flipped(entry, position))
        unnoticed += [("store", position)] if not audited.differences() else []
    audited.client.lset(AUDIT, 1, entry)
    for position in range(start, start + len(entry), 7):
        copy.write_bytes(flipped(copied, position))
        unnoticed += [("copy", position)] if not audited.differences() else []
    copy.write_bytes(copied)

    assert unnoticed == []
    assert audited.differences() == []


Tampering = Callable[[Audited], object]


def rewrite(audited: Audited) -> None:
    """Forge the last entry with a hash that fits."""
    before, last = audited.entries()[-2:]
    forged = replace(last, actor="nobody").chained(before.chain_hash)
    audited.client.lset(AUDIT, -1, forged.to_json())


@pytest.mark.parametrize(
    ("tamper", "place"),
    [
        (lambda found: found.client.rpop(AUDIT), "the log in the store ends with entry 3"),
        (lambda found: found.client.lpop(AUDIT), "is not as it was written"),
        (rewrite, "differs from the store"),
        (lambda found: found.client.hset(TENANTS, "acme", "{}"), "tenants/acme: is not what the log says"),
        (lambda found: found.client.hdel(TENANTS, "acme"), "acme: is not what the log says"),
        (
            lambda found: found.client.hset(TENANTS, "evil", "{}"),
            "tenants/evil: no entry of the log names it",
        ),
        (lambda found: found.client.hset(KEYS, "evil", "{}"), "keys/evil: no entry of the log names it"),
        (lambda found: shutil.rmtree(found.folder), "entry 4 is missing"),
    ],
)
def test_what_went_past_the_server_is_found(audited: Audited, tamper: Tampering, place: str) -> None:
    """Entries cut off or forged, and documents changed behind the log's back, are named."""
    tamper(audited)

    assert place in "\n".join(audited.differences())


def test_the_timeline_is_in_the_chain(audited: Audited, tmp_path: Path) -> None:
    """Each entry seals in the newest hash of the rate cards, so a timeline rewritten as a whole shows."""
    timeline = RateCardTimeline(audited.documents, RateCardSnapshots(tmp_path / "cards"))
    card = importlib.resources.files("taximeter_server") / "default_rate_card.yaml"
    with audited.log.own_call("publish"):
        timeline.ensure_first(card.read_text(encoding="utf-8"))
    sealed = audited.entries()[-1]
    (entry,) = timeline.entries()
    good = audited.differences()
    forged = replace(entry, note="another").chained("")
    audited.client.lset("{tx:cfg}:timeline", -1, forged.to_json())

    assert (sealed.timeline_version, sealed.timeline_hash) == (entry.version, entry.chain_hash)
    assert good == []
    assert "is not the one seen then" in "\n".join(audited.differences())


def test_documents_are_one_line_of_json(audited: Audited) -> None:
    """A copy can be read by any tool, entry by entry."""
    (copy,) = audited.folder.glob("*.jsonl")

    assert [json.loads(line)["sequence"] for line in copy.read_text().splitlines()] == [1, 2, 3, 4]
    assert copy.stat().st_mode & 0o077 == 0


@pytest.fixture
def archived(audited: Audited) -> Audited:
    """A log of 13 entries, of which two segments are archived."""
    for limit in range(4):
        audited.put_tenant("acme", f'{{"limit": {limit}}}')
    audited.log.begin(DRAFT)
    audited.log.archive()
    return audited


def test_old_entries_leave_the_store_and_stay_in_the_chain(archived: Audited) -> None:
    """The store keeps the newest entries; all are listed, counted and proven, and the next follows the last."""
    archived.put_tenant("other", "{}")

    assert archived.documents.audit.lengths() == (8, 15)
    assert archived.client.llen(AUDIT) == 7
    assert [entry.sequence for entry in archived.entries()] == list(range(1, 16))
    assert [entry.sequence for entry in archived.log.entries_before(7)] == [6, 5, 4, 3, 2, 1]
    assert archived.log.open_sequences() == {13}
    assert archived.differences() == []
    assert all(path.stat().st_mode & 0o077 == 0 for path in archived.folder.rglob("*"))


def test_a_kill_while_archiving_repeats_nothing(archived: Audited) -> None:
    """A segment whose entries the store still has is written once; two servers that archive forget once."""
    before = [entry.to_json() for entry in archived.entries()]
    archived.client.set(AUDIT_ARCHIVED, 4)
    archived.client.lpush(AUDIT, *[document.encode() for document in reversed(before[4:8])])
    archived.log.archive()
    archived.documents.audit.forget(4, SEGMENT_ENTRIES)

    assert archived.documents.audit.lengths() == (8, 13)
    assert [entry.to_json() for entry in archived.entries()] == before
    assert archived.differences() == []


@pytest.mark.parametrize("number", [0, 1])
def test_one_changed_byte_of_a_segment_is_found(number: int, archived: Audited) -> None:
    """Every byte of an archived entry is noticed when it changes, and so is a segment that is gone."""
    segment = sorted((archived.folder / "archive").iterdir())[number]
    content = segment.read_bytes()
    unnoticed = []
    for position in range(0, len(content), 97):
        segment.write_bytes(flipped(content, position))
        unnoticed += [position] if not archived.differences() else []
    segment.unlink()

    assert unnoticed == []
    assert f"{segment}:1: cannot be read" in archived.differences()
    with pytest.raises(StoreCorruptError):
        archived.entries()
