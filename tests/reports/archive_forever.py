# SPDX-License-Identifier: Apache-2.0
"""Archives the store at a URL into a folder until it is killed. Run as a process of its own by tests."""

import sys
from pathlib import Path

from reports.stream_engine import StreamEngine

from taximeter_server import ledger_rollup
from taximeter_server.archiver import Archiver
from taximeter_server.ledger_directory import LedgerDirectory
from taximeter_server.ledger_merge import FileMerger


def main() -> None:
    """Take store URL, ledger folder, temporary folder and journal folder from the command line."""
    url, ledger, temporary, journal = sys.argv[1:]
    # So that kills hit what makes rollups, too.
    ledger_rollup.ROLL_UP_ROWS_MIN, ledger_rollup.ROLLUP_COUNT_MAX = 200, 3
    now_ms = iter(range(0, 2**62, 1_000))
    archiver = Archiver(
        StreamEngine(url, Path(journal)),
        LedgerDirectory(Path(ledger)),
        merger=FileMerger(temporary_directory=Path(temporary)),
        clock=lambda: next(now_ms),
        grace_ms=2_000,
        round_entries_max=40,
    )
    # Says that the imports are done, so that kills hit the archiver at work.
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while True:
        archiver.run_once()


if __name__ == "__main__":
    main()
