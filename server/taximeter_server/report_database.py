# SPDX-License-Identifier: Apache-2.0
"""The database that reports and comparisons compute in: in memory, bounded, spilling to a folder."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb

from taximeter_server.thread_priority import give_way

OVERFLOW_BYTES_MAX = 8 * 2**30
"""What a database may put into its folder, which is on the disk that the journal needs, too."""


def open_report_database(
    temporary_directory: Path, *, memory_limit_bytes: int = 512 * 2**20, thread_count: int = 2
) -> duckdb.DuckDBPyConnection:
    """Return an empty database. temporary_directory: takes what does not fit into memory; created when needed.

    All cursors of it together stay within memory_limit_bytes, and OVERFLOW_BYTES_MAX of disk.
    """
    settings: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": f"{memory_limit_bytes}B",
        "threads": thread_count,
        "temp_directory": str(temporary_directory),
        "max_temp_directory_size": f"{OVERFLOW_BYTES_MAX}B",
        "python_enable_replacements": False,
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    # The database makes the folder itself when it needs it, but not the one above.
    temporary_directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Its threads inherit the priority of the one that opens it.
    with ThreadPoolExecutor(1, initializer=give_way) as opener:
        return opener.submit(duckdb.connect, config=settings).result()
