# SPDX-License-Identifier: Apache-2.0
"""The rules of quotas in plain Python, written from the contract and not from the script: one level of a path.

A request counts while it may be inside some interval of 60 s, in buckets of a second: from second s until s + 61
begins. Usage counts for the UTC day of its event; a level remembers the day before, the current and the next day. The
state of a level moves with the clock when something is written to it.

A hold counts against the limits of its day at every level of its path until it is settled, released, or out of time.
Its time runs by a clock of the level that stands still where the store's clock goes back.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

WINDOW_S = 61
DAY_S = 86_400
MS = 1_000
REQUESTS, TOKENS, COST = 1, 2, 3
"""Kinds of limits, as in LimitKind."""
HELD, SETTLED, RELEASED, EXPIRED, SETTLED_BEFORE = 1, 2, 3, 4, 5
"""What becomes of a hold, as in HoldState."""
GRID_STEPS = 64


@dataclass(frozen=True)
class Status:
    """One limit as an answer shows it. Times are milliseconds since 1970 UTC, None where no wait can help."""

    tenant: str
    kind: int
    maximum: int
    used: int
    held: int
    remaining: int
    reset_time_ms: int | None
    retry_after_ms: int | None
    exceeded: bool
    shadow: bool = False
    would_deny: bool = False
    until_ms: int | None = None
    """When the maximum ends that stands in for another."""


@dataclass(frozen=True)
class Maxima:
    """Maxima by kind, and the kinds that are only watched."""

    maxima: Mapping[int, int] = field(default_factory=dict)
    shadow: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Settings:
    """What was set for a level. until_s: second at which temporary limits end."""

    own: Maxima = Maxima()
    plan: str = ""
    temporary: Maxima | None = None
    until_s: int = 0


@dataclass(frozen=True)
class Answer:
    """A decision. retry_after_ms is None when the call is allowed, and when no wait can help."""

    allowed: bool
    limits: list[Status]
    retry_after_ms: int | None


@dataclass(eq=False)
class Hold:
    """Amounts that a call in flight holds. expiry: by level, in the seconds of the level's own clock."""

    tenant: str
    day: int
    tokens: int
    cost: int
    state: int = HELD
    expiry: dict[str, int] = field(default_factory=dict)


@dataclass
class Level:
    """One level of a tenant's path."""

    settings: Settings | None = None
    """None for a level that nothing was set for."""
    maxima: Mapping[int, int] = field(default_factory=dict)
    """Those in force at second."""
    shadow: frozenset[int] = frozenset()
    temporary: frozenset[int] = frozenset()
    """Kinds of limits in force that are temporary."""
    window: dict[int, int] = field(default_factory=dict)
    days: dict[int, tuple[int, int]] = field(default_factory=dict)
    second: int = 0
    """Second of the last write."""
    shift: int | None = None
    """What the clock of holds is ahead by; None before the first hold."""
    holds: list[Hold] = field(default_factory=list)
    """Those that count, or have expired and are not looked at yet."""

    def at(self, now_s: int) -> "Level":
        """Return the level as it stands at an instant."""
        level = copy.copy(self)
        if now_s < self.second:
            # The clock went back: what was counted counts as of now.
            level.window = {now_s: sum(self.window.values())}
            level.shift = None if self.shift is None else self.shift + self.second - now_s
        else:
            level.window = {
                second: count for second, count in self.window.items() if second + WINDOW_S > now_s
            }
        today, before = now_s // DAY_S, self.second // DAY_S
        kept = {today - 1, today, today + 1} if abs(today - before) <= 1 else set()
        level.days = {day: usage for day, usage in self.days.items() if day in kept}
        level.second = now_s
        return level

    def put_in_force(self, plan: Maxima | None) -> None:
        """Find the limits of now: the plan's, under the level's own, under temporary ones."""
        if self.settings is not None and self.second >= self.settings.until_s:
            self.settings = replace(self.settings, temporary=None)
        settings = self.settings or Settings()
        layers = [layer for layer in (plan, settings.own, settings.temporary) if layer is not None]
        self.maxima = {kind: maximum for layer in layers for kind, maximum in layer.maxima.items()}
        self.shadow = frozenset().union(*(layer.shadow for layer in layers)) & frozenset(self.maxima)
        self.temporary = frozenset(settings.temporary.maxima if settings.temporary else ())

    def live_holds(self, name: str) -> list[Hold]:
        """Return the holds whose time at this level has not come, the first to expire first."""
        clock = self.second + (self.shift or 0)
        return sorted(
            (hold for hold in self.holds if hold.expiry[name] > clock), key=lambda hold: hold.expiry[name]
        )

    def used(self, kind: int, day: int | None = None) -> int:
        """Return what is consumed of a kind now, or on another day."""
        if kind == REQUESTS:
            return sum(self.window.values())
        return self.days.get(self.second // DAY_S if day is None else day, (0, 0))[kind - TOKENS]

    def held(self, kind: int, name: str) -> int:
        """Return what calls in flight hold of a kind now."""
        if kind == REQUESTS:
            return 0
        today = self.second // DAY_S
        return sum(amount_of(hold, kind) for hold in self.live_holds(name) if hold.day == today)

    def is_full(self, kind: int, name: str, need: int) -> bool:
        """Say whether a limit has no room for so much more."""
        return self.used(kind) + self.held(kind, name) + need > self.maxima[kind]

    def free_second(self, kind: int, name: str, need: int) -> int | None:
        """Return the first second at which a full limit has room if nothing else comes; None for never."""
        if need > self.maxima[kind]:
            return None
        missing = self.used(kind) + self.held(kind, name) + need - self.maxima[kind]
        if missing <= 0:
            return self.second
        if kind == REQUESTS:
            for second in sorted(self.window):
                missing -= self.window[second]
                if missing <= 0:
                    return second + WINDOW_S
            raise AssertionError("what is in the window leaves it")
        today = self.second // DAY_S
        midnight = (today + 1) * DAY_S
        for hold in self.live_holds(name):
            if hold.day == today:
                missing -= amount_of(hold, kind)
                free_s = hold.expiry[name] - (self.shift or 0)
                if missing <= 0 and free_s < midnight:
                    return free_s
        return midnight if self.used(kind, today + 1) + need <= self.maxima[kind] else midnight + DAY_S


ONE_MORE = {REQUESTS: 1, TOKENS: 1, COST: 1}


def amount_of(hold: Hold, kind: int) -> int:
    """Return what a hold holds of tokens or cost."""
    return hold.tokens if kind == TOKENS else hold.cost


def expiry_of(level: Level, ttl_s: int) -> int:
    """Return when a hold that begins now expires: after its time, on a grid of at most 64 steps per time to live."""
    grid_s = 1
    while grid_s * GRID_STEPS < ttl_s:
        grid_s *= 2
    end_s = level.second + (level.shift or 0) + 1 + ttl_s
    return -(-end_s // grid_s) * grid_s


def path_of(tenant: str) -> list[str]:
    """Return all levels of a tenant's path, root first."""
    parts = tenant.split("/")
    return ["/".join(parts[: count + 1]) for count in range(len(parts))]
