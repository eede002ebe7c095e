# SPDX-License-Identifier: Apache-2.0
"""Part of `make bench-pricing`: how fast recorded usage is priced again by another card, changing nothing.

A running server, usage recorded through its port, and a comparison through its port: what an admin waits for.
"""

import argparse
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from harness.server_process import ServerProcess
from taximeter import CardReference, Meter, Usage, UsageRecord, new_record_id

CARD = """
billing:
  rate_card:
    "gpt-5": {input: 1.25, output: 10, cache_read: 0.125, when: [{tier: batch, multiply: 0.5}]}
"""
USAGE = Usage(
    uncached_input_tokens=1_200, cache_read_tokens=800, visible_output_tokens=500, reasoning_tokens=120
)
BATCH = 500
ROUNDS = 3


def records(numbers: range, at: datetime) -> list[UsageRecord]:
    """Return equal calls of a hundred tenants."""
    return [
        UsageRecord(
            record_id=new_record_id(),
            tenant=f"tenant-{number % 100}",
            usage=USAGE,
            model="gpt-5",
            occur_time=at,
        )
        for number in numbers
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=50_000)
    record_count = parser.parse_args().records
    with (
        tempfile.TemporaryDirectory() as folder,
        ServerProcess(Path(folder) / "data") as server,
        Meter(f"http://{server.address}", key=server.admin_key) as meter,
    ):
        now = datetime.now(UTC)  # noqa: TID251 - when the usage happened
        for first in range(0, record_count, BATCH):
            meter.record_batch(records(range(first, min(first + BATCH, record_count)), now))
        durations_s = []
        for _ in range(ROUNDS):
            started = time.perf_counter()
            compared = meter.compare_rate_cards(
                now - timedelta(hours=1), now + timedelta(hours=1), card_b=CardReference(yaml=CARD)
            )
            durations_s.append(time.perf_counter() - started)
            if compared.total.calls != record_count:
                sys.exit(f"{compared.total.calls} calls were compared, not {record_count}")
    best_s = min(durations_s)
    rate = record_count / best_s
    print(f"{record_count:,} records of four classes priced again in {best_s:.2f} s: {rate:,.0f} a second")


if __name__ == "__main__":
    main()
