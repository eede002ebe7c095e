# SPDX-License-Identifier: Apache-2.0
"""Limits of a level or a plan, as people set them. The engine reads these objects by their fields."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from taximeter_server.violations import Violations

REQUESTS_PER_MINUTE_MAX = 1_000_000_000
TOKENS_PER_DAY_MAX = 1_000_000_000_000_000
COST_PER_DAY_PICOS_MAX = 2**63 - 1
UNTIL_MS_MAX = 253_402_300_799_000
"""9999-12-31T23:59:59Z"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Maxima; None is no limit, 0 lets nothing pass. shadow: names of the limits that are only watched, in order."""

    requests_per_minute: int | None = None
    tokens_per_day: int | None = None
    cost_per_day_picos: int | None = None
    shadow: tuple[str, ...] = field(default=())

    def check(self, name: str) -> None:
        """Raise InvalidFieldsError for maxima out of range. name: the field that these limits are."""
        violations = Violations()
        maxima = {
            "requests_per_minute": REQUESTS_PER_MINUTE_MAX,
            "tokens_per_day": TOKENS_PER_DAY_MAX,
            "cost_per_day_picos": COST_PER_DAY_PICOS_MAX,
        }
        for limit, maximum in maxima.items():
            value = getattr(self, limit)
            if value is not None and not 0 <= value <= maximum:
                violations.add(f"{name}.{limit}", f"0 to {maximum}")
        violations.raise_any()

    @classmethod
    def of_document(cls, values: Mapping[str, Any]) -> Self:
        """Read limits from a document. Raises TypeError."""
        return cls(**{**values, "shadow": tuple(values.get("shadow", ()))})


@dataclass(frozen=True, slots=True, kw_only=True)
class TemporaryLimits:
    """Limits that stand in for others until an instant, in milliseconds since 1970 UTC."""

    limits: Limits
    until_ms: int

    def check(self, name: str) -> None:
        """Raise InvalidFieldsError. name: the field that these limits are."""
        violations = Violations()
        with violations:
            self.limits.check(f"{name}.limits")
        if not 0 < self.until_ms <= UNTIL_MS_MAX:
            violations.add(f"{name}.until_time", "an instant from 1970 to 9999")
        violations.raise_any()

    @classmethod
    def of_document(cls, values: Mapping[str, Any]) -> Self:
        """Read temporary limits from a document. Raises TypeError, KeyError."""
        return cls(limits=Limits.of_document(values["limits"]), until_ms=values["until_ms"])
