# SPDX-License-Identifier: Apache-2.0
"""What the load generator counted, held against what the server counted."""

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import h2load
from contestants import Contestant, Run, admin, measure

from taximeter import LimitKind, Limits, Meter

LIMITS = Limits(requests_per_minute=1_000_000_000, tokens_per_day=10**15, cost_per_day_picos=2**63 - 1)
"""All three limits, each too high to deny: every check reads and decides all of them."""
_numbers = itertools.count(1)


def measure_checks(contestant: Contestant, arguments: Sequence[str]) -> Run:
    """Measure checks on a new tenant with three limits. Raises RuntimeError when the server counted otherwise."""
    with counted_tenant(contestant) as tenant:
        one = measure(contestant, (*arguments, "--tenant-prefix", tenant.prefix))
        tenant.expect(one.calls - one.denied - one.failed, unknown_max=one.failed)
    return one


def measure_throughput(contestant: Contestant, seconds: int) -> Run:
    """Do so with h2load, which leaves the calls that are in flight at its end unread."""
    with counted_tenant(contestant) as tenant:
        one = h2load.measure_throughput(contestant, tenant.prefix, seconds)
        tenant.expect(one.calls + h2load.FIRST_CALLS, unknown_max=h2load.CONNECTIONS * h2load.STREAMS)
    return one


@dataclass(frozen=True, slots=True)
class CountedTenant:
    """A tenant `prefix`-0 with three limits that never deny."""

    prefix: str
    meter: Meter

    def expect(self, allowed: int, unknown_max: int = 0) -> None:
        """Raise RuntimeError unless the server has counted so many requests, and at most so many more.

        unknown_max: calls that nobody read the answer of, or that ended undecided: in time or not, the store counts.
        """
        statuses = {status.kind: status for status in self.meter.quota_status(f"{self.prefix}-0")}
        counted = statuses[LimitKind.REQUESTS_PER_MINUTE].used
        if not allowed <= counted <= allowed + unknown_max:
            raise RuntimeError(f"{self.prefix}-0: {allowed} calls were allowed, and {counted} counted")


@contextlib.contextmanager
def counted_tenant(contestant: Contestant) -> Iterator[CountedTenant]:
    """Make a tenant that nothing has asked about before."""
    prefix = f"bench{next(_numbers)}"
    with admin(contestant) as meter:
        meter.put_tenant(f"{prefix}-0", LIMITS)
        yield CountedTenant(prefix, meter)
