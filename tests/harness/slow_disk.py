# SPDX-License-Identifier: Apache-2.0
"""A process whose fdatasync takes long, by strace."""

import contextlib
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

ATTACH_TIMEOUT_S = 10
_STRACE = shutil.which("strace")


def _is_traced(pid: int) -> bool:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return all("TracerPid:\t0\n" not in (task / "status").read_text() for task in tasks)


@contextlib.contextmanager
def slow_fdatasync(pid: int, *, delay_ms: int) -> Iterator[bool]:
    """Let every fdatasync of a process wait first. Yields False where strace is missing or not allowed."""
    if _STRACE is None:
        yield False
        return
    command = [_STRACE, "-f", "-qq", "-o", "/dev/null", "-p", str(pid), "-e", "trace=fdatasync"]
    command += ["-e", f"inject=fdatasync:delay_enter={delay_ms * 1000}"]
    tracer = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + ATTACH_TIMEOUT_S
        while tracer.poll() is None and not _is_traced(pid) and time.monotonic() < deadline:
            time.sleep(0.01)
        yield tracer.poll() is None and _is_traced(pid)
    finally:
        tracer.terminate()
        tracer.wait()
