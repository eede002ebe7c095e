# SPDX-License-Identifier: Apache-2.0
"""The database that reports and comparisons compute in: in memory, bounded, spilling to a folder."""

from pathlib import Path

import duckdb


def open_report_database(
    temporary_directory: Path, *, memory_limit_bytes: int = 512 * 2**20, thread_count: int = 2
) -> duckdb.DuckDBPyConnection:
    """Return an empty database. temporary_directory: takes what does not fit into memory; created when needed.

    All cursors of it together stay within memory_limit_bytes.
    """
    return duckdb.connect(
        config={
            "memory_limit": f"{memory_limit_bytes}B",
            "threads": thread_count,
            "temp_directory": str(temporary_directory),
            "python_enable_replacements": False,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
    )
