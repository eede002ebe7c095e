# SPDX-License-Identifier: Apache-2.0
"""Becomes the embedded store, bound to its parent's life.

Run as ``python -I -S store_launcher.py PARENT_PID PROGRAM ARGUMENT...``, never imported. It is a program of its own
because code between fork and exec is not safe in a process with threads.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
EXIT_NOT_BOUND = 70


def main() -> None:
    """Ask for SIGTERM when the parent dies, then exec the store."""
    parent_pid = int(sys.argv[1])
    libc = ctypes.CDLL(None, use_errno=True)
    # SIGTERM and not SIGKILL: the store then writes out what it still buffers. One that hangs is ended by the
    # next owner of the data directory.
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) != 0:
        sys.exit(EXIT_NOT_BOUND)
    # A parent that died before prctl sends no signal any more.
    if os.getppid() != parent_pid:
        sys.exit(EXIT_NOT_BOUND)
    os.umask(0o077)
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606 (no shell is wanted)


if __name__ == "__main__":
    main()
