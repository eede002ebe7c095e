# SPDX-License-Identifier: Apache-2.0
"""The journal: cut anywhere it yields what is whole, one process owns it, and a full disk costs no promise."""

import resource
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from faults.recorder import Recorder

from harness.load import COMMITTED
from taximeter_server._native import Engine, JournalError, RpcError

MAGIC_BYTES = 8
FRAME_HEADER_BYTES = 8
TAIL_BYTES = 4096
APPLIED = 1
RECORD_COUNT = 40


def segments(journal: Path) -> list[Path]:
    """Return the journal's files, oldest first."""
    return sorted(journal.glob("*.journal"))


def frame_ends(segment: bytes) -> Iterator[tuple[int, int]]:
    """Yield the end and the kind of every frame."""
    at = MAGIC_BYTES
    while True:
        (size, _) = struct.unpack_from("<II", segment.ljust(at + FRAME_HEADER_BYTES, b"\0"), at)
        if size == 0:
            return
        yield at + FRAME_HEADER_BYTES + size, segment[at + FRAME_HEADER_BYTES]
        at += FRAME_HEADER_BYTES + size


def forget_everything(recorder: Recorder) -> None:
    """Empty the store as if it had lost all that it ever had."""
    with recorder.store.client() as client:
        client.flushall()
        client.function_flush()


def check_cuts(recorder: Recorder, offsets: Callable[[int], range]) -> None:
    """Cut the journal at offsets of its last segment: of an empty store exactly the whole records come back."""
    for number in range(RECORD_COUNT):
        recorder.record(number)
    recorder.close()
    recorder.save_journal()
    whole = recorder.journal.with_name("journal-copy")
    segment = segments(whole)[-1].read_bytes()
    ends = [end for end, kind in frame_ends(segment) if kind == APPLIED]
    assert len(ends) == RECORD_COUNT
    for offset in offsets(ends[-1]):
        shutil.rmtree(recorder.journal)
        shutil.copytree(whole, recorder.journal)
        with segments(recorder.journal)[-1].open("r+b") as file:
            file.truncate(offset)
        forget_everything(recorder)
        recorder.open()
        kept = sum(end <= offset for end in ends)
        assert sum(recorder.streamed().values()) == kept, f"cut at {offset}"
        assert recorder.record(kept).durability == COMMITTED
        recorder.close()


def test_journal_cut_anywhere_gives_back_what_is_whole(recorder: Recorder) -> None:
    """A journal cut within its last 4 KiB opens, and loses only what is not whole."""
    check_cuts(recorder, lambda end: range(max(0, end - TAIL_BYTES), end + 1, 97))


@pytest.mark.wide
@pytest.mark.timeout(1200)
def test_journal_cut_at_every_offset(recorder: Recorder) -> None:
    """The same at every single offset."""
    check_cuts(recorder, lambda end: range(max(0, end - TAIL_BYTES), end + 1))


def test_damaged_frame_ends_its_segment_only(recorder: Recorder) -> None:
    """A flipped byte loses what stands behind it in its segment, never what stands in the next one."""
    for number in range(10):
        recorder.record(number)
    recorder.close()
    damaged = segments(recorder.journal)[-1]
    content = bytearray(damaged.read_bytes())
    ends = [end for end, kind in frame_ends(bytes(content)) if kind == APPLIED]
    content[ends[4] - 1] ^= 0xFF
    damaged.write_bytes(content)
    recorder.open()
    for number in range(10, 15):
        recorder.record(number)
    recorder.close()
    forget_everything(recorder)
    recorder.open()
    assert sum(recorder.streamed().values()) == 4 + 5


def test_second_engine_on_a_journal_is_refused(recorder: Recorder) -> None:
    """Two owners of one journal are one too many."""
    with pytest.raises(JournalError, match="another process owns this journal"):
        Engine(store_url=recorder.store.url, journal_dir=str(recorder.journal), exclusive_store=True)


def test_restarts_do_not_fill_the_disk(recorder: Recorder) -> None:
    """A segment that nobody writes to any more takes no more room than what stands in it."""
    for number in range(5):
        recorder.record(number)
        recorder.close()
        recorder.open()
    blocks = [path.stat().st_blocks * 512 for path in segments(recorder.journal)]
    assert len(blocks) > 5
    assert max(blocks[:-1]) < 64 << 10


def test_full_disk_is_no_acknowledgement(recorder: Recorder) -> None:
    """A journal that cannot be written answers UNAVAILABLE, leaves no files behind, and goes on when it can."""
    recorder.record(0)
    before = segments(recorder.journal)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, hard))
    try:
        for _ in range(20):
            with pytest.raises(RpcError) as raised:
                recorder.record(1)
            assert raised.value.args[0] == grpc.StatusCode.UNAVAILABLE.value[0]
            assert b"JOURNAL_UNAVAILABLE" in raised.value.args[2]
        assert segments(recorder.journal) == before
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    answer = recorder.record(1)
    assert (answer.durability, answer.duplicate) == (COMMITTED, True)
    assert (recorder.counted(), recorder.used_tokens()) == (2, 2)
