# SPDX-License-Identifier: Apache-2.0
"""What a subscription to a plan costs and includes. A subscription keeps a copy, so a plan may change at any time."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

from taximeter_server.credit_grant import (
    ALLOW,
    BLOCK,
    MICROCREDITS_MAX,
    OVERDRAFT,
    PICOS_PER_MICROCREDIT_MAX,
)
from taximeter_server.currency import CURRENCIES
from taximeter_server.errors import FieldViolation, InvalidFieldsError

PICOS_PER_UNIT = 10**12
PRICE_PICOS_MAX = 10**12 * PICOS_PER_UNIT

DAY, MONTH, YEAR = "day", "month", "year"
CADENCE_COUNTS_MAX = {DAY: 366, MONTH: 12, YEAR: 1}
"""No period is longer than a year."""
OVERAGE_POLICIES = (BLOCK, OVERDRAFT, ALLOW)

DUE_DAYS_DEFAULT = 14
DUE_DAYS_MAX = 365
EXPIRE_DAYS_MAX = 3_660
COOLDOWN_S_DEFAULT = 3_600
COOLDOWN_S_MAX = 30 * 86_400
DAILY_COUNT_MAX = 1_000

Problem = tuple[str, str]
"""Path of a field below the terms, and what it must be."""


@dataclass(frozen=True, slots=True)
class Cadence:
    """count units, of DAY, MONTH, YEAR."""

    unit: str
    count: int

    def problems(self, path: str) -> Iterator[Problem]:
        """Yield what is wrong."""
        maximum = CADENCE_COUNTS_MAX.get(self.unit)
        if maximum is None:
            yield f"{path}.unit", "day, month or year"
        elif not 1 <= self.count <= maximum:
            yield f"{path}.count", f"1 to {maximum} of this unit"


@dataclass(frozen=True, slots=True, kw_only=True)
class TopUpTerms:
    """When how many credits are bought, and at which price."""

    amount_microcredits: int
    price_picos: int
    threshold_microcredits: int
    cooldown_s: int = COOLDOWN_S_DEFAULT
    daily_count_max: int = 1

    def problems(self, path: str) -> Iterator[Problem]:
        """Yield what is wrong."""
        yield from _outside(f"{path}.amount_microcredits", self.amount_microcredits, 1, MICROCREDITS_MAX)
        yield from _outside(f"{path}.price", self.price_picos, 0, PRICE_PICOS_MAX)
        yield from _outside(
            f"{path}.threshold_microcredits", self.threshold_microcredits, 0, MICROCREDITS_MAX
        )
        yield from _outside(f"{path}.cooldown", self.cooldown_s, 0, COOLDOWN_S_MAX)
        yield from _outside(f"{path}.daily_count_max", self.daily_count_max, 1, DAILY_COUNT_MAX)


@dataclass(frozen=True, slots=True, kw_only=True)
class CreditTerms:
    """What credits are worth. included_expire_days: None is with the period, 0 never.

    overage_picos: price of a credit that was used and not covered, None for nothing.
    """

    picos_per_microcredit: int
    included_microcredits: int = 0
    included_expire_days: int | None = None
    overage_picos: int | None = None
    overage_policy: str = BLOCK
    overdraft_microcredits: int = 0
    top_up: TopUpTerms | None = None

    def problems(self, path: str) -> Iterator[Problem]:
        """Yield what is wrong."""
        yield from _outside(
            f"{path}.picos_per_microcredit", self.picos_per_microcredit, 1, PICOS_PER_MICROCREDIT_MAX
        )
        yield from _outside(f"{path}.included_microcredits", self.included_microcredits, 0, MICROCREDITS_MAX)
        if self.included_expire_days is not None:
            yield from _outside(f"{path}.included_expire_days", self.included_expire_days, 0, EXPIRE_DAYS_MAX)
        if self.overage_picos is not None:
            yield from _outside(f"{path}.overage_price", self.overage_picos, 0, PRICE_PICOS_MAX)
            if self.overage_policy != ALLOW:
                # What is owed then is paid by the next grant.
                yield f"{path}.overage_price", "left out with another overage_policy than allow"
        if self.overage_policy not in OVERAGE_POLICIES:
            yield f"{path}.overage_policy", "block, overdraft or allow"
        yield from _outside(
            f"{path}.overdraft_microcredits", self.overdraft_microcredits, 0, MICROCREDITS_MAX
        )
        if self.overdraft_microcredits and self.overage_policy != OVERDRAFT:
            yield f"{path}.overdraft_microcredits", "0 with another overage_policy than overdraft"
        if self.top_up is not None:
            yield from self.top_up.problems(f"{path}.top_up")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanTerms:
    """Price of a whole period, and the rest. Without credits usage is invoiced as it was priced."""

    currency_code: str
    price_picos: int
    cadence: Cadence
    due_days: int = DUE_DAYS_DEFAULT
    credits: CreditTerms | None = None

    def check(self, path: str) -> None:
        """Raise InvalidFieldsError that names every field that is wrong; path: of the terms."""
        problems = list(self.problems(path))
        if problems:
            raise InvalidFieldsError([FieldViolation(field, problem) for field, problem in problems])

    def problems(self, path: str) -> Iterator[Problem]:
        """Yield what is wrong."""
        if self.currency_code not in CURRENCIES:
            yield f"{path}.currency_code", "a code of ISO 4217, such as USD"
        yield from _outside(f"{path}.price", self.price_picos, 0, PRICE_PICOS_MAX)
        yield from self.cadence.problems(f"{path}.cadence")
        yield from _outside(f"{path}.due_days", self.due_days, 0, DUE_DAYS_MAX)
        if self.credits is not None:
            yield from self.credits.problems(f"{path}.credits")

    @classmethod
    def of_document(cls, values: Mapping[str, Any]) -> Self:
        """Read what dataclasses.asdict() made. Raises TypeError or KeyError for anything else."""
        credit_values = values["credits"]
        found = None
        if credit_values is not None:
            top_up = credit_values["top_up"]
            found = CreditTerms(**{**credit_values, "top_up": top_up and TopUpTerms(**top_up)})
        return cls(**{**values, "cadence": Cadence(**values["cadence"]), "credits": found})


def _outside(path: str, value: int, minimum: int, maximum: int) -> Iterator[Problem]:
    if not minimum <= value <= maximum:
        yield path, f"{minimum} to {maximum}"
