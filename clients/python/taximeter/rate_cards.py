# SPDX-License-Identifier: Apache-2.0
"""What there is to know about rate cards: how two differ, what a change of cards costs, how a record got its price.

All values are immutable; times are in UTC.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from taximeter.corrections import CorrectionKind
from taximeter.money import Money
from taximeter.provider_usage import ProviderUsage
from taximeter.results import CostLine
from taximeter.settings import RateCardEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class CardReference:
    """Names a rate card by one of these; by none, it is the card in force now."""

    rate_card_id: str = ""
    """Card id, or a unique prefix of at least 8 hex digits."""
    version: int = 0
    """Version of the timeline, from 1."""
    at_time: datetime | None = None
    """The card in force at this instant."""
    yaml: str = ""
    """A card that is not published."""


CURRENT_CARD = CardReference()
"""The card in force now."""


@dataclass(frozen=True, slots=True)
class CardIdentity:
    """The card that a reference led to."""

    rate_card_id: str
    """Hex SHA-256 of its canonical form."""
    version: int
    """Version of the timeline. 0 when it is not published."""
    effective_time: datetime | None
    """When that version takes force. None when it is not published."""


class ChangeKind(StrEnum):
    """What differs between two cards."""

    PRICE = "PRICE"
    """The price of a class in a row, under a condition."""
    ROW_ADDED = "ROW_ADDED"
    """A price of a row that only the card after has."""
    ROW_REMOVED = "ROW_REMOVED"
    """A price of a row that only the card before has."""
    ALIAS = "ALIAS"
    """An alias of a row."""
    DEFAULT = "DEFAULT"
    """A price of the card's defaults."""
    CLASS = "CLASS"
    """A class that the card declares."""
    UNKNOWN_MODEL = "UNKNOWN_MODEL"
    """What is done with models that no row matches."""
    CURRENCY = "CURRENCY"
    """The currency."""
    UNRECOGNIZED = "UNRECOGNIZED"
    """A kind that this client does not know yet."""


@dataclass(frozen=True, slots=True)
class CardPrice:
    """What a class costs."""

    unit_price: str
    """Price of `per` units, an exact decimal such as "0.3"."""
    per: int
    """Units that unit_price buys."""
    priced_as: str
    """Class whose price it is."""
    min_quantity: int
    """Smallest quantity charged. 0 for none."""


@dataclass(frozen=True, slots=True)
class CardChange:
    """One difference between two cards."""

    kind: ChangeKind
    """What differs."""
    row: str
    """Row. Empty where it concerns the whole card."""
    condition: str
    """Circumstances in which the prices differ. Empty for the price without any."""
    usage_class: str
    """Usage class, where one is concerned."""
    price_a: CardPrice | None
    """Price before. None where there was none."""
    price_b: CardPrice | None
    """Price after. None where there is none."""
    change_percent: str
    """By how many per cent the price of a unit changes, a decimal. Empty without a price before other than 0."""
    value_a: str
    """Other value before. Empty where there was none."""
    value_b: str
    """Other value after. Empty where there is none."""


@dataclass(frozen=True, slots=True)
class CardDiff:
    """How two cards differ."""

    card_a: CardIdentity
    """The card before."""
    card_b: CardIdentity
    """The card after."""
    changes: tuple[CardChange, ...]
    """What changes. Empty when both price everything alike."""


@dataclass(frozen=True, slots=True)
class CardComparison:
    """The costs of one tenant and model by two cards, or their sums."""

    tenant: str
    """Tenant. Empty in the total."""
    model: str | None
    """Model as recorded. None in the total, and for usage without a model."""
    calls: int
    """Calls recorded."""
    changed_records: int
    """Records whose cost differs."""
    cost_a: Money
    """Cost by the card compared with, or as charged."""
    cost_b: Money
    """Cost by the card priced by."""
    difference: Money
    """cost_b less cost_a."""
    difference_percent: str
    """The difference in per cent of cost_a, a decimal. Empty when cost_a is 0."""
    unpriced_lines_a: int
    """Lines without a price by the card compared with, or as charged and adjusted."""
    unpriced_lines_b: int
    """Lines without a price by the card priced by."""


@dataclass(frozen=True, slots=True)
class ComparedCards:
    """What recorded usage costs by two cards."""

    rows: tuple[CardComparison, ...]
    """By tenant and model."""
    total: CardComparison
    """Their sums."""
    card_a: CardIdentity | None
    """The card compared with. None for what was charged."""
    card_b: CardIdentity
    """The card priced by."""
    as_of_time: datetime | None
    """The comparison holds what had been recorded up to here."""


@dataclass(frozen=True, slots=True)
class PostedAdjustments:
    """The answer to posting adjustments."""

    adjustments_posted: int
    """Adjustments posted now."""
    conflicts: int
    """Records that somebody else had adjusted meanwhile; nothing was posted for them."""
    rows: tuple[CardComparison, ...]
    """What was posted, by tenant and model."""
    total: CardComparison
    """Their sums."""
    card: CardIdentity
    """The card charged by."""


