# SPDX-License-Identifier: Apache-2.0
"""Threads that give way: whatever archives and reports must never be why a check is slow."""

import ctypes
import os
import platform
import struct
import sys
import threading

_NICE = 10
"""About a tenth of the share of a thread that serves calls, when there is not enough for both."""
_SLICE_NS = 100_000
"""How long such a thread may run on when one that serves calls wakes up: the least that the kernel takes.

It is 3 ms by default, and that was what a check waited for beside a report.
"""
_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}
"""Number of the system call, which neither Python nor the C library has."""
_ATTRIBUTES = "<IIQiIQQQ"
"""Size, policy, flags, nice, priority, and the times of a schedule, of which the first is the slice."""


def give_way() -> None:
    """Lower the priority of the calling thread, and of those that it starts from now on, for good."""
    # Elsewhere a priority is that of a process.
    if sys.platform == "linux":
        thread = threading.get_native_id()
        nice = max(_NICE, os.getpriority(os.PRIO_PROCESS, thread))
        os.setpriority(os.PRIO_PROCESS, thread, nice)
        number = _SCHED_SETATTR.get(platform.machine())
        if number is not None:
            size = struct.calcsize(_ATTRIBUTES)
            attributes = struct.pack(_ATTRIBUTES, size, os.SCHED_OTHER, 0, nice, 0, _SLICE_NS, 0, 0)
            # A kernel before 6.12 ignores the slice, and one that refuses leaves things as they were.
            ctypes.CDLL(None).syscall(number, 0, attributes, 0)
