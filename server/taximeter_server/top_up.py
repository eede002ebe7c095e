# SPDX-License-Identifier: Apache-2.0
"""A purchase of credits: what it says, what became of it, and when the next one is made by itself."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Self

from taximeter_server.credit_grant import MICROCREDITS_PER_CREDIT, PAID, Grant
from taximeter_server.errors import StoreCorruptError
from taximeter_server.invoice import divided, minor_digits, to_picos
from taximeter_server.plan_terms import CreditTerms, TopUpTerms

PENDING, DONE, FAILED = "pending", "done", "failed"
"""States of a purchase."""
READY, WAITING, DECLINED, SUSPENDED = "ready", "waiting", "declined", "suspended"
NOT_CONFIGURED, NO_ACCOUNT = "not_configured", "no_account"
"""With PENDING, what may happen when few credits are left."""
AUTOMATIC_PREFIX = "auto."
GRANT_PREFIX = "top-up."

_MS_PER_SECOND = 1_000
_MS_PER_DAY = 86_400_000


@dataclass(frozen=True, slots=True, kw_only=True)
class TopUp:
    """A purchase. price_minor: in minor units of the currency. Times are milliseconds since 1970 UTC.

    external_id: of the charge at the payment provider, "" before it succeeded. finish_time_ms: None while pending.
    """

    tenant: str
    request_id: str
    amount_microcredits: int
    price_minor: int
    currency_code: str
    create_time_ms: int
    state: str = PENDING
    external_id: str = ""
    finish_time_ms: int | None = None

    @property
    def is_automatic(self) -> bool:
        """Whether the server began it by itself."""
        return self.request_id.startswith(AUTOMATIC_PREFIX)

    @property
    def payment_id(self) -> str:
        """The payment that charges for it."""
        return f"top-up/{self.tenant}/{self.request_id}"

    @property
    def description(self) -> str:
        """What the card is charged for, for people."""
        whole, rest = divmod(self.amount_microcredits, MICROCREDITS_PER_CREDIT)
        return f"{whole:,}{f'.{rest:06}'.rstrip('0') if rest else ''} credits"

    @property
    def grant(self) -> Grant:
        """What it gives: the same however often it is asked for."""
        return Grant(
            grant_id=f"{GRANT_PREFIX}{self.request_id}",
            amount_microcredits=self.amount_microcredits,
            kind=PAID,
            cost_basis_picos=to_picos(self.price_minor, minor_digits(self.currency_code)),
            note="bought by itself" if self.is_automatic else "bought",
        )

    def to_json(self) -> str:
        """Return the stored form."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, document: str) -> Self:
        """Read the stored form. Raises StoreCorruptError."""
        try:
            return cls(**json.loads(document))
        except (ValueError, TypeError) as error:
            raise StoreCorruptError(f"top-up document: {error}") from error


def price_minor(terms: CreditTerms | None, rate_picos: int, amount_microcredits: int, currency: str) -> int:
    """Return what an amount costs, in minor units: by the plan's top-up, or what credits stand for.

    rate_picos: pico-units that a microcredit stands for, where the terms have no top-up.
    """
    top_up = None if terms is None else terms.top_up
    price_picos, of_microcredits = (rate_picos, 1)
    if top_up is not None:
        price_picos, of_microcredits = top_up.price_picos, top_up.amount_microcredits
    # Rounded once: by way of pico-units, what is a little less than half a cent could become half of one.
    return divided(price_picos * amount_microcredits, of_microcredits * to_picos(1, minor_digits(currency)))


def next_time(terms: TopUpTerms, top_ups: Sequence[TopUp], now_ms: int) -> tuple[str, int | None]:
    """Return what may happen by itself now, and when it may again where only time stands in the way.

    top_ups: all of the account. READY, PENDING, WAITING until the time, or SUSPENDED.
    """
    if any(one.state == PENDING for one in top_ups):
        return PENDING, None
    own = sorted((one for one in top_ups if one.is_automatic), key=lambda one: one.create_time_ms)
    if own and own[-1].state == FAILED and not _has_succeeded_since(own[-1], top_ups):
        return SUSPENDED, None
    free_ms = own[-1].create_time_ms + terms.cooldown_s * _MS_PER_SECOND if own else 0
    midnight_ms = now_ms - now_ms % _MS_PER_DAY
    if sum(one.create_time_ms >= midnight_ms for one in own) >= terms.daily_count_max:
        free_ms = max(free_ms, midnight_ms + _MS_PER_DAY)
    return (READY, None) if free_ms <= now_ms else (WAITING, free_ms)


def _has_succeeded_since(failed: TopUp, top_ups: Sequence[TopUp]) -> bool:
    return any(
        one.state == DONE and (one.finish_time_ms or 0) >= (failed.finish_time_ms or 0) for one in top_ups
    )
