# SPDX-License-Identifier: Apache-2.0
"""`make bench-growth`, first part: memory of the store per tenant and per record that it remembers.

Memory is a slope: what the second half of the keys added, so that what the store needs for itself does not count. A
record leaves its mark for 36 days and more; its line leaves the store when it is archived. Marks of a day and partition
share hashes, so they are measured as densely as a hundred million of them would lie. Those of one moment share them, so
they are recorded for as long as it takes until each hash had its turn.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from contestants import Contestant, load, product  # noqa: E402 (needs the path above)

from harness.server_process import ServerProcess  # noqa: E402 (likewise)
from taximeter_server import _native  # noqa: E402 (likewise)

TENANTS_WANTED, MARKS_WANTED = 1_000_000, 100_000_000
MARK_DAYS, HASHES_PER_PARTITION = 36, 4_096
MARKS_PER_HASH = MARKS_WANTED // (MARK_DAYS * _native.PARTITION_COUNT * HASHES_PER_PARTITION)
BATCH, BATCHES_PER_SECOND = 10, 62
ARCHIVE_TIMEOUT_S = 300
POLL_S = 0.2


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="memory of the store per tenant and per record")
    parser.add_argument("--tenants", type=int, default=100_000, help="tenants to make (default 100,000)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tx") as directory:
        data_dir = Path(directory) / "data"
        with ServerProcess(data_dir) as server, server.store_client() as store:
            contestant = product(server)
            print_memory(contestant, store, options.tenants)


def print_memory(contestant: Contestant, store: Any, tenants: int) -> None:
    """Print bytes per tenant and per mark, and what they come to."""
    sizes = []
    for count in (tenants // 2, tenants):
        load(contestant, ("check", "--tenants", str(count), "--count", str(count)))
        sizes.append(used_bytes(store))
    show("tenant", (sizes[1] - sizes[0]) // max(tenants - tenants // 2, 1), TENANTS_WANTED)
    sizes, half = [], HASHES_PER_PARTITION * MARKS_PER_HASH // 2
    for _ in range(2):
        rate = ("--rate", str(BATCHES_PER_SECOND))
        load(contestant, ("record", "--batch", str(BATCH), "--count", str(half // BATCH), *rate))
        wait_until_archived(store)
        sizes.append(used_bytes(store))
    show("record remembered", (sizes[1] - sizes[0]) // half, MARKS_WANTED)


def show(name: str, each_bytes: int, wanted: int) -> None:
    """Print one slope."""
    print(
        f"store: {each_bytes} bytes per {name}, {each_bytes * wanted / 2**30:.1f} GiB for {wanted:,}",
        flush=True,
    )


def used_bytes(store: Any) -> int:
    """Return what the store's data takes, without what its clients and its file need at the moment."""
    return int(store.memory_stats()["dataset.bytes"]) + int(store.memory_stats()["overhead.total"])


def wait_until_archived(store: Any) -> None:
    """Return once no ledger stream holds anything. Raises TimeoutError."""
    deadline = time.monotonic() + ARCHIVE_TIMEOUT_S
    while any(store.xlen(f"{{tx:{partition}}}:ledger") for partition in range(_native.PARTITION_COUNT)):
        if time.monotonic() > deadline:
            raise TimeoutError("the ledger was not archived")
        time.sleep(POLL_S)


if __name__ == "__main__":
    main()
