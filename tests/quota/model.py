# SPDX-License-Identifier: Apache-2.0
"""The rules of quotas in plain Python, written from the contract and not from the script.

A request counts while it may be inside some interval of 60 s, in buckets of a second: from second s until s + 61
begins. Usage counts for the UTC day of its event; a level remembers the day before, the current and the next day. The
state of a level moves with the clock when something is written to it.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field

WINDOW_S = 61
DAY_S = 86_400
MS = 1_000
REQUESTS, TOKENS, COST = 1, 2, 3
"""Kinds of limits, as in LimitKind."""


@dataclass(frozen=True)
class Status:
    """One limit as an answer shows it. Times are milliseconds since 1970 UTC."""

    tenant: str
    kind: int
    maximum: int
    used: int
    remaining: int
    reset_time_ms: int
    retry_after_ms: int
    exceeded: bool


@dataclass(frozen=True)
class Answer:
    """A decision. retry_after_ms is None when the call is allowed."""

    allowed: bool
    limits: list[Status]
    retry_after_ms: int | None


@dataclass
class Level:
    """One level of a tenant's path."""

    maxima: dict[int, int] = field(default_factory=dict)
    window: dict[int, int] = field(default_factory=dict)
    days: dict[int, tuple[int, int]] = field(default_factory=dict)
    second: int = 0
    """Second of the last write."""

    def at(self, now_s: int) -> "Level":
        """Return the level as it stands at an instant."""
        level = copy.deepcopy(self)
        if now_s < self.second:
            # The clock went back: what was counted counts as of now.
            level.window = {now_s: sum(self.window.values())}
        else:
            level.window = {
                second: count for second, count in self.window.items() if second + WINDOW_S > now_s
            }
        today, before = now_s // DAY_S, self.second // DAY_S
        kept = {today - 1, today, today + 1} if abs(today - before) <= 1 else set()
        level.days = {day: usage for day, usage in self.days.items() if day in kept}
        level.second = now_s
        return level

    def used(self, kind: int) -> int:
        """Return what is consumed of a kind now."""
        if kind == REQUESTS:
            return sum(self.window.values())
        return self.days.get(self.second // DAY_S, (0, 0))[kind - TOKENS]

    def free_second(self, requests: int) -> int:
        """Return the second at which so many requests fit, 0 for now; the whole window's end when they never do."""
        missing = self.used(REQUESTS) + requests - self.maxima[REQUESTS]
        if missing <= 0:
            return 0
        for second in sorted(self.window):
            missing -= self.window[second]
            if missing <= 0:
                return second + WINDOW_S
        return self.second + WINDOW_S


class Model:
    """All levels of all tenants."""

    def __init__(self) -> None:
        self._levels: dict[str, Level] = {}

    def put_limits(self, tenant: str, maxima: Mapping[int, int], now_ms: int) -> None:
        """Set the maxima of one level."""
        level = self._at(tenant, now_ms)
        level.maxima = dict(maxima)
        self._levels[tenant] = level

    def check(self, tenant: str, needs: Mapping[int, int], now_ms: int, *, dry_run: bool = False) -> Answer:
        """Decide. needs: requests, tokens and cost by kind; a call needs room for at least one of each."""
        levels = {name: self._at(name, now_ms) for name in path_of(tenant)}
        needs = {kind: max(needs.get(kind, 0), 1) for kind in (REQUESTS, TOKENS, COST)}
        failed = {
            (name, kind)
            for name, level in levels.items()
            for kind, maximum in level.maxima.items()
            if level.used(kind) + needs[kind] > maximum
        }
        if not failed and not dry_run:
            for name, level in levels.items():
                second = now_ms // MS
                level.window[second] = level.window.get(second, 0) + needs[REQUESTS]
                self._levels[name] = level
        else:
            # Where the clock went back, the window begins anew even so.
            for name, level in levels.items():
                if name in self._levels and self._levels[name].second > level.second:
                    self._levels[name] = level
        limits = self._statuses(levels, now_ms, needs[REQUESTS] if failed else 1, failed)
        waits = [limit.retry_after_ms for limit in limits if limit.exceeded]
        return Answer(not failed, limits, max(waits, default=None))

    def record(self, tenant: str, day: int, tokens: int, cost_picos: int, now_ms: int) -> None:
        """Count usage of a day."""
        for name in path_of(tenant):
            level = self._at(name, now_ms)
            if day - now_ms // MS // DAY_S in (0, 1):
                used_tokens, used_cost = level.days.get(day, (0, 0))
                level.days[day] = (used_tokens + tokens, used_cost + cost_picos)
            self._levels[name] = level

    def status(self, tenant: str, now_ms: int) -> list[Status]:
        """Return every limit of a tenant and its parents."""
        levels = {name: self._at(name, now_ms) for name in path_of(tenant)}
        found = self._statuses(levels, now_ms, 1, set())
        return [Status(**{**vars(limit), "exceeded": limit.used >= limit.maximum}) for limit in found]

    def _at(self, tenant: str, now_ms: int) -> Level:
        return self._levels.get(tenant, Level(second=now_ms // MS)).at(now_ms // MS)

    @staticmethod
    def _statuses(
        levels: Mapping[str, Level], now_ms: int, requests: int, failed: set[tuple[str, int]]
    ) -> list[Status]:
        midnight_ms = (now_ms // MS // DAY_S + 1) * DAY_S * MS
        found = []
        for name, level in levels.items():
            for kind in sorted(level.maxima):
                maximum, used = level.maxima[kind], level.used(kind)
                reset_ms = midnight_ms
                if kind == REQUESTS:
                    reset_ms = max(level.free_second(requests) * MS, now_ms)
                exceeded = (name, kind) in failed
                wait_ms = reset_ms - now_ms if exceeded else 0
                remaining = max(maximum - used, 0)
                found.append(Status(name, kind, maximum, used, remaining, reset_ms, wait_ms, exceeded))
        return found


def path_of(tenant: str) -> list[str]:
    """Return all levels of a tenant's path, root first."""
    parts = tenant.split("/")
    return ["/".join(parts[: count + 1]) for count in range(len(parts))]
