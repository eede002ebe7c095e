# SPDX-License-Identifier: Apache-2.0
"""What an admin says of credits: the settings of an account, and grants."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from taximeter_server.errors import FieldViolation, InvalidFieldsError

MICROCREDITS_MAX = 2**53 - 1
"""Of one grant and of all sums of an account: the store counts in numbers that are exact to here."""
MICROCREDITS_PER_CREDIT = 1_000_000
PICOS_PER_MICROCREDIT_MAX = 10**12
PRIORITY_MAX = 1_000
NOTE_LENGTH_MAX = 1_000
SCOPE_COUNT_MAX = 100
COST_BASIS_PICOS_MAX = 2**63 - 1

BLOCK, OVERDRAFT, ALLOW = "block", "overdraft", "allow"
POLICIES = {BLOCK: 1, OVERDRAFT: 2, ALLOW: 3}
"""What happens when credits run out, with the engine's numbers."""
PAID, PROMO = "paid", "promo"
GRANT_KINDS = (PAID, PROMO)

_GRANT_ID = re.compile(r"[A-Za-z0-9._-]{1,100}")
_NAME_LENGTH_MAX = 200
_TIME_MS_MAX = 253_402_300_799_000
_MS_PER_SECOND = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountSettings:
    """picos_per_microcredit: pico-units of the currency that one microcredit stands for; pinned when the account opens.

    policy: BLOCK denies the next call when nothing is left, OVERDRAFT when more than overdraft_microcredits is owed,
    ALLOW never. What is owed under the first two is paid by the next grant first; under ALLOW it is overage.
    """

    picos_per_microcredit: int
    policy: str = BLOCK
    overdraft_microcredits: int = 0

    def check(self) -> None:
        """Raise InvalidFieldsError with all that is wrong."""
        violations = [
            *_range("picos_per_microcredit", self.picos_per_microcredit, 1, PICOS_PER_MICROCREDIT_MAX),
            *_range("overdraft_microcredits", self.overdraft_microcredits, 0, MICROCREDITS_MAX),
        ]
        if self.policy not in POLICIES:
            violations.append(FieldViolation("account.policy", "block, overdraft or allow"))
        elif self.overdraft_microcredits and self.policy != OVERDRAFT:
            violations.append(
                FieldViolation("account.overdraft_microcredits", "only with the policy overdraft")
            )
        if violations:
            raise InvalidFieldsError(violations)

    def to_change(self) -> dict[str, Any]:
        """Return them as the engine takes them."""
        return {
            "picos_per_microcredit": self.picos_per_microcredit,
            "policy": POLICIES[self.policy],
            "overdraft_microcredits": self.overdraft_microcredits,
        }

    @classmethod
    def of_change(cls, change: dict[str, Any]) -> "AccountSettings":
        """Read what to_change made."""
        names = {number: name for name, number in POLICIES.items()}
        return cls(
            picos_per_microcredit=change["picos_per_microcredit"],
            policy=names[change["policy"]],
            overdraft_microcredits=change["overdraft_microcredits"],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """Credits that a tenant may use. Of several grants the one with the lowest priority is used first.

    kind: PAID or PROMO. effective_time_ms: 0 for at once. expire_time_ms: exclusive, 0 for never. Both are milliseconds
    since 1970 UTC, and count from the next whole second. models, usage_classes: what it may be used for, empty for
    everything; a model is named as records name it, or as the rate card's row does. cost_basis_picos: what was paid
    for it in all, in pico-units.
    """

    grant_id: str
    amount_microcredits: int
    kind: str = PAID
    priority: int = 100
    effective_time_ms: int = 0
    expire_time_ms: int = 0
    models: tuple[str, ...] = ()
    usage_classes: tuple[str, ...] = ()
    cost_basis_picos: int = 0
    note: str = ""

    def check(self) -> None:
        """Raise InvalidFieldsError with all that is wrong."""
        violations = [
            *_range("amount_microcredits", self.amount_microcredits, 1, MICROCREDITS_MAX, "grant"),
            *_range("priority", self.priority, 0, PRIORITY_MAX, "grant"),
            *_range("effective_time", self.effective_time_ms, 0, _TIME_MS_MAX, "grant"),
            *_range("expire_time", self.expire_time_ms, 0, _TIME_MS_MAX, "grant"),
            *_range("cost_basis_picos", self.cost_basis_picos, 0, COST_BASIS_PICOS_MAX, "grant"),
            *_scope("models", self.models),
            *_scope("usage_classes", self.usage_classes),
        ]
        if not self.grant_id:
            violations.append(FieldViolation("grant.grant_id", "required", "FIELD_REQUIRED"))
        elif not _GRANT_ID.fullmatch(self.grant_id):
            violations.append(FieldViolation("grant.grant_id", "1 to 100 characters of A-Z a-z 0-9 . _ -"))
        if self.kind not in GRANT_KINDS:
            violations.append(FieldViolation("grant.kind", "paid or promo"))
        if self.expire_time_ms and self.expire_time_ms <= self.effective_time_ms:
            violations.append(FieldViolation("grant.expire_time", "must be after effective_time"))
        if len(self.note) > NOTE_LENGTH_MAX:
            violations.append(FieldViolation("grant.note", f"at most {NOTE_LENGTH_MAX} characters"))
        if violations:
            raise InvalidFieldsError(violations)

    def to_change(self) -> dict[str, Any]:
        """Return it as the engine takes it."""
        return {
            "grant_id": self.grant_id,
            "amount_microcredits": self.amount_microcredits,
            "kind": self.kind,
            "is_paid": self.kind == PAID,
            "priority": self.priority,
            "effective_second": _seconds(self.effective_time_ms),
            "expire_second": _seconds(self.expire_time_ms),
            "effective_time_ms": self.effective_time_ms,
            "expire_time_ms": self.expire_time_ms,
            "models": list(self.models),
            "usage_classes": list(self.usage_classes),
            # A text: the store does not count with it, and its numbers would cut it.
            "cost_basis_picos": str(self.cost_basis_picos),
            "note": self.note,
        }

    @classmethod
    def of_change(cls, change: dict[str, Any]) -> "Grant":
        """Read what to_change made."""
        return replace(
            cls(grant_id=change["grant_id"], amount_microcredits=change["amount_microcredits"]),
            kind=change["kind"],
            priority=change["priority"],
            effective_time_ms=change["effective_time_ms"],
            expire_time_ms=change["expire_time_ms"],
            models=tuple(change["models"]),
            usage_classes=tuple(change["usage_classes"]),
            cost_basis_picos=int(change["cost_basis_picos"]),
            note=change["note"],
        )


def _seconds(time_ms: int) -> int:
    return -(-time_ms // _MS_PER_SECOND)


def _range(name: str, value: int, least: int, most: int, parent: str = "account") -> Sequence[FieldViolation]:
    return () if least <= value <= most else (FieldViolation(f"{parent}.{name}", f"{least} to {most}"),)


def _scope(name: str, names: Sequence[str]) -> Sequence[FieldViolation]:
    if len(names) > SCOPE_COUNT_MAX:
        return (FieldViolation(f"grant.{name}", f"at most {SCOPE_COUNT_MAX}"),)
    if any(not 0 < len(one) <= _NAME_LENGTH_MAX for one in names):
        return (FieldViolation(f"grant.{name}", f"names of 1 to {_NAME_LENGTH_MAX} characters"),)
    return ()
