# SPDX-License-Identifier: Apache-2.0
"""How much memory a process holds at most over a stretch of time. Linux only."""

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MIB = 1 << 20


@dataclass
class Growth:
    """What a process grew by at its peak, in bytes."""

    peak_bytes: int = 0


@contextlib.contextmanager
def peak_growth(pid: int) -> Iterator[Growth]:
    """Yield a measure that holds, after the block, the highest resident size within it less the one before."""
    # 5 resets the peak to what is resident now.
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    growth, before = Growth(), _resident_bytes(pid, "VmRSS")
    yield growth
    growth.peak_bytes = _resident_bytes(pid, "VmHWM") - before


def _resident_bytes(pid: int, name: str) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(rf"^{name}:\s+(\d+) kB$", status, re.MULTILINE)
    assert found is not None, status
    return int(found[1]) * 1024
