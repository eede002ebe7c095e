# SPDX-License-Identifier: Apache-2.0
"""Calls to models as a gateway meters them: a check that holds what the call may take, then the record of what it took.

Ten thousand tenants with three limits each call as often as Zipf's law says, with token counts of public traces. What
they record is archived meanwhile, and somebody asks for reports.
"""

import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from background import repeated
from contestants import Contestant, Run, admin, measure
from exact.workload import call_sizes
from reconciliation import LIMITS

from taximeter import Tenant
from taximeter.clock import system_clock_ms

TENANTS, PREFIX = 10_000, "mixed"
RATE_PER_SECOND = 10_000
SIZES = 4_096
REPORT_EVERY_S = 0.5
ERA = timedelta(days=1)
LOAD: Sequence[str] = ("meter", "--connections", "16", "--streams", "16", "--skewed", "yes")


def measure_mixed(contestant: Contestant, seconds: int) -> Iterator[tuple[str, Run]]:
    """Yield (what was asked, run): as much as it can take, then at a rate. Latencies are those of the check."""
    with tempfile.TemporaryDirectory(prefix="taximeter-bench-") as directory, admin(contestant) as meter:
        for outcome in meter.put_tenants(
            Tenant(f"{PREFIX}-{number}", "", LIMITS, None) for number in range(TENANTS)
        ):
            if outcome.error is not None:
                raise outcome.error
        sizes = Path(directory) / "sizes"
        lines = (
            f"{prompt - prompt // 2} {prompt // 2} {output}"
            for prompt, output in call_sizes(SIZES, seed="mixed")
        )
        sizes.write_text("\n".join(lines) + "\n")
        load = (*LOAD, "--tenants", str(TENANTS), "--tenant-prefix", PREFIX, "--sizes", str(sizes))
        now = datetime.fromtimestamp(system_clock_ms() // 1000, UTC)
        with repeated(lambda: meter.report(now - ERA, now + ERA, group_by=["model", "day"]), REPORT_EVERY_S):
            yield "closed loop", measure(contestant, (*load, "--seconds", str(seconds)))
            rate = ("--rate", str(RATE_PER_SECOND))
            yield (
                f"{RATE_PER_SECOND:,} calls/s",
                measure(contestant, (*load, *rate, "--seconds", str(seconds))),
            )