class ModelResolution(StrEnum):
    """How a model's name led to a row."""

    NONE = "NONE"
    """It did not, or the record has no model."""
    NAME = "NAME"
    """The row's name is the model's, with or without the provider in front."""
    ALIAS = "ALIAS"
    """An alias of the row is."""
    SHORTENED_NAME = "SHORTENED_NAME"
    """The row's name is, after a date, a version or a prefix was taken off the model's."""
    SHORTENED_ALIAS = "SHORTENED_ALIAS"
    """An alias is, after that."""
    PATTERN = "PATTERN"
    """The longest pattern that matches."""
    UNKNOWN_MODEL = "UNKNOWN_MODEL"
    """The card's row for models that it does not know."""
    UNRECOGNIZED = "UNRECOGNIZED"
    """A way that this client does not know yet."""


@dataclass(frozen=True, slots=True)
class AppliedOverlay:
    """An entry of `when` that applied."""

    position: int
    """Position in the row's `when`, from 0."""
    condition: str
    """Its conditions in words."""
    effect: str
    """What it does in words."""


@dataclass(frozen=True, slots=True)
class ExplainedLine:
    """The arithmetic of one line."""

    line: CostLine
    """The line as charged."""
    price_chain: tuple[str, ...]
    """Classes from the line's own to the one whose price applied; all of them when none has a price."""
    exact_picos: str
    """Exact cost in pico-units before rounding, such as "5680000/3". Empty when unpriced."""


@dataclass(frozen=True, slots=True)
class AdjustedLine:
    """The correction of one line."""

    usage_class: str
    """Usage class."""
    priced_as: str
    """Class whose price applies since. Empty when there is none."""
    billed_quantity: int
    """Quantity charged."""
    unit_price: str
    """Price of `per` units since. Empty when there is none."""
    per: int
    """Units that unit_price buys. 0 when there is no price."""
    previous_cost_picos: int
    """Cost before."""
    difference_picos: int
    """Cost since less cost before."""
    was_unpriced: bool
    """True when the line had no price before."""
    quantity: int = 0
    """Quantity that the correction adds, negative where it takes some back. 0 in an adjustment."""


@dataclass(frozen=True, slots=True)
class RecordAdjustment:
    """A correction of a record."""

    record_id: str
    """Identity of the correction."""
    post_time: datetime
    """When it was posted."""
    author: str
    """Who posted it: id of the key."""
    note: str
    """Why, as the author wrote it."""
    rate_card_id: str
    """Card that the record is priced by since."""
    rate_card_version: int
    """Version of the timeline that names the card."""
    rate_card_row: str
    """Row of the card. Empty when none matched."""
    lines: tuple[AdjustedLine, ...]
    """What changed."""
    cost: Money
    """Sum of the lines' differences."""
    kind: CorrectionKind = CorrectionKind.ADJUSTMENT
    """What it does."""
    calls: int = 0
    """Calls that it adds, negative where it takes some back."""


@dataclass(frozen=True, slots=True)
class RecordExplanation:
    """How a record got its price."""

    tenant: str
    """Tenant."""
    record_id: str
    """Identity of the record."""
    occur_time: datetime
    """When it happened."""
    receive_time: datetime
    """When it was recorded."""
    model: str
    """Model as sent."""
    provider: str
    """Provider as sent."""
    tier: str
    """Service tier as sent."""
    region: str
    """Region as sent."""
    speed: str
    """Speed as sent."""
    calls: int
    """Calls summed up."""
    attributes: Mapping[str, str]
    """Attributes as sent."""
    rate_card: RateCardEntry | None
    """Entry of the timeline that put the card in force. None when no card was."""
    rate_card_row: str
    """Row of the card. Empty when none matched."""
    resolution: ModelResolution
    """How the model led to the row."""
    matched_name: str
    """Name, alias or pattern of the row that matched."""
    prompt_tokens: int
    """Tokens of the whole prompt."""
    overlays: tuple[AppliedOverlay, ...]
    """Entries of the row's `when` that applied, in order."""
    lines: tuple[ExplainedLine, ...]
    """The arithmetic of each line."""
    cost: Money
    """Sum of the lines, as charged when the usage was recorded."""
    reproduced: bool
    """Whether the card gives the same lines when it prices the record again now."""
    adjustments: tuple[RecordAdjustment, ...]
    """Corrections since, oldest first."""
    adjusted_cost: Money
    """cost and all adjustments."""
    tenant_prices_version: int
    """Version of the tenant's own prices that were charged. 0 when the card's were."""
    list_cost: Money
    """What the card alone would have charged."""
    provider_usage: ProviderUsage | None = None
    """Usage as the provider reported it. None where the record was sent in classes."""
    usage_flags: tuple[str, ...] = ()
    """What is remarkable about provider_usage, as in `Recorded`."""
