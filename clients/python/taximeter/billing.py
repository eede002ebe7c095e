# SPDX-License-Identifier: Apache-2.0
"""Plans with a price, subscriptions, invoices. A credit is 1,000,000 microcredits; amounts are exact."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from taximeter.money import Money
from taximeter.top_ups import AutomaticTopUp


class CadenceUnit(StrEnum):
    """A unit of the calendar."""

    DAY = "DAY"
    """Days."""
    MONTH = "MONTH"
    """Months."""
    YEAR = "YEAR"
    """Years."""
    UNRECOGNIZED = "UNRECOGNIZED"
    """A unit that this client does not know yet."""


@dataclass(frozen=True, slots=True)
class Cadence:
    """A number of days, months or years."""

    unit: CadenceUnit
    """What is counted."""
    count: int = 1
    """How many: 1 to 366 days, 1 to 12 months, 1 year."""

    def __str__(self) -> str:
        """Writes "month", or "3 months"."""
        unit = self.unit.value.lower()
        return unit if self.count == 1 else f"{self.count} {unit}s"


class OveragePolicy(StrEnum):
    """What happens to calls when no credits are left."""

    BLOCK = "BLOCK"
    """The next check is denied."""
    OVERDRAFT = "OVERDRAFT"
    """Checks are denied when so many credits have been used on top."""
    ALLOW = "ALLOW"
    """Checks are not denied."""
    UNRECOGNIZED = "UNRECOGNIZED"
    """A policy that this client does not know yet."""


@dataclass(frozen=True, slots=True)
class TopUpTerms:
    """Credits that are bought when few are left."""

    amount_microcredits: int
    """Bought at once."""
    price: Money
    """Of them all."""
    threshold_microcredits: int
    """They are bought when fewer than these are left."""
    cooldown: timedelta = timedelta(hours=1)
    """Least time between two."""
    daily_count_max: int = 1
    """Most within 24 hours."""


@dataclass(frozen=True, slots=True)
class CreditTerms:
    """What credits are worth, and what happens when none are left."""

    picos_per_microcredit: int
    """Usage that costs so many pico-units of the currency takes one microcredit."""
    included_microcredits: int = 0
    """Included in each whole period."""
    included_expire_days: int | None = None
    """Days after which included credits expire. 0 is never, None with their period."""
    overage_price: Money | None = None
    """Of a credit that was used and not covered. None: it is not invoiced."""
    overage_policy: OveragePolicy = OveragePolicy.BLOCK
    """What happens to calls when no credits are left."""
    overdraft_microcredits: int = 0
    """With OVERDRAFT: what may be used and not covered."""
    top_up: TopUpTerms | None = None
    """Credits that are bought by themselves. None: none are."""


@dataclass(frozen=True, slots=True)
class PlanTerms:
    """What a subscription to a plan costs and includes."""

    currency_code: str
    """ISO 4217 code in capitals: that of the rate card."""
    price: Money
    """Of a whole period."""
    cadence: Cadence
    """How long a period is."""
    due_days: int = 14
    """Days until an invoice is due."""
    credits: CreditTerms | None = None
    """Usage costs credits. None: usage is invoiced as it was priced."""


class SubscriptionState(StrEnum):
    """What happens to a subscription now."""

    PENDING = "PENDING"
    """It has not begun."""
    TRIAL = "TRIAL"
    """Its price is not charged for now."""
    ACTIVE = "ACTIVE"
    """It goes on."""
    CANCELING = "CANCELING"
    """It goes on, and its end is set."""
    ENDED = "ENDED"
    """It has ended."""
    UNRECOGNIZED = "UNRECOGNIZED"
    """A state that this client does not know yet."""


@dataclass(frozen=True, slots=True)
class NewPhase:
    """A plan that a new subscription takes."""

    plan: str
    """Name of a plan with terms."""
    duration: Cadence | None = None
    """How long it holds. None, for the last alone: until it is changed."""
    trial: bool = False
    """Whether its price is not charged."""


@dataclass(frozen=True, slots=True)
class SubscriptionPhase:
    """A plan and the time from which it holds, until the next."""

    plan: str
    """Name of the plan. Empty from the end on."""
    terms: PlanTerms | None
    """Its terms, as they were when the subscription took it. None at the end."""
    start_time: datetime
    """From when on."""
    trial: bool
    """Whether its price is not charged."""


@dataclass(frozen=True, slots=True)
class CreditCounts:
    """Microcredits that are neither expired nor void. Available less used is what is left; it may be below zero."""

    subscription_available_microcredits: int
    """Included in the subscription."""
    subscription_used_microcredits: int
    """Used of these, and what nothing covered."""
    additional_available_microcredits: int
    """Bought or given on top."""
    additional_used_microcredits: int
    """Used of these."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """What a root tenant has agreed to."""

    tenant: str
    """First segment of a path; everything below counts."""
    time_zone: str
    """IANA time zone of its periods."""
    state: SubscriptionState
    """What happens now."""
    phases: tuple[SubscriptionPhase, ...]
    """The plans since it began and those to come, in order."""
    period_start_time: datetime | None
    """First instant of the current period, of the first one before the start. None after the end."""
    period_end_time: datetime | None
    """First instant after that period."""
    end_time: datetime | None
    """When it ends. None: never."""
    invoiced_until_time: datetime | None
    """Everything before is invoiced. None: nothing is."""
    revision: int
    """Changes so far, from 1."""
    credits: CreditCounts | None = None
    """Credits of the tenant, where one subscription is asked for. None: it has no account of them."""
    automatic_top_up: AutomaticTopUp | None = None
    """What buys credits by itself, where one subscription is asked for. None: the plan in force has no top-up."""

    def phase_at(self, moment: datetime) -> SubscriptionPhase:
        """Returns the plan of an instant; the first one before the start."""
        held = [phase for phase in self.phases if phase.start_time <= moment]
        return held[-1] if held else self.phases[0]


class InvoiceKind(StrEnum):
    """What a document is."""

    INVOICE = "INVOICE"
    """What a tenant owes for a period."""
    CREDIT_NOTE = "CREDIT_NOTE"
    """Part of an invoice that the tenant need not pay, or gets back."""
    REVERSAL = "REVERSAL"
    """Takes back an invoice as a whole."""
    UNRECOGNIZED = "UNRECOGNIZED"
    """A kind that this client does not know yet."""


class InvoiceState(StrEnum):
    """How far a document is."""

    DRAFT = "DRAFT"
    """Without a number; it changes with what is recorded."""
    OPEN = "OPEN"
    """To be paid."""
    PAID = "PAID"
    """Paid, or nothing was to be paid."""
    VOID = "VOID"
    """Taken back."""
    UNRECOGNIZED = "UNRECOGNIZED"
    """A state that this client does not know yet."""


class InvoiceLineKind(StrEnum):
    """What a line is for."""

    PLAN = "PLAN"
    """Price of a plan."""
    USAGE = "USAGE"
    """Usage of a model."""
    OVERAGE = "OVERAGE"
    """Credits used and not covered."""
    ROUNDING = "ROUNDING"
    """Difference between the rounded total and the sum of rounded lines."""
    CREDIT = "CREDIT"
    """Credit or reversal of an invoice."""
    CARRY = "CARRY"
    """What an invoice of less than nothing leaves for the next one."""
    TOP_UP = "TOP_UP"
    """Credits that were bought in the period."""
    TOP_UP_PAYMENT = "TOP_UP_PAYMENT"
    """What was paid for credits when they were bought."""
    UNRECOGNIZED = "UNRECOGNIZED"
    """A kind that this client does not know yet."""


class InvoiceFormat(StrEnum):
    """How a document is written."""

    HTML = "HTML"
    """One page of HTML, which loads nothing."""
    PDF = "PDF"
    """PDF on A4."""


@dataclass(frozen=True, slots=True)
class InvoiceLine:
    """An amount and what it is for."""

    kind: InvoiceLineKind
    """What it is for."""
    description: str
    """For people."""
    service_start_time: datetime
    """First instant of the service; of a correction, of the period that the usage belongs to."""
    service_end_time: datetime
    """First instant after it."""
    item: str
    """Plan or model; empty where there is none."""
    quantity: int
    """How much, in `unit`."""
    unit: str
    """"seconds", "calls", "microcredits", or empty."""
    amount: Money
    """Exactly."""
    amount_minor: int
    """In minor units of the currency, rounded."""
    correction: bool
    """Whether it changes what an earlier invoice said of an earlier period."""


@dataclass(frozen=True, slots=True)
class Invoice:
    """An invoice, a credit note or a reversal. Amounts in minor units, such as cents, are whole numbers."""

    invoice_id: str
    """Root tenant, a slash, and what tells its documents apart."""
    kind: InvoiceKind
    """What it is."""
    state: InvoiceState
    """How far it is."""
    number: str
    """Without gaps in its series. Empty for a draft."""
    tenant: str
    """Root tenant."""
    customer_name: str
    """Display name of the tenant. Empty without one."""
    currency_code: str
    """ISO 4217 code."""
    minor_digits: int
    """Decimals of the currency."""
    period_start_time: datetime
    """First instant of what is invoiced."""
    period_end_time: datetime
    """First instant after it."""
    time_zone: str
    """IANA time zone for dates."""
    lines: tuple[InvoiceLine, ...]
    """Their amounts add up to the total, in minor units and exactly."""
    total_minor: int
    """Negative for what the tenant gets back."""
    credited_minor: int
    """Of credit notes to this invoice."""
    due_minor: int
    """To be paid."""
    finalize_time: datetime | None
    """When it got its number. None for a draft."""
    due_time: datetime | None
    """When payment is due."""
    paid_time: datetime | None
    """When it was paid."""
    void_time: datetime | None
    """When it was made void."""
    due_finalize_time: datetime | None
    """When a draft is finalised by itself."""
    as_of: str
    """Position in the ledger that it was computed at."""
    content_sha256: str
    """Seals what it says. Empty for a draft."""
    original_invoice_id: str
    """What a credit note or reversal is about."""
    reason: str
    """Why there is a credit note or reversal."""
    url: str
    """Page to pay it at. Empty without one."""
    external_id: str
    """What the payment provider calls it. Empty without one."""
