# SPDX-License-Identifier: Apache-2.0
"""The cap on sets of attributes when the store is away, or loses what it had."""

from pathlib import Path

from faults.recorder import Recorder, partition_key

from harness.load import COMMITTED, JOURNALED
from harness.store_process import StoreProcess

SETS_MAX = 3


def streamed(recorder: Recorder) -> list[bytes]:
    """Return what the stream has, in the order of its bytes."""
    entries = recorder.store.client().xrange(partition_key())
    return sorted(fields[b"e"] for _, fields in entries)


def test_replay_gives_the_entry_that_was_acknowledged(tmp_path: Path, store: StoreProcess) -> None:
    """A store that loses everything is given back every entry byte for byte, capped or not, and retries match it."""
    recorder = Recorder(tmp_path, store, attribute_sets_max=SETS_MAX).open()
    before_bytes = store.file_size_bytes()
    warned = [bool(recorder.record(number, flow=f"v{number}").warnings) for number in range(SETS_MAX + 4)]
    entries = streamed(recorder)
    recorder.close()
    recorder.restart_store(size_bytes=before_bytes)
    recorder.open()

    assert warned == [False] * SETS_MAX + [True] * 4
    assert streamed(recorder) == entries
    # The store has lost the list, too, so a retry is asked about anew; what was acknowledged stands all the same.
    for number in reversed(range(SETS_MAX + 4)):
        again = recorder.record(number, flow=f"v{number}")
        assert again.duplicate
        assert bool(again.warnings) == warned[number]
    assert streamed(recorder) == entries
    recorder.close()
    recorder.restart_store(size_bytes=before_bytes)
    recorder.open()
    assert streamed(recorder) == entries
    recorder.close()


def test_records_are_accepted_while_nobody_can_ask(tmp_path: Path, store: StoreProcess) -> None:
    """While the store is away new sets are accepted as they are; what is known to be too much still counts so."""
    recorder = Recorder(tmp_path, store, attribute_sets_max=1).open()
    answers = [recorder.record(number, flow=f"v{number}") for number in range(2)]
    store.freeze()
    away = [recorder.record(number, flow=f"v{number % 3}") for number in range(2, 5)]
    store.thaw()
    recorder.wait_until_settled()
    entries = streamed(recorder)

    assert [answer.durability for answer in (*answers, *away)] == [COMMITTED] * 2 + [JOURNALED] * 3
    assert [bool(answer.warnings) for answer in answers] == [False, True]
    assert [bool(answer.warnings) for answer in away] == [False, False, True]
    assert [sum(value in entry for entry in entries) for value in (b"v0", b"v1", b"v2", b"__other__")] == [
        2,
        0,
        1,
        2,
    ]
    again = recorder.record(2, flow="v2")
    assert (again.duplicate, bool(again.warnings)) == (True, False)
    recorder.close()
