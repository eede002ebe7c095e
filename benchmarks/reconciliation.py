# SPDX-License-Identifier: Apache-2.0
"""What the load generator counted, held against what the server counted."""

import itertools
from collections.abc import Sequence

from contestants import Contestant, Run, measure

from taximeter import LimitKind, Limits, Meter

LIMITS = Limits(requests_per_minute=1_000_000_000, tokens_per_day=10**15, cost_per_day_picos=2**63 - 1)
"""All three limits, each too high to deny: every check reads and decides all of them."""
_numbers = itertools.count(1)


def measure_checks(contestant: Contestant, arguments: Sequence[str]) -> Run:
    """Measure checks on a new tenant with three limits. Raises RuntimeError when the server counted otherwise."""
    prefix = f"bench{next(_numbers)}"
    tenant = f"{prefix}-0"
    key = contestant.key_file.read_text().strip() if contestant.key_file else None
    with Meter(f"http://{contestant.address}", key=key) as meter:
        meter.put_tenant(tenant, LIMITS)
        one = measure(contestant, (*arguments, "--tenant-prefix", prefix))
        statuses = {status.kind: status for status in meter.quota_status(tenant)}
    counted = statuses[LimitKind.REQUESTS_PER_MINUTE].used
    allowed = one.calls - one.denied - one.failed
    if counted != allowed:
        raise RuntimeError(f"{tenant}: {allowed} calls were allowed, and {counted} counted")
    return one
