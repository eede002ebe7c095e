# SPDX-License-Identifier: Apache-2.0
"""Credits that are bought: by hand, and by the server itself when few are left."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class TopUpState(StrEnum):
    """How far a top-up is."""

    PENDING = "PENDING"
    """The card is to be charged, for the first time or again."""
    DONE = "DONE"
    """Charged, and granted."""
    FAILED = "FAILED"
    """Given up; `Meter.retry_payment` tries again."""
    UNRECOGNIZED = "UNRECOGNIZED"
    """A state that this client does not know yet."""


@dataclass(frozen=True, slots=True)
class TopUp:
    """A purchase of credits."""

    tenant: str
    """The root tenant."""
    request_id: str
    """Its name; those that the server makes by itself begin with `auto.`."""
    amount_microcredits: int
    """How many."""
    price_minor: int
    """What the card is charged, in minor units of the currency, such as cents."""
    currency_code: str
    """Of ISO 4217."""
    state: TopUpState
    """How far it is."""
    problem: str
    """Why the last attempt to charge the card failed. Empty when none has."""
    decline_count: int
    """Times that the card was declined."""
    next_attempt_time: datetime | None
    """When the card is charged next. None unless it is pending."""
    create_time: datetime
    """When it was begun."""
    finish_time: datetime | None
    """When its credits were granted, or it was given up. None while it is pending."""
    grant_id: str
    """The grant that it makes."""
    payment_id: str
    """The payment that charges for it, as in `Meter.list_payments`."""
    external_id: str
    """What the payment provider calls the charge. Empty before it succeeded."""
    minor_digits: int
    """Decimals of the currency."""


class AutomaticTopUpState(StrEnum):
    """What happens when few credits are left."""

    READY = "READY"
    """Credits are bought as soon as the balance falls below the threshold."""
    PENDING = "PENDING"
    """A top-up is pending; nothing else is bought before it is over."""
    WAITING = "WAITING"
    """The cooldown, or the maximum of the day, lets nothing be bought for now."""
    DECLINED = "DECLINED"
    """The card was declined, and is charged again later."""
    SUSPENDED = "SUSPENDED"
    """The last one failed for good: retry it, or buy by hand."""
    NOT_CONFIGURED = "NOT_CONFIGURED"
    """The server has no payment provider."""
    NO_ACCOUNT = "NO_ACCOUNT"
    """Nobody has said yet how this account pays."""
    UNRECOGNIZED = "UNRECOGNIZED"
    """A state that this client does not know yet."""


@dataclass(frozen=True, slots=True)
class AutomaticTopUp:
    """What the server does by itself when few credits are left."""

    state: AutomaticTopUpState
    """What happens now."""
    problem: str
    """What stands in the way, for people. Empty where nothing does."""
    next_time: datetime | None
    """From when on the next may be bought, or when the card is charged again."""
    last: TopUp | None
    """The last that the server began by itself."""
