# SPDX-License-Identifier: Apache-2.0
"""Cores that do not halt when they have nothing to do.

To wake a halted core takes a virtual machine longer than a call: a call alone is then measured by how often somebody
sleeps in it. Who serves with latencies in mind keeps cores awake in the same way, for example by tuned's profile
latency-performance.
"""

import contextlib
import os
import struct
from collections.abc import Iterator
from pathlib import Path

FILE = Path("/dev/cpu_dma_latency")
NOT_HERE = f"Calls with cores awake: needs to write {FILE}, as root does"


def can_stay_awake() -> bool:
    """Say whether this user may keep them awake."""
    return os.access(FILE, os.W_OK)


@contextlib.contextmanager
def awake() -> Iterator[None]:
    """Keep all cores awake meanwhile: the kernel is asked for so long as the file is open.

    Source: https://docs.kernel.org/power/pm_qos_interface.html
    """
    with FILE.open("wb", buffering=0) as wanted:
        wanted.write(struct.pack("i", 0))
        yield
