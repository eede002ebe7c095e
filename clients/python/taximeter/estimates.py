# SPDX-License-Identifier: Apache-2.0
"""What usage that has not happened would cost, and what it would do to limits."""

from dataclasses import dataclass
from datetime import datetime

from taximeter.money import Money
from taximeter.report_query import ReportQuery
from taximeter.results import CostLine, LimitStatus, PricingState

_NO_COST = Money("", 0)


@dataclass(frozen=True, slots=True)
class Estimate:
    """The price of usage that has not happened."""

    cost_per_call: Money
    """Cost of one call."""
    cost: Money
    """Cost of all calls."""
    lines: tuple[CostLine, ...]
    """Lines of one call."""
    rate_card_id: str
    """Card that was used."""
    rate_card_row: str
    """Row that the model resolved to."""
    pricing_state: PricingState
    """Whether all lines have a price."""
    low_cost: Money = _NO_COST
    """Cost of all calls if each were as cheap as the cheapest."""
    high_cost: Money = _NO_COST
    """Cost of all calls if each were as expensive as the most expensive."""
    limits: tuple["EstimateLimit", ...] = ()
    """Limits of the tenant asked for and its parents; those that would stop the calls first, soonest first."""
    sample_item_count: int = 0
    """Items of the sample. 0 without one."""
    unpriced_lines: int = 0
    """Lines of the sample that have no price; their cost is in none of the costs."""
    list_cost: Money | None = None
    """Cost of all calls by the rate card alone. None when the card's prices apply."""
    tenant_prices_version: int = 0
    """Timeline version of the tenant's own prices. 0 when the card's prices apply."""
    credit_microcredits: int = 0
    """Microcredits that all calls would take. 0 where the tenant has no credits."""


@dataclass(frozen=True, slots=True)
class EstimateLimit:
    """What calls would do to one limit."""

    status: LimitStatus
    """The limit as it is now."""
    needed: int
    """What all calls would consume at most, in the unit of the limit."""
    remaining_after: int
    """What would remain in the window in which least remains; 0 when the limit stops the calls."""
    stops: bool
    """Whether the limit would stop the calls."""
    passed_count: int
    """Calls, or items of the sample, that would go through before it does; all when it does not."""
    stop_time: datetime | None
    """When it would stop them. None when it does not."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A run that was recorded, to project."""

    query: ReportQuery
    """Which records are the run: an interval, a tenant, filters."""
    item_count: int = 0
    """Items that the run processed, when item_dimension does not tell. 0 means 1."""
    item_dimension: str = ""
    """Dimension whose values tell the items apart, such as "attributes.row_id"."""
