# SPDX-License-Identifier: Apache-2.0
"""What credits must be, in plain Python: the oracle of the tests, as slow and as simple as can be."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from taximeter_server.credit_grant import ALLOW, OVERDRAFT, PROMO, AccountSettings, Grant

NOBODY = ""
"""Stands for a grant where none covers."""
Move = tuple[str, int]
"""(grant, microcredits that it adds to the balance)."""


@dataclass(frozen=True)
class Line:
    """One class of a call. cost_picos: exact."""

    usage_class: str
    cost_picos: int


@dataclass
class Held:
    """What a hold claims, until a second."""

    until: int
    claims: dict[str, int]


@dataclass
class ModelGrant:
    """A grant with what is left of it."""

    grant: Grant
    created_ms: int
    remaining: int
    effective: int
    expire: int

    @property
    def rank(self) -> tuple[object, ...]:
        """The order in which grants are used."""
        grant = self.grant
        narrowness = {(True, True): 0, (True, False): 1, (False, True): 2, (False, False): 3}
        scope = narrowness[bool(grant.models), bool(grant.usage_classes)]
        expire = self.expire or float("inf")
        return (grant.priority, expire, grant.kind != PROMO, scope, self.created_ms, grant.grant_id)

    def gives(self, model: str, usage_class: str) -> bool:
        """Say whether it may be used for a line."""
        models, classes = self.grant.models, self.grant.usage_classes
        return (not models or model in models) and (not classes or not usage_class or usage_class in classes)

    def is_usable(self, now: int) -> bool:
        """Say whether it is in force."""
        return self.effective <= now and (self.expire == 0 or now < self.expire)


@dataclass
class ModelAccount:
    """An account. Every method takes the present second."""

    settings: AccountSettings
    grants: dict[str, ModelGrant] = field(default_factory=dict)
    holds: dict[str, Held] = field(default_factory=dict)
    overdrawn: int = 0
    used: int = 0
    granted: int = 0
    balance: int = 0

    def microcredits(self, cost_picos: int) -> int:
        """Convert, half to even: what round() does with a fraction."""
        return round(Fraction(cost_picos, self.settings.picos_per_microcredit))

    def held(self, now: int, *, without: str = "") -> Mapping[str, int]:
        """Return what live holds claim, by grant."""
        sums: dict[str, int] = defaultdict(int)
        for name, hold in self.holds.items():
            if hold.until > now and name != without:
                for grant_id, amount in hold.claims.items():
                    sums[grant_id] += amount
        return sums

    def allot(
        self,
        model: str,
        amounts: Sequence[tuple[str, int]],
        now: int,
        kept: Mapping[str, int],
        own: Mapping[str, int],
    ) -> list[Move]:
        """Return what a call takes."""
        taken: dict[str, int] = defaultdict(int)
        surplus = max(-self.overdrawn, 0)
        moves = []
        for usage_class, amount in amounts:
            left = amount
            part = min(surplus, left)
            surplus, left = surplus - part, left - part
            if part:
                moves.append((NOBODY, -part))
            for one in sorted(self.grants.values(), key=lambda one: one.rank):
                grant_id = one.grant.grant_id
                if one.is_usable(now):
                    room = one.remaining - kept.get(grant_id, 0)
                else:
                    room = min(one.remaining, own.get(grant_id, 0))
                part = min(left, room - taken[grant_id])
                if part > 0 and one.gives(model, usage_class):
                    taken[grant_id] += part
                    left -= part
                    moves.append((grant_id, -part))
            if left:
                moves.append((NOBODY, -left))
        return moves

    def apply(self, moves: Sequence[Move], *, is_usage: bool) -> None:
        """Do what moves say."""
        for grant_id, more in moves:
            self.balance += more
            if grant_id == NOBODY:
                self.overdrawn -= more
            else:
                self.grants[grant_id].remaining += more
            if is_usage:
                self.used -= more
            else:
                self.granted += more

    def grant(self, grant: Grant, now: int, now_ms: int) -> None:
        """Give a grant, which pays what is owed first."""
        effective, expire = -(-grant.effective_time_ms // 1000), -(-grant.expire_time_ms // 1000)
        given = ModelGrant(grant, now_ms, 0, effective, expire)
        self.grants[grant.grant_id] = given
        moves = [(grant.grant_id, grant.amount_microcredits)]
        owed = min(self.overdrawn, grant.amount_microcredits)
        is_for_all = not grant.models and not grant.usage_classes
        if owed > 0 and self.settings.policy != ALLOW and is_for_all and given.is_usable(now):
            moves += [(grant.grant_id, -owed), (NOBODY, owed)]
        self.apply(moves, is_usage=False)

    def record(self, model: str, lines: Sequence[Line], now: int, hold: str = "") -> list[Move]:
        """Debit usage."""
        found = self.holds.get(hold)
        own = found.claims if found and found.until > now else {}
        amounts = [(line.usage_class, self.microcredits(line.cost_picos)) for line in lines]
        moves = self.allot(model, amounts, now, {}, own)
        self.apply(moves, is_usage=True)
        self.holds.pop(hold, None)
        return moves

    def is_allowed(self, model: str, lines: Sequence[Line], now: int) -> bool:
        """Say whether a check passes."""
        moves = self.allot(model, self.needed(lines), now, self.held(now), {})
        missing = -sum(more for grant_id, more in moves if grant_id == NOBODY)
        missing -= min(missing, max(-self.overdrawn, 0))
        if self.settings.policy == ALLOW:
            return True
        limit = self.settings.overdraft_microcredits if self.settings.policy == OVERDRAFT else 0
        return max(self.overdrawn, 0) + self.held(now).get(NOBODY, 0) + missing <= limit

    def needed(self, lines: Sequence[Line]) -> list[tuple[str, int]]:
        """Return what a check asks for: something at least."""
        amounts = [(line.usage_class, self.microcredits(line.cost_picos)) for line in lines]
        return amounts if any(amount for _, amount in amounts) else [(NOBODY, 1)]

    def hold(self, name: str, model: str, lines: Sequence[Line], now: int, until: int) -> None:
        """Place a hold that was allowed."""
        moves = self.allot(model, self.needed(lines), now, self.held(now), {})
        claims: dict[str, int] = defaultdict(int)
        for grant_id, more in moves:
            claims[grant_id] -= more
        self.holds[name] = Held(until, dict(claims))

    def end(self, grant_id: str, now: int) -> None:
        """Take what is left of a grant and claimed by nobody."""
        one = self.grants[grant_id]
        rest = one.remaining - min(one.remaining, self.held(now).get(grant_id, 0))
        if rest > 0:
            self.apply([(grant_id, -rest)], is_usage=False)

    def void(self, grant_id: str, now: int) -> None:
        """Void a grant: its unused part."""
        one = self.grants[grant_id]
        if one.remaining > self.held(now).get(grant_id, 0):
            self.end(grant_id, now)
            one.effective, one.expire = min(one.effective, now), now

    def expire_all(self, now: int) -> None:
        """Expire what has come to its time."""
        for grant_id, one in self.grants.items():
            if 0 < one.expire <= now:
                self.end(grant_id, now)

    def available(self, now: int) -> int:
        """Return what has been granted and is in force."""
        held = self.held(now)
        idle = sum(
            one.remaining - min(one.remaining, held.get(grant_id, 0))
            for grant_id, one in self.grants.items()
            if not one.is_usable(now)
        )
        return self.granted - idle
