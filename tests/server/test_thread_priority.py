# SPDX-License-Identifier: Apache-2.0
import ctypes
import os
import platform
import struct
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from taximeter_server.thread_priority import give_way

SCHED_GETATTR = {"x86_64": 315, "aarch64": 275}
ATTRIBUTES = struct.Struct("<IIQiIQQQ")


def schedule_of_this_thread() -> tuple[int, int]:
    """Return nice and slice in nanoseconds, as the kernel has them."""
    buffer = ctypes.create_string_buffer(ATTRIBUTES.size)
    number = SCHED_GETATTR.get(platform.machine())
    if number is None or ctypes.CDLL(None).syscall(number, 0, buffer, ATTRIBUTES.size, 0):
        pytest.skip("the kernel does not tell")
    _, _, _, nice, _, slice_ns, _, _ = ATTRIBUTES.unpack(buffer.raw)
    return nice, slice_ns


def test_a_thread_gives_way_and_so_do_those_that_it_starts() -> None:
    """Its nice is 10 and its slice short; who called has what it had."""
    before = schedule_of_this_thread()
    found: dict[str, tuple[int, int]] = {}

    def work() -> None:
        give_way()
        found["own"] = schedule_of_this_thread()
        child = threading.Thread(target=lambda: found.update(child=schedule_of_this_thread()))
        child.start()
        child.join()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(work).result()

    # Kernels before 6.12 have one slice for all, and tell of none.
    version = tuple(int(part) for part in os.uname().release.split(".")[:2])
    wanted = (max(10, before[0]), 100_000 if version >= (6, 12) else before[1])
    assert found == {"own": wanted, "child": wanted}
    assert schedule_of_this_thread() == before
