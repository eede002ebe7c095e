# SPDX-License-Identifier: Apache-2.0
"""What a spool keeps, whatever happens to its files."""

import errno
import os
import threading
from pathlib import Path

import pytest

from taximeter import SpoolError, SpoolFullError, SpoolSettings
from taximeter._crc32c import crc32c
from taximeter._spool_frames import frame
from taximeter.spool import Spool

HEADER_BYTES = 8
TIME_BYTES = 8
NOW_MS = 1_795_000_000_000


def open_spool(path: Path, **settings: object) -> Spool:
    """A spool whose clock stands still."""
    return Spool(SpoolSettings(directory=path, **settings), clock=lambda: NOW_MS)  # type: ignore[arg-type]


def payloads(spool: Spool) -> list[bytes]:
    """What is not settled, oldest first."""
    entries, _ = spool.read(count_max=10_000, bytes_max=1 << 30)
    return [entry.payload for entry in entries]


def settle_all(spool: Spool) -> None:
    """Settles what is in it."""
    _, end = spool.read(count_max=10_000, bytes_max=1 << 30)
    spool.advance(end, None)


def segments(path: Path) -> list[Path]:
    """The files of the segments, oldest first."""
    return sorted(path.glob("segment-*.spool"))


def test_the_checksum_is_castagnolis() -> None:
    """The checksum gives the published check value."""
    assert crc32c(b"123456789") == 0xE3069283


def test_what_was_kept_is_there_after_a_restart(tmp_path: Path) -> None:
    """Records come back in order, those that were settled do not, and settled segments are removed."""
    spool = open_spool(tmp_path, segment_bytes_max=64)
    for number in range(10):
        spool.append(f"record {number}".encode())
    entries, _ = spool.read(count_max=3, bytes_max=1_000)
    spool.advance(entries[-1].end, None)
    spool.close()

    again = open_spool(tmp_path, segment_bytes_max=64)
    assert payloads(again) == [f"record {number}".encode() for number in range(3, 10)]
    settle_all(again)
    again.append(b"one more")
    assert (again.is_empty, payloads(again)) == (False, [b"one more"])
    settle_all(again)
    assert again.is_empty
    again.close()
    assert len(segments(tmp_path)) <= 1


def test_a_torn_tail_is_cut(tmp_path: Path) -> None:
    """A crash in the middle of a write costs what nobody was promised, at every byte of the last record."""
    spool = open_spool(tmp_path / "whole")
    for payload in (b"first", b"second"):
        spool.append(payload)
    spool.close()
    data = segments(tmp_path / "whole")[0].read_bytes()
    first_end = HEADER_BYTES + TIME_BYTES + len(b"first")

    for size in range(first_end, len(data)):
        torn = tmp_path / f"torn-{size}"
        torn.mkdir()
        (torn / segments(tmp_path / "whole")[0].name).write_bytes(data[:size])
        spool = open_spool(torn)
        spool.append(b"third")
        assert payloads(spool) == [b"first", b"third"]
        spool.close()


def test_a_damaged_record_is_put_aside(tmp_path: Path) -> None:
    """A flipped bit in the middle costs the record that it struck, which is kept for an operator and reported."""
    spool = open_spool(tmp_path)
    for payload in (b"first", b"second", b"third"):
        spool.append(payload)
    spool.close()
    (segment,) = segments(tmp_path)
    data = bytearray(segment.read_bytes())
    data[data.index(b"second")] ^= 1
    segment.write_bytes(data)

    spool = open_spool(tmp_path)
    assert payloads(spool) == [b"first", b"third"]
    assert spool.status().damaged_count == 1
    settle_all(spool)
    assert spool.is_empty
    spool.close()
    (damaged,) = tmp_path.glob("damaged-*.bin")
    assert b"recond" in damaged.read_bytes()


def test_a_damaged_length_costs_its_segment_only(tmp_path: Path) -> None:
    """Where a length is gone the rest of the segment is put aside, and the next segment is read."""
    spool = open_spool(tmp_path, segment_bytes_max=1)
    for payload in (b"first", b"second"):
        spool.append(payload)
    spool.close()
    segments(tmp_path)[0].write_bytes(b"\xff" * 20)

    spool = open_spool(tmp_path)
    assert payloads(spool) == [b"second"]
    spool.close()


def test_one_process_owns_a_spool(tmp_path: Path) -> None:
    """A second owner is refused, until the first has closed it."""
    spool = open_spool(tmp_path)
    with pytest.raises(SpoolError, match="another process uses this spool"):
        open_spool(tmp_path)
    spool.close()
    open_spool(tmp_path).close()


