# SPDX-License-Identifier: Apache-2.0
"""Threads that give way: whatever archives and reports must never be why a check is slow."""

import os
import sys
import threading

_NICE = 10
"""About a tenth of the share of a thread that serves calls, when there is not enough for both."""


def give_way() -> None:
    """Lower the priority of the calling thread, and of those that it starts from now on, for good."""
    # Elsewhere a priority is that of a process.
    if sys.platform == "linux":
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, max(_NICE, os.getpriority(os.PRIO_PROCESS, thread)))
