# SPDX-License-Identifier: Apache-2.0
"""The rules of quotas in plain Python, for a clock that only goes forward: what the store's script decides, replayed.

A request counts while it may be inside some interval of 60 s, in buckets of a second: from second s until s + 61
begins. Tokens and cost count for their UTC day. A call needs room for at least one of each, and consumes nothing when
it is denied.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from taximeter_server.limits import Limits

WINDOW_S = 61
DAY_S = 86_400


@dataclass(slots=True)
class Level:
    """What one level of a tenant's path has consumed, as of its last call."""

    limits: Limits
    day: int = 0
    tokens: int = 0
    cost_picos: int = 0
    requests: int = 0
    """Requests in the window."""
    window: deque[tuple[int, int]] = field(default_factory=deque)
    """Seconds with requests, and their count; oldest first."""

    def roll(self, second: int) -> None:
        """Come to a second since 1970 UTC, not before the last one."""
        while self.window and self.window[0][0] <= second - WINDOW_S:
            self.requests -= self.window.popleft()[1]
        day = second // DAY_S
        if day != self.day:
            self.day, self.tokens, self.cost_picos = day, 0, 0

    def full_limits(self, requests: int, tokens: int, cost_picos: int) -> list[str]:
        """Return the names of the limits that have no room for so much."""
        limits = self.limits
        needs = (
            ("requests_per_minute", limits.requests_per_minute, self.requests + max(requests, 1)),
            ("tokens_per_day", limits.tokens_per_day, self.tokens + max(tokens, 1)),
            ("cost_per_day", limits.cost_per_day_picos, self.cost_picos + max(cost_picos, 1)),
        )
        return [name for name, maximum, wanted in needs if maximum is not None and wanted > maximum]

    def consume(self, second: int, requests: int, tokens: int, cost_picos: int) -> None:
        """Count a call of the second that the level has come to."""
        if self.window and self.window[-1][0] == second:
            requests_before = self.window.pop()[1]
            self.window.append((second, requests_before + requests))
        else:
            self.window.append((second, requests))
        self.requests += requests
        self.tokens += tokens
        self.cost_picos += cost_picos


@dataclass(frozen=True, slots=True)
class Call:
    """One call as it was recorded."""

    tenant: str
    second: int
    requests: int
    tokens: int
    cost_picos: int


def decide(levels: Iterable[Level], call: Call, *, with_estimate: bool) -> list[tuple[Level, str]]:
    """Decide about a call and count it when all levels have room. Returns the limits that deny it, none when allowed.

    with_estimate: the call was asked about with exactly what it then used; otherwise it passes while there is any
    room.
    """
    path = list(levels)
    tokens, cost_picos = (call.tokens, call.cost_picos) if with_estimate else (0, 0)
    denying = []
    for level in path:
        level.roll(call.second)
        denying += [(level, name) for name in level.full_limits(call.requests, tokens, cost_picos)]
    if not denying:
        for level in path:
            level.consume(call.second, max(call.requests, 1), call.tokens, call.cost_picos)
    return denying
