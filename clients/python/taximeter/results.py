# SPDX-License-Identifier: Apache-2.0
"""What the server answers to metering and reporting calls. All values are immutable; times are in UTC."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from taximeter.errors import ServerError
from taximeter.money import Money

_NO_COST = Money("", 0)


class PricingState(StrEnum):
    """Whether usage could be priced."""

    NONE = "NONE"
    """There was nothing to price."""
    PRICED = "PRICED"
    """Every line has a price."""
    PARTLY_PRICED = "PARTLY_PRICED"
    """Some lines have a price."""
    UNPRICED = "UNPRICED"
    """No line has a price although there is usage: the cost is not zero but unknown."""
    UNRECOGNIZED = "UNRECOGNIZED"
    """A state that this client does not know yet."""


class Durability(StrEnum):
    """What an OK answer to a record rests on."""

    COMMITTED = "COMMITTED"
    """Applied in the store and on disk in the journal."""
    JOURNALED = "JOURNALED"
    """On disk in the journal while the store is away; applied when it returns."""
    VOLATILE = "VOLATILE"
    """Applied in a store that the operator allowed to be volatile; may be lost."""
    SPOOLED = "SPOOLED"
    """On disk in the client's spool; the server has not answered, so that the cost is not known."""
    UNRECOGNIZED = "UNRECOGNIZED"
    """A state that this client does not know yet."""


class LimitKind(StrEnum):
    """What is limited and over which window."""

    REQUESTS_PER_MINUTE = "REQUESTS_PER_MINUTE"
    """Requests in any 60 seconds."""
    TOKENS_PER_DAY = "TOKENS_PER_DAY"
    """Input, output and reasoning tokens per UTC day. Cache traffic does not count."""
    COST_PER_DAY = "COST_PER_DAY"
    """Cost per UTC day, in pico-units of the currency."""
    CREDITS = "CREDITS"
    """Credits of the root tenant, in microcredits; never set as a limit."""
    UNRECOGNIZED = "UNRECOGNIZED"
    """A limit that this client does not know yet."""


class HoldState(StrEnum):
    """What became of a hold."""

    HELD = "HELD"
    """Its amounts count against the limits."""
    SETTLED = "SETTLED"
    """A record has settled it."""
    RELEASED = "RELEASED"
    """It was freed."""
    EXPIRED = "EXPIRED"
    """Its time has passed, or it is not known any more."""
    SETTLED_BEFORE = "SETTLED_BEFORE"
    """Another record had settled it before."""
    UNRECOGNIZED = "UNRECOGNIZED"
    """A state that this client does not know yet."""


@dataclass(frozen=True, slots=True)
class HoldSettlement:
    """What settling a hold came to."""

    state: HoldState
    """SETTLED by this record; otherwise the hold had ended before, and the record was counted all the same."""
    over_tokens: int
    """Tokens used beyond those held."""
    over_cost_picos: int
    """Cost beyond the cost held, in pico-units of the currency."""


@dataclass(frozen=True, slots=True)
class LimitStatus:
    """One limit at one level of a tenant's path, at the instant of the answer."""

    tenant: str
    """Level that the limit stands at: the tenant or one of its parents."""
    kind: LimitKind
    """Which limit."""
    maximum: int
    """Maximum per window: requests, tokens, or pico-units of the currency."""
    used: int
    """Consumed in the window, in the unit of maximum; may exceed it."""
    held: int
    """Held by calls in flight, in the unit of maximum."""
    remaining: int
    """maximum - used - held, never below 0."""
    reset_time: datetime | None
    """When the window has room again. None when it never will: the limit is 0, or less than the call needs."""
    retry_after: timedelta | None
    """Wait until this limit alone would let the same call pass. Zero when not exceeded, None when none can help."""
    exceeded: bool
    """True when this limit denied the call or, after a record, when used is at or above maximum. Never for one that is
    only watched."""
    shadow: bool = False
    """True when this limit is only watched: it denies nothing."""
    would_deny: bool = False
    """For a limit that is only watched, what exceeded is for another."""
    temporary_until_time: datetime | None = None
    """When the maximum ends that stands in for another until then. None when this one stays."""


