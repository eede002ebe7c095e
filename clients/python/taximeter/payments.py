# SPDX-License-Identifier: Apache-2.0
"""How accounts pay, and what goes to the payment provider. All values are immutable; times are in UTC."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentAccount:
    """How an account pays: the first segment of a tenant's path."""

    tenant: str
    """The account."""
    name: str = ""
    """Who is billed. Empty: the tenant."""
    email: str = ""
    """Where the payment provider writes to."""
    address_lines: tuple[str, ...] = ()
    """Postal address."""
    tax_id: str = ""
    """Tax number of the customer."""
    report_usage: bool = False
    """Whether usage is reported to the payment provider."""
    provider_customer_id: str = ""
    """The payment provider's id. Empty before it was told."""
    update_time: datetime | None = field(default=None, compare=False)
    """When it was put."""


@dataclass(frozen=True, slots=True)
class PaymentCard:
    """A card as the payment provider shows it."""

    brand: str
    """Brand, such as "visa"."""
    last4: str
    """Last four digits."""
    expire_month: int
    """Month in which it ends, 1 to 12."""
    expire_year: int
    """Year in which it ends."""


class PaymentKind(StrEnum):
    """What is pushed."""

    INVOICE = "INVOICE"
    """A final invoice."""
    USAGE = "USAGE"
    """Usage of a UTC day."""
    TOP_UP = "TOP_UP"
    """A charge for credits."""
    CREDIT_NOTE = "CREDIT_NOTE"
    """A credit note to an invoice that was pushed."""
    VOID = "VOID"
    """The end of an invoice that was pushed, and is void."""
    UNRECOGNIZED = "UNRECOGNIZED"
    """A kind that this client does not know yet."""


class PaymentState(StrEnum):
    """How far it is."""

    PENDING = "PENDING"
    """To be pushed, for the first time or again."""
    DONE = "DONE"
    """The provider has it."""
    FAILED = "FAILED"
    """Given up."""
    UNRECOGNIZED = "UNRECOGNIZED"
    """A state that this client does not know yet."""


@dataclass(frozen=True, slots=True)
class Payment:
    """One document on its way to the payment provider."""

    id: str
    """Says what it is."""
    kind: PaymentKind
    """What it is."""
    tenant: str
    """The account."""
    state: PaymentState
    """How far it is."""
    attempt_count: int
    """Attempts so far."""
    last_problem: str
    """Why the last attempt failed. Empty when it succeeded."""
    provider_id: str
    """The provider's id of what it has made."""
    create_time: datetime
    """When it was queued."""
    last_attempt_time: datetime | None
    """When the last attempt was made. None before the first."""
    next_attempt_time: datetime | None
    """When the next attempt is made. None when there is none."""
