# SPDX-License-Identifier: Apache-2.0
"""What is in a ledger's folder, and what should be."""

from collections import Counter

import pyarrow.parquet as pq
from reports.conftest import LedgerFixture

from taximeter_server.ledger_directory import LedgerDirectory


def archived_rows(directory: LedgerDirectory) -> Counter[tuple[str, str, str | None]]:
    """Return how often each (tenant, record_id, usage_class) is in the files of the manifest."""
    found: Counter[tuple[str, str, str | None]] = Counter()
    for file in directory.read_manifest().files:
        table = pq.read_table(directory.absolute(file.path), partitioning=None)
        assert table.num_rows == file.row_count
        columns = (table[name].to_pylist() for name in ("tenant", "record_id", "usage_class"))
        found.update(zip(*columns, strict=True))
    return found


def expected_rows(ledger: LedgerFixture) -> Counter[tuple[str, str, str | None]]:
    """Return what archived_rows must return when all has been archived."""
    return Counter(
        (entry.tenant, entry.record_id, line.usage_class if line else None)
        for entry in ledger.entries
        for line in entry.lines or (None,)
    )


def assert_no_leftovers(directory: LedgerDirectory) -> None:
    """Fail when the folder holds a file that the manifest does not name."""
    assert set(directory.list_files()) == directory.read_manifest().paths
