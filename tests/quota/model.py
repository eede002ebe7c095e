# SPDX-License-Identifier: Apache-2.0
"""The rules of quotas in plain Python, written from the contract and not from the script: all levels together.

What one level counts and holds is in model_level.
"""

from collections.abc import Mapping
from dataclasses import replace

from quota.model_level import (
    COST,
    DAY_S,
    EXPIRED,
    HELD,
    MS,
    ONE_MORE,
    RELEASED,
    REQUESTS,
    SETTLED,
    SETTLED_BEFORE,
    TOKENS,
    Answer,
    Hold,
    Level,
    Maxima,
    Settings,
    Status,
    expiry_of,
    path_of,
)

DEFAULT_PLANS = ("default", "default-2", "default-3", "default-4")
"""Plans of levels that nothing was set for, by depth."""


class Model:
    """All levels of all tenants."""

    def __init__(self) -> None:
        self._levels: dict[str, Level] = {}
        self._plans: dict[str, Maxima] = {}

    def put_limits(self, tenant: str, settings: Settings, now_ms: int) -> None:
        """Set the limits of one level."""
        level = self._at(tenant, now_ms)
        level.settings = settings
        self._levels[tenant] = level

    def put_plan(self, name: str, maxima: Maxima | None) -> None:
        """Set the limits of a plan, or remove it."""
        if maxima is None:
            self._plans.pop(name, None)
        else:
            self._plans[name] = maxima

    def check(self, tenant: str, needs: Mapping[int, int], now_ms: int, *, dry_run: bool = False) -> Answer:
        """Decide. needs: requests, tokens and cost by kind; a call needs room for at least one of each."""
        return self._decide(tenant, needs, now_ms, consume=not dry_run)[0]

    def reserve(
        self, tenant: str, needs: Mapping[int, int], now_ms: int, ttl_s: int
    ) -> tuple[Answer, Hold | None]:
        """Decide, and hold tokens and cost when allowed."""
        return self._decide(tenant, needs, now_ms, consume=True, ttl_s=ttl_s)

    def repeat(self, tenant: str, needs: Mapping[int, int], first: Answer, now_ms: int) -> Answer:
        """Return what a check that was decided before is answered: the decision of then, the limits of now.

        What would have denied an allowed call is not said again.
        """
        levels = self._path(tenant, now_ms)
        failed = {
            (limit.tenant, limit.kind)
            for limit in first.limits
            if not first.allowed
            and (limit.exceeded or limit.would_deny)
            and limit.kind in levels[limit.tenant].maxima
        }
        needed = {kind: max(needs.get(kind, 0), 1) for kind in (REQUESTS, TOKENS, COST)}
        self._save(levels, consumed=False)
        return self._answer(levels, failed, needed, now_ms, allowed=first.allowed)

    def extend(
        self, hold: Hold, tokens: int, cost: int, ttl_s: int, now_ms: int
    ) -> tuple[Answer | None, int]:
        """Let a hold live longer and hold more; returns the decision, None for one that is not live, and its state."""
        levels = self._path(hold.tenant, now_ms)
        state = self._state(hold, levels)
        if state != HELD:
            return None, state
        more = {
            REQUESTS: 0,
            TOKENS: max(tokens - hold.tokens, 0),
            COST: max(cost - hold.cost, 0),
        }
        failed = {
            (name, kind)
            for name, level in levels.items()
            for kind in level.maxima
            if more[kind] > 0 and hold.day == now_ms // MS // DAY_S and level.is_full(kind, name, more[kind])
        }
        allowed = not denying(levels, failed)
        if allowed:
            self._take(hold, levels)
            hold.tokens += more[TOKENS]
            hold.cost += more[COST]
            for name, level in levels.items():
                hold.expiry[name] = max(hold.expiry[name], expiry_of(level, ttl_s))
                level.holds = [*level.holds, hold]
        self._save(levels, consumed=allowed)
        return self._answer(levels, failed, more, now_ms, allowed=allowed), HELD

    def release(self, hold: Hold, now_ms: int) -> int:
        """Free a hold; returns its state afterwards."""
        levels = self._path(hold.tenant, now_ms)
        state = self._state(hold, levels)
        if state == HELD:
            self._take(hold, levels)
            hold.state = state = RELEASED
            self._save(levels, consumed=True)
        return state

    def record(
        self, tenant: str, day: int, tokens: int, cost_picos: int, now_ms: int, hold: Hold | None = None
    ) -> tuple[int, int, int] | None:
        """Count usage of a day, or of its hold's. Returns state and what is beyond the hold when there was one."""
        levels = self._path(tenant, now_ms)
        day = day if hold is None else hold.day
        for level in levels.values():
            if day - now_ms // MS // DAY_S in (0, 1):
                used_tokens, used_cost = level.days.get(day, (0, 0))
                level.days[day] = (used_tokens + tokens, used_cost + cost_picos)
        settlement = None
        if hold is not None:
            state = self._state(hold, levels)
            settlement = (SETTLED_BEFORE if state == SETTLED else state, 0, 0)
            if state == HELD:
                self._take(hold, levels)
                hold.state = SETTLED
                settlement = (SETTLED, max(tokens - hold.tokens, 0), max(cost_picos - hold.cost, 0))
        self._save(levels, consumed=True)
        return settlement

    def status(self, tenant: str, now_ms: int) -> list[Status]:
        """Return every limit of a tenant and its parents."""
        levels = self._path(tenant, now_ms)
        found = self._statuses(levels, now_ms, ONE_MORE, ONE_MORE, set())
        return [
            replace(
                limit,
                exceeded=limit.used >= limit.maximum and not limit.shadow,
                would_deny=limit.used >= limit.maximum and limit.shadow,
            )
            for limit in found
        ]

    def status_of(self, tenant: str, now_ms: int) -> Level:
        """Return one level as it stands at an instant."""
        return self._at(tenant, now_ms)

    def _decide(
        self, tenant: str, needs: Mapping[int, int], now_ms: int, *, consume: bool, ttl_s: int = 0
    ) -> tuple[Answer, Hold | None]:
        levels = self._path(tenant, now_ms)
        needed = {kind: max(needs.get(kind, 0), 1) for kind in (REQUESTS, TOKENS, COST)}
        failed = {
            (name, kind)
            for name, level in levels.items()
            for kind in level.maxima
            if level.is_full(kind, name, needed[kind])
        }
        hold = None
        allowed = not denying(levels, failed)
        if allowed and consume:
            for level in levels.values():
                second = now_ms // MS
                level.window[second] = level.window.get(second, 0) + needed[REQUESTS]
            if ttl_s:
                hold = Hold(tenant, now_ms // MS // DAY_S, needs.get(TOKENS, 0), needs.get(COST, 0))
                for name, level in levels.items():
                    level.shift = level.shift or 0
                    hold.expiry[name] = expiry_of(level, ttl_s)
                    level.holds = [*level.holds, hold]
        self._save(levels, consumed=allowed and consume)
        return self._answer(levels, failed, needed, now_ms, allowed=allowed), hold

    def _answer(
        self,
        levels: Mapping[str, Level],
        failed: set[tuple[str, int]],
        needs: Mapping[int, int],
        now_ms: int,
        *,
        allowed: bool,
    ) -> Answer:
        limits = self._statuses(levels, now_ms, needs, ONE_MORE if allowed else needs, failed)
        if allowed:
            return Answer(True, limits, None)  # noqa: FBT003 (the field says what it is)
        frees = [levels[name].free_second(kind, name, needs[kind]) for name, kind in denying(levels, failed)]
        latest = max((free for free in frees if free is not None), default=0)
        if None in frees:
            return Answer(False, limits, None)  # noqa: FBT003
        tomorrow = now_ms // MS // DAY_S + 1
        if latest // DAY_S == tomorrow and any(
            level.used(kind, tomorrow) + needs[kind] > maximum
            for level in levels.values()
            for kind, maximum in level.maxima.items()
            if kind != REQUESTS and kind not in level.shadow
        ):
            # Usage dated ahead fills tomorrow's limits.
            latest = (tomorrow + 1) * DAY_S
        return Answer(False, limits, max(latest * MS - now_ms, 0))  # noqa: FBT003

    @staticmethod
    def _state(hold: Hold, levels: Mapping[str, Level]) -> int:
        is_live = hold in levels[hold.tenant].live_holds(hold.tenant)
        return EXPIRED if hold.state == HELD and not is_live else hold.state

    @staticmethod
    def _take(hold: Hold, levels: Mapping[str, Level]) -> None:
        for level in levels.values():
            level.holds = [other for other in level.holds if other is not hold]

    def _path(self, tenant: str, now_ms: int) -> dict[str, Level]:
        return {name: self._at(name, now_ms) for name in path_of(tenant)}

    def _at(self, tenant: str, now_ms: int) -> Level:
        level = self._levels.get(tenant, Level(second=now_ms // MS)).at(now_ms // MS)
        plan = level.settings.plan if level.settings else DEFAULT_PLANS[tenant.count("/")]
        level.put_in_force(self._plans.get(plan))
        return level

    def _save(self, levels: Mapping[str, Level], *, consumed: bool) -> None:
        for name, level in levels.items():
            # Where the clock went back, the window begins anew even when nothing was consumed.
            if consumed or (name in self._levels and self._levels[name].second > level.second):
                level.holds = level.live_holds(name)
                self._levels[name] = level

    @staticmethod
    def _statuses(
        levels: Mapping[str, Level],
        now_ms: int,
        needs: Mapping[int, int],
        others: Mapping[int, int],
        failed: set[tuple[str, int]],
    ) -> list[Status]:
        """Return the limits. others: what those that have room are asked for."""
        midnight_ms = (now_ms // MS // DAY_S + 1) * DAY_S * MS
        found = []
        for name, level in levels.items():
            for kind in sorted(level.maxima):
                maximum, used, held = level.maxima[kind], level.used(kind), level.held(kind, name)
                is_full = (name, kind) in failed
                reset_ms: int | None = midnight_ms if maximum else None
                if kind == REQUESTS or is_full:
                    free_s = level.free_second(kind, name, (needs if is_full else others)[kind])
                    reset_ms = None if free_s is None else max(free_s * MS, now_ms)
                wait_ms = None if reset_ms is None else reset_ms - now_ms
                is_watched = kind in level.shadow
                found.append(
                    Status(
                        name,
                        kind,
                        maximum,
                        used,
                        held,
                        max(maximum - used - held, 0),
                        reset_ms,
                        wait_ms if is_full else 0,
                        is_full and not is_watched,
                        is_watched,
                        is_full and is_watched,
                        level.settings.until_s * MS if level.settings and kind in level.temporary else None,
                    )
                )
        return found


def denying(levels: Mapping[str, Level], full: set[tuple[str, int]]) -> set[tuple[str, int]]:
    """Return those of the limits without room that are not only watched."""
    return {(name, kind) for name, kind in full if kind not in levels[name].shadow}