@dataclass(frozen=True, slots=True)
class ListPrice:
    """The price of a line by the rate card, where the tenant has prices of its own."""

    priced_as: str
    """Class whose price in the card applies. Empty when the card has none."""
    billed_quantity: int
    """Quantity that the card would charge."""
    unit_price: str
    """Price of `per` units, an exact decimal. Empty when the card has none."""
    per: int
    """Number of units that unit_price buys. 0 when the card has no price."""
    cost_picos: int
    """Cost by the card in pico-units of the currency. 0 when the card has no price."""


@dataclass(frozen=True, slots=True)
class CostLine:
    """The price of one usage class."""

    usage_class: str
    """Usage class, such as "input"."""
    priced_as: str
    """Class whose price was applied. Empty when unpriced."""
    quantity: int
    """Quantity used, in the unit of the class."""
    billed_quantity: int
    """Quantity charged."""
    unit_price: str
    """Price of `per` units, an exact decimal such as "0.3". Empty when unpriced."""
    per: int
    """Number of units that unit_price buys. 0 when unpriced."""
    cost_picos: int
    """Cost in pico-units of the currency. 0 when unpriced."""
    unpriced: bool
    """True when no price was found: the cost is not zero but unknown."""
    list_price: ListPrice | None = None
    """What the rate card alone says. None when the card's price was charged."""


class RecordWarningKind(StrEnum):
    """What a warning about a record is about."""

    LABEL_CAP = "LABEL_CAP"
    """The tenant has as many sets of attributes as it may on this day: the values count under "__other__"."""
    UNRECOGNIZED = "UNRECOGNIZED"
    """A warning that this client does not know yet."""


@dataclass(frozen=True, slots=True)
class RecordWarning:
    """Something about a record that was recorded all the same."""

    kind: RecordWarningKind
    """What it is about."""
    message: str
    """What happened, for people."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """The answer to one record."""

    record_id: str
    """Id under which it was recorded."""
    duplicate: bool
    """True when the same record had been applied before; everything else is then that of the first time."""
    cost: Money
    """Sum of the lines' costs."""
    lines: tuple[CostLine, ...]
    """One line per usage class with a quantity above 0."""
    rate_card_id: str
    """Card that priced the record. Empty when none was in force."""
    rate_card_row: str
    """Row of the card that the model resolved to. Empty when none."""
    pricing_state: PricingState
    """Whether all lines have a price."""
    limits: tuple[LimitStatus, ...]
    """Limits of the tenant and its parents after this record. Empty when journaled."""
    durability: Durability
    """How durable the record is."""
    hold: HoldSettlement | None = None
    """What became of its hold. None without one, and when journaled."""
    list_cost: Money | None = None
    """Sum of the lines' costs by the rate card alone. None when the card's prices were charged."""
    tenant_prices_version: int = 0
    """Timeline version of the tenant's own prices. 0 when the card's prices were charged."""
    warnings: tuple[RecordWarning, ...] = ()
    """What to know although it was recorded and charged in full. Empty when all is well."""
    usage_flags: tuple[str, ...] = ()
    """What is remarkable about its provider's usage, such as "reasoning_inferred_from_total"."""
    credit_microcredits: int = 0
    """Microcredits that it has taken from its root tenant's credits. 0 without an account, and when journaled."""
    overdrawn_microcredits: int = 0
    """The part of it that no grant covers."""


@dataclass(frozen=True, slots=True)
class BatchItem:
    """The outcome of one record of a batch; exactly one of `recorded` and `error` is set."""

    record_id: str
    """Id of the record."""
    recorded: Recorded | None
    """The answer, when it was recorded."""
    error: ServerError | None
    """Why it was not, when it failed alone. It is returned, not raised."""


