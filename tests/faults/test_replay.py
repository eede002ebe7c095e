# SPDX-License-Identifier: Apache-2.0
"""What the store loses is given back exactly once, whatever was cut when and however often."""

import os
import signal

import pyarrow as pa
import pytest
from faults.recorder import Recorder

from harness.load import COMMITTED, JOURNALED
from taximeter_server import archiver
from taximeter_server.ledger_directory import LedgerDirectory

BATCH = 100
"""Entries that are given back in one script call."""


def check_counts(recorder: Recorder, count: int) -> None:
    """Report and quota must both say count."""
    assert (recorder.counted(), recorder.used_tokens()) == (count, count)


def test_record_applied_after_its_timeout_survives_a_later_cut(recorder: Recorder) -> None:
    """A record answered with JOURNALED is not lost when the store had applied it all the same and then loses it."""
    before_bytes = recorder.store.file_size_bytes()
    recorder.store.freeze()
    assert recorder.record(1).durability == JOURNALED
    recorder.store.thaw()
    recorder.wait_until_settled()
    assert recorder.counted() == 1

    recorder.restart_store(size_bytes=before_bytes)
    assert recorder.record(2).durability in {COMMITTED, JOURNALED}
    recorder.wait_until_settled()
    check_counts(recorder, 2)


def test_replay_that_was_cut_off_is_found_by_the_next_one(recorder: Recorder) -> None:
    """A replay whose notes were lost with the server is noted by the next, so that a cut of the replay is seen."""
    before_bytes = recorder.store.file_size_bytes()
    for number in range(BATCH + 50):
        recorder.record(number)
    recorder.close()
    restore_journal = recorder.save_journal()

    recorder.restart_store(size_bytes=before_bytes)
    opened_bytes = recorder.store.file_size_bytes()
    recorder.open()
    recorder.close()
    # As if the server had been killed after the store had everything again, before it noted that.
    restore_journal()
    recorder.open()
    recorder.close()

    # Of the two batches given back, the second is cut off.
    grown_bytes = recorder.store.file_size_bytes() - opened_bytes
    recorder.restart_store(size_bytes=opened_bytes + grown_bytes * 9 // 10)
    recorder.open()
    check_counts(recorder, BATCH + 50)


def test_marks_of_archived_records_survive_two_cuts(recorder: Recorder) -> None:
    """Marks and quotas of archived records, once given back, are given back again when the store loses them again."""
    before_bytes = recorder.store.file_size_bytes()
    for number in range(20):
        recorder.record(number)
    recorder.archiver().run_once()
    recorder.close()
    recorder.restart_store(size_bytes=before_bytes)
    opened_bytes = recorder.store.file_size_bytes()
    recorder.open()
    check_counts(recorder, 20)
    recorder.close()

    grown_bytes = recorder.store.file_size_bytes() - opened_bytes
    for tenths in (9, 8, 7, 6, 5):
        recorder.restart_store(size_bytes=opened_bytes + grown_bytes * tenths // 10)
        recorder.open()
        check_counts(recorder, 20)
        assert all(recorder.record(number).duplicate for number in range(20)), tenths
        recorder.close()
    recorder.open()
    check_counts(recorder, 20)


def test_archived_record_that_was_never_journaled_is_not_doubled(recorder: Recorder) -> None:
    """A record that was archived before its journal note was written stays one when the store loses it."""
    before_bytes = recorder.store.file_size_bytes()
    recorder.close()
    restore_journal = recorder.save_journal()
    recorder.open()
    recorder.record(1)
    recorder.close()
    # As if the server had been killed between the store and the journal.
    restore_journal()
    recorder.open()
    recorder.archiver().run_once()

    recorder.close()
    recorder.restart_store(size_bytes=before_bytes)
    recorder.open()
    recorder.record(1)
    check_counts(recorder, 1)


class _LosingDirectory(LedgerDirectory):
    """Loses the store while the archiver writes what it has read."""

    def __init__(self, recorder: Recorder, size_bytes: int) -> None:
        super().__init__(recorder.ledger.path)
        self._recorder = recorder
        self._size_bytes = size_bytes
        self.losses = 0

    def write_file(self, name: str, rows: pa.Table) -> int:
        """Write, then kill and cut the store, and go on when it is back."""
        written = super().write_file(name, rows)
        if self.losses == 0:
            self.losses = 1
            self._recorder.restart_store(size_bytes=self._size_bytes)
            self._recorder.record(2)
            self._recorder.wait_until_settled()
        return written


def test_store_lost_while_archiving_doubles_nothing(recorder: Recorder) -> None:
    """Records that were given back while the archiver wrote them to a file are counted once."""
    before_bytes = recorder.store.file_size_bytes()
    recorder.record(1)
    losing = _LosingDirectory(recorder, before_bytes)
    archiver = recorder.archiver(losing)
    try:
        archiver.run_once()
    except Exception:  # noqa: BLE001 (as the archiver's loop does: failed, and tried again)
        assert losing.losses
    archiver.run_once()
    assert losing.losses
    check_counts(recorder, 2)


def test_archiving_a_part_of_what_was_given_back(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of records given back under new ids only those are taken for archived that were archived under them."""
    before_bytes = recorder.store.file_size_bytes()
    for number in range(3):
        recorder.record(number)
    recorder.close()
    recorder.restart_store(size_bytes=before_bytes)
    recorder.open()
    monkeypatch.setattr(archiver, "ROUNDS_MAX", 1)
    assert recorder.archiver(round_entries_max=1).run_once().entry_count == 1

    recorder.close()
    recorder.restart_store(size_bytes=before_bytes)
    recorder.open()
    check_counts(recorder, 3)


@pytest.mark.parametrize("is_archived", [False, True], ids=["streamed", "archived"])
def test_losses_in_a_row_do_not_pile_up(recorder: Recorder, *, is_archived: bool) -> None:
    """Each loss notes what it gave back once more at most, however often that has been lost before."""
    count, loss_count = 50, 8
    before_bytes = recorder.store.file_size_bytes()
    for number in range(count):
        recorder.record(number)
    if is_archived:
        recorder.archiver().run_once()
    size_bytes = recorder.journal_size_bytes()
    for _ in range(loss_count):
        recorder.close()
        recorder.restart_store(size_bytes=before_bytes)
        recorder.open()
        check_counts(recorder, count)
    recorder.close()
    # A note that a partition was given back weighs some bytes, too.
    assert recorder.journal_size_bytes() < size_bytes * (loss_count + 1) + 20_000


def test_frozen_store_is_no_loss(recorder: Recorder) -> None:
    """A store that only paused is opened again without giving anything back twice."""
    for number in range(5):
        recorder.record(number)
    os.kill(recorder.store.pid, signal.SIGSTOP)
    assert recorder.record(5).durability == JOURNALED
    os.kill(recorder.store.pid, signal.SIGCONT)
    recorder.wait_until_settled()
    check_counts(recorder, 6)
