# SPDX-License-Identifier: Apache-2.0
"""What a store loses of credits is given back as it was, whatever has expired meanwhile."""

import json

from faults.recorder import Recorder
from quota.engine_calls import INPUT_PICOS, catalogue, record
from surface.forward_probe import wait_until

from harness.ledger_rows import rows_of_partition
from harness.load import JOURNALED
from taximeter_server.credit_grant import ALLOW, AccountSettings, Grant
from taximeter_server.credits import AccountStatus, Credits
from taximeter_server.document_changes import DocumentChanges
from taximeter_server.ledger import partition_of

ROOT = "acme"
TENANT = "acme/research"


class _NoExpiries:
    def put_expiry(self, _tenant: str, _grant_id: str, _time_ms: int) -> None:
        """The test expires what it wants."""


def credits_of(recorder: Recorder) -> Credits:
    """Return the accounts of the engine as it is open now."""
    recorder.engine.set_catalogue(catalogue())
    return Credits(recorder.engine, _NoExpiries(), DocumentChanges(), recorder.engine.store_time_ms)


def balance_of_entries(recorder: Recorder) -> int:
    """Return the sum of all moves in the stream."""
    rows = rows_of_partition(recorder.engine, partition_of(ROOT)).to_pylist()
    moves = (json.loads(row["credit_moves"] or "[]") for row in rows)
    return -sum(int(taken) for found in moves for _, taken in found)


def record_of(number: int) -> str:
    """Return the id of a record."""
    return f"credit-record-{number:06d}"


def lose(recorder: Recorder, size_bytes: int) -> AccountStatus:
    """Cut the store's file, open it again, and return the account that it has then."""
    recorder.close()
    recorder.restart_store(size_bytes=size_bytes)
    recorder.open()
    return credits_of(recorder).account(ROOT)


def history(recorder: Recorder) -> AccountStatus:
    """Let everything happen that can happen to an account. Returns it."""
    accounts = credits_of(recorder)
    accounts.put_account(ROOT, AccountSettings(picos_per_microcredit=INPUT_PICOS))
    now_ms = recorder.engine.store_time_ms()
    accounts.grant(ROOT, Grant(grant_id="short", amount_microcredits=50, expire_time_ms=now_ms + 2_000))
    accounts.grant(ROOT, Grant(grant_id="long", amount_microcredits=30))
    for number in range(10):
        record(recorder.engine, TENANT, tokens=3, record_id=record_of(number))
    wait_until(lambda: recorder.engine.store_time_ms() > now_ms + 3_000)
    accounts.expire(ROOT, "short")
    for number in range(10, 25):
        record(recorder.engine, TENANT, tokens=3, record_id=record_of(number))
    accounts.grant(ROOT, Grant(grant_id="late", amount_microcredits=40))
    accounts.void(ROOT, "late", "a test")
    accounts.put_account(ROOT, AccountSettings(picos_per_microcredit=INPUT_PICOS, policy=ALLOW))
    for number in range(25, 30):
        record(recorder.engine, TENANT, tokens=3, record_id=record_of(number))
    return accounts.account(ROOT)


def test_an_account_that_was_lost_comes_back(recorder: Recorder) -> None:
    """Wherever the file is cut, balance, grants and entries are what they were, and duplicates stay duplicates."""
    before_bytes = recorder.store.file_size_bytes()
    before = history(recorder)
    # 30 of the short one, which then expired; all of the long one; 15 owed, which the late one paid.
    assert (before.used_microcredits, before.balance_microcredits) == (90, -15)
    assert balance_of_entries(recorder) == -15
    grown_bytes = recorder.store.file_size_bytes() - before_bytes
    for tenths in (9, 7, 4, 2, 0):
        assert lose(recorder, before_bytes + grown_bytes * tenths // 10) == before, tenths
        assert balance_of_entries(recorder) == -15, tenths
        grown_bytes = recorder.store.file_size_bytes() - before_bytes
    again = record(recorder.engine, TENANT, tokens=3, record_id=record_of(29))
    assert (again.duplicate, again.credit_microcredits, again.overdrawn_microcredits) == (True, 3, 3)
    assert credits_of(recorder).account(ROOT) == before


def test_archived_debits_come_back_as_the_files_have_them(recorder: Recorder) -> None:
    """Debits that the ledger's files hold are made once more by a store that lost them, and by no other grant."""
    before_bytes = recorder.store.file_size_bytes()
    before = history(recorder)
    recorder.archiver().run_once()
    assert lose(recorder, before_bytes) == before


def test_a_record_accepted_without_the_store_is_debited_when_it_is_back(recorder: Recorder) -> None:
    """A journaled record takes its credits once, when it is applied, and not again when that is lost."""
    credits_of(recorder).put_account(ROOT, AccountSettings(picos_per_microcredit=INPUT_PICOS))
    credits_of(recorder).grant(ROOT, Grant(grant_id="all", amount_microcredits=10))
    before_bytes = recorder.store.file_size_bytes()
    recorder.store.freeze()
    answer = record(recorder.engine, TENANT, tokens=4, record_id=record_of(1))
    assert (answer.durability, answer.credit_microcredits) == (JOURNALED, 0)
    recorder.store.thaw()
    recorder.wait_until_settled()
    assert credits_of(recorder).account(ROOT).balance_microcredits == 6
    assert lose(recorder, before_bytes).balance_microcredits == 6
    assert balance_of_entries(recorder) == 6