@dataclass(frozen=True, slots=True)
class QuotaDecision:
    """Whether a call may go on."""

    allowed: bool
    """The decision."""
    limits: tuple[LimitStatus, ...]
    """Every limit of the tenant and its parents; those that denied have exceeded set."""
    retry_after: timedelta | None
    """When denied: how long to wait until no limit would deny the same call. None when no wait can help, or when
    allowed."""
    rate_card_id: str
    """Card that priced the estimate. Empty when there was nothing to price."""
    estimated_cost: Money | None
    """Price of the estimate. None when there was nothing to price."""
    pricing_state: PricingState
    """Whether the whole estimate could be priced."""
    hold_id: str = ""
    """Hold placed for the call. Empty when denied, or not asked for."""
    hold_expire_time: datetime | None = None
    """When the hold expires. None without one."""
    duplicate: bool = False
    """True when the request had been decided before: decision and hold are those of the first time."""
    tenant_prices_version: int = 0
    """Timeline version of the tenant's own prices in estimated_cost. 0 when it has none."""
    would_deny: bool = False
    """True when a limit that is only watched had no room for the call."""
    degraded: bool = False
    """True when the store could not decide and the call was let pass on the tenant's lease: without limits, hold and
    price."""


@dataclass(frozen=True, slots=True)
class HoldExtension:
    """Whether a hold lives longer and holds more."""

    allowed: bool
    """The decision. When not allowed the hold stays as it was."""
    expire_time: datetime
    """When the hold expires, renewed or not."""
    limits: tuple[LimitStatus, ...]
    """Every limit of the tenant and its parents; those that denied have exceeded set."""
    retry_after: timedelta | None
    """When denied: how long to wait until there is room for what was asked in addition. None when no wait can
    help, or when allowed."""
    would_deny: bool = False
    """True when a limit that is only watched had no room."""


@dataclass(frozen=True, slots=True)
class Measures:
    """Exact sums."""

    calls: int
    """Calls recorded."""
    quantities: Mapping[str, int]
    """Quantity by usage class, in the unit of the class. Classes without usage are left out."""
    cost: Money
    """Sum of the lines' costs."""
    unpriced_lines: int
    """Lines that had no price when they were recorded; cost has them only as far as they were adjusted since."""
    adjustment_cost: Money = _NO_COST
    """The part of cost that adjustments are: charged, or taken back, after the usage was recorded."""
    adjusted_unpriced_lines: int = 0
    """Lines that had no price when they were recorded and were priced by an adjustment since."""
    list_cost: Money = _NO_COST
    """What the lines would have cost by the rate card alone, without the tenants' own prices."""
    credit_microcredits: int = 0
    """Microcredits that the lines took from credit accounts, less what corrections gave back."""
    overdrawn_microcredits: int = 0
    """The part of it that no grant covered."""


@dataclass(frozen=True, slots=True)
class ReportRow:
    """One group of a report."""

    group: Mapping[str, str | None]
    """Value by dimension, in the order of the query; None for usage without a value."""
    measures: Measures
    """The sums of the group."""
    compared: Measures | None = None
    """The sums of the group in the interval compared to. None without one."""
    is_other: bool = False
    """Whether this is the sum of all rows after the top; then no dimension has a value."""


@dataclass(frozen=True, slots=True)
class Report:
    """Sums over a half-open interval; all pages are in it."""

    rows: tuple[ReportRow, ...]
    """Rows ordered by their group values."""
    total: Measures
    """Sum over all rows."""
    as_of_time: datetime | None
    """The report holds what had been recorded up to here."""
    as_of: str = ""
    """Names exactly what the report has seen, for ReportQuery.as_of."""
    compared_total: Measures | None = None
    """Sum over all rows of the interval compared to. None without one."""


@dataclass(frozen=True, slots=True)
class LevelRecorded:
    """What a level came to until its next reading."""

    duplicate: bool
    """True when the reading had been recorded before; then nothing changed."""
    byte_hours: int
    """Byte-hours recorded since the reading before; what is less than one is carried over."""
    cost: Money
    """Their cost."""
    unrecorded: timedelta
    """How much of the time was too long ago to be recorded."""