def test_a_forked_child_does_not_write(tmp_path: Path) -> None:
    """A child of a fork shares the file, so it is refused rather than let it write between."""
    spool = open_spool(tmp_path)
    spool._process_id += 1
    with pytest.raises(SpoolError, match="forked"):
        spool.append(b"x")
    spool.close()


def test_a_full_spool_says_so(tmp_path: Path) -> None:
    """Without room a record is refused and nothing is dropped; there is room again once records are settled."""
    spool = open_spool(tmp_path, bytes_max=200, segment_bytes_max=50)
    for _ in range(7):
        spool.append(b"0123456789")
    with pytest.raises(SpoolFullError):
        spool.append(b"0123456789")
    assert payloads(spool) == [b"0123456789"] * 7
    settle_all(spool)
    spool.append(b"room")
    spool.close()


def test_a_full_spool_waits_where_it_is_told_to(tmp_path: Path) -> None:
    """With waits_when_full a record waits until others are settled."""
    spool = open_spool(tmp_path, bytes_max=100, segment_bytes_max=50, waits_when_full=True)
    for _ in range(3):
        spool.append(b"01234567890")
    waiting = threading.Thread(target=spool.append, args=(b"waited",))
    waiting.start()
    waiting.join(0.1)
    assert waiting.is_alive()
    settle_all(spool)
    waiting.join(60)
    assert payloads(spool) == [b"waited"]
    spool.close()


def test_an_fsync_error_is_final_for_its_file(tmp_path: Path) -> None:
    """After a failed fsync the record goes to another segment; when that fails, too, nobody is told that it is kept."""
    errors = 0

    def sync(descriptor: int) -> None:
        nonlocal errors
        if errors and Path(f"/proc/self/fd/{descriptor}").readlink().suffix == ".spool":
            errors -= 1
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        os.fsync(descriptor)

    spool = Spool(SpoolSettings(directory=tmp_path), clock=lambda: NOW_MS, sync=sync)
    spool.append(b"first")
    errors = 1
    spool.append(b"second")
    assert payloads(spool) == [b"first", b"second"]
    errors = 2
    with pytest.raises(SpoolError, match="the disk takes nothing"):
        spool.append(b"third")
    spool.append(b"fourth")
    assert payloads(spool) == [b"first", b"second", b"fourth"]
    assert spool.status().failed_sync_count == 3
    assert len(segments(tmp_path)) == 4
    spool.close()


def test_many_threads_share_an_fsync(tmp_path: Path) -> None:
    """Records that wait for the disk together reach it together, and none is missing."""
    syncs = 0

    def sync(descriptor: int) -> None:
        nonlocal syncs
        syncs += 1
        os.fsync(descriptor)

    spool = Spool(SpoolSettings(directory=tmp_path), clock=lambda: NOW_MS, sync=sync)

    def keep(numbers: range) -> None:
        for number in numbers:
            spool.append(b"%d" % number)

    numbers = [range(start, start + 25) for start in range(0, 400, 25)]
    threads = [threading.Thread(target=keep, args=(own,)) for own in numbers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(map(int, payloads(spool))) == list(range(400))
    assert syncs < 400
    spool.close()


def test_a_damaged_cursor_sends_everything_again(tmp_path: Path) -> None:
    """What was settled is only forgotten, never more than that: the ids are the same."""
    spool = open_spool(tmp_path)
    spool.append(b"first")
    spool.close()
    (tmp_path / "cursor.json").write_text("{")

    spool = open_spool(tmp_path)
    assert payloads(spool) == [b"first"]
    spool.close()


def test_a_record_that_is_too_large_is_refused(tmp_path: Path) -> None:
    """A frame has an upper bound, so that a damaged length is told from a record."""
    spool = open_spool(tmp_path)
    with pytest.raises(SpoolError, match="too large for a spool"):
        spool.append(b"x" * 600_000)
    spool.close()


def test_the_age_of_the_backlog_is_told(tmp_path: Path) -> None:
    """The oldest record that is not settled says how late the spool is."""
    now_ms = NOW_MS
    spool = Spool(SpoolSettings(directory=tmp_path), clock=lambda: now_ms)
    spool.append(b"first")
    entries, _ = spool.read(count_max=1, bytes_max=1_000)
    spool.advance(entries[0].place, entries[0].time_ms)
    now_ms += 5_000

    status = spool.status()

    assert (status.backlog_age_ms, status.backlog_bytes) == (5_000, len(frame(b"12345678first")))
    spool.close()
