# SPDX-License-Identifier: Apache-2.0
"""Credit accounts and grants."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from taximeter.money import decimal_string, parse_picos

MICROCREDITS_PER_CREDIT = 1_000_000
_PICOS_PER_MICRO = 1_000_000


class CreditPolicy(StrEnum):
    """What happens when credits run out."""

    BLOCK = "BLOCK"
    """The next call is denied; what is owed is paid by the next grant first."""
    OVERDRAFT = "OVERDRAFT"
    """Calls that would owe more than the overdraft are denied; what is owed is paid by the next grant first."""
    ALLOW = "ALLOW"
    """Nothing is denied; what no grant covers is overage."""
    UNRECOGNIZED = "UNRECOGNIZED"
    """A policy that this client does not know yet."""


class CreditGrantKind(StrEnum):
    """Where credits come from."""

    PAID = "PAID"
    """Somebody paid for them."""
    PROMO = "PROMO"
    """They were given away."""
    UNRECOGNIZED = "UNRECOGNIZED"
    """A kind that this client does not know yet."""


class CreditGrantState(StrEnum):
    """What became of a grant."""

    PENDING = "PENDING"
    """It takes effect later."""
    ACTIVE = "ACTIVE"
    """Something is left of it."""
    USED = "USED"
    """Nothing is left of it."""
    EXPIRED = "EXPIRED"
    """Its time has passed."""
    VOIDED = "VOIDED"
    """What was left of it was taken back."""
    UNRECOGNIZED = "UNRECOGNIZED"
    """A state that this client does not know yet."""


@dataclass(frozen=True, slots=True)
class CreditAccount:
    """The credits of a root tenant and everything below it, as of one instant."""

    tenant: str
    """The root tenant."""
    picos_per_microcredit: int
    """Pico-units of the currency that one microcredit stands for."""
    policy: CreditPolicy
    """What happens when credits run out."""
    overdraft_microcredits: int
    """How many may be owed, with CreditPolicy.OVERDRAFT."""
    available_microcredits: int
    """Granted, in force, and neither expired nor voided; used up or not."""
    used_microcredits: int
    """What usage has taken in all."""
    balance_microcredits: int
    """available_microcredits - used_microcredits; negative when more was used than granted."""
    overdrawn_microcredits: int
    """What no grant has covered until now."""
    held_microcredits: int
    """What calls in flight hold."""


@dataclass(frozen=True, slots=True)
class CreditGrant:
    """Credits given to an account. What follows `note` is said by the server."""

    grant_id: str
    """Name within the account, 1 to 100 characters of A-Z a-z 0-9 . _ -."""
    amount_microcredits: int
    """How much."""
    kind: CreditGrantKind = CreditGrantKind.PAID
    """Where they come from; promotional ones are used before paid ones of the same priority and expiry."""
    priority: int = 100
    """0 to 1,000; the lowest is used first."""
    effective_time: datetime | None = None
    """From when it can be used. None is at once."""
    expire_time: datetime | None = None
    """When it expires. None is never."""
    models: tuple[str, ...] = ()
    """Models that it may be used for. Empty is all."""
    usage_classes: tuple[str, ...] = ()
    """Usage classes that it may be used for. Empty is all."""
    cost_basis_picos: int = 0
    """What was paid for all of it, in pico-units of the currency."""
    note: str = ""
    """For people."""
    create_time: datetime | None = None
    """When it was granted."""
    remaining_microcredits: int = 0
    """What is left of it, held or not."""
    held_microcredits: int = 0
    """What calls in flight hold of it."""
    state: CreditGrantState = CreditGrantState.ACTIVE
    """What became of it."""
    void_reason: str = ""
    """Why it was voided. Empty unless it was."""


class CreditEntryKind(StrEnum):
    """What an entry of an account is."""

    USAGE = "USAGE"
    """Usage took credits."""
    ADJUSTMENT = "ADJUSTMENT"
    """A record was charged otherwise."""
    VOID = "VOID"
    """A record was taken back."""
    AMENDMENT = "AMENDMENT"
    """A record was amended."""
    ACCOUNT = "ACCOUNT"
    """The account was opened, or its settings changed."""
    GRANT = "GRANT"
    """Credits were granted."""
    EXPIRY = "EXPIRY"
    """What was left of a grant expired."""
    GRANT_VOID = "GRANT_VOID"
    """What was left of a grant was taken back."""
    UNRECOGNIZED = "UNRECOGNIZED"
    """A kind that this client does not know yet."""


@dataclass(frozen=True, slots=True)
class CreditMove:
    """One change of the balance."""

    usage_class: str
    """Usage class of the line that it is for. Empty for none."""
    grant_id: str
    """Grant that gave or got. Empty for what no grant covered."""
    microcredits: int
    """What it changed the balance by."""


@dataclass(frozen=True, slots=True)
class CreditEntry:
    """An entry of the ledger that changed the balance of an account."""

    kind: CreditEntryKind
    """What it is."""
    tenant: str
    """Tenant of the usage; the root tenant for changes of the account."""
    record_id: str
    """The record, or the correction. Empty for changes of the account."""
    model: str
    """Model of the usage. Empty without one."""
    occur_time: datetime
    """When it happened."""
    receive_time: datetime
    """When it was received."""
    note: str
    """Why, of corrections and changes of the account."""
    moves: tuple[CreditMove, ...]
    """What it did, line by line."""
    microcredits: int
    """Sum of the moves: what it changed the balance by."""


def credits_text(microcredits: int) -> str:
    """Writes microcredits as credits, exactly: 1,500,000 is "1.5"."""
    return decimal_string(microcredits * _PICOS_PER_MICRO)


def parse_credits(text: str) -> int:
    """Reads credits, exactly, as microcredits. Raises ValueError with more than six digits after the point."""
    microcredits, rest = divmod(parse_picos(text), _PICOS_PER_MICRO)
    if rest:
        message = f"{text} has more than 6 digits after the point"
        raise ValueError(message)
    return microcredits
