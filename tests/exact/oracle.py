# SPDX-License-Identifier: Apache-2.0
"""What every report must say, from the recorded events alone: rationals, dictionaries and a table of fallbacks."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fractions import Fraction

PICOS = 10**12
MILLION = 1_000_000
PARENTS = {
    "cache_read": "input",
    "cache_write": "input",
    "cache_write_1h": "cache_write",
    "reasoning": "output",
    "input_audio": "input",
    "cache_read_audio": "cache_read",
    "output_image": "output",
}
TOKEN_ROOTS = {"input", "output"}
UNITS = {
    "tool_calls": 1,
    "sandbox_ms": 3_600_000,
    "storage_byte_hours": 720_000_000_000,
    "web_searches": 1_000,
    "audio_ms": 3_600_000,
}


@dataclass(frozen=True)
class Card:
    """Base prices by row and class, as decimals in text. classes: what the card declares: (parent or "", units)."""

    card_id: str
    rows: Mapping[str, Mapping[str, str]]
    defaults: Mapping[str, str] = field(default_factory=dict)
    classes: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    _unit_prices: dict[tuple[str, str], Fraction | None] = field(default_factory=dict, compare=False)

    def cost_picos(self, model: str, usage_class: str, quantity: int) -> int | None:
        """Return the cost of a line, rounded once, half to even; None when there is no price."""
        key = (model, usage_class)
        if key not in self._unit_prices:
            self._unit_prices[key] = self._unit_price(model, usage_class)
        unit_price = self._unit_prices[key]
        # Python rounds a Fraction half to even.
        return None if unit_price is None else round(quantity * unit_price)

    def _unit_price(self, model: str, usage_class: str) -> Fraction | None:
        row = self.rows.get(model)
        chain = self._chain(usage_class)
        if row is None and chain[-1] in TOKEN_ROOTS:
            return None
        for prices in (row or {}, self.defaults):
            for at in chain:
                if at in prices:
                    return Fraction(prices[at]) * PICOS / self._units(at)
        return None

    def _chain(self, usage_class: str) -> list[str]:
        chain = [usage_class]
        while parent := PARENTS.get(chain[-1]) or self.classes.get(chain[-1], ("", 0))[0]:
            chain.append(parent)
        return chain

    def _units(self, usage_class: str) -> int:
        if usage_class in self.classes:
            return self.classes[usage_class][1]
        return UNITS.get(usage_class, MILLION)


@dataclass(frozen=True)
class Event:
    """One recorded call."""

    record_id: str
    tenant: str
    model: str
    provider: str
    occur_time_ms: int
    calls: int
    usage: Mapping[str, int]
    attributes: Mapping[str, str]


@dataclass
class Sums:
    """The measures of one group."""

    calls: int = 0
    quantities: Counter[str] = field(default_factory=Counter)
    cost_picos: int = 0
    unpriced_lines: int = 0


Group = str | None
CardOf = Callable[[Event], Card]
Line = tuple[str, int, int | None]
"""(class, quantity, cost in pico-units or None)"""
Priced = tuple[Event, Card, list[Line]]


def day_of(event: Event) -> str:
    """Return the UTC day of an event."""
    return datetime.fromtimestamp(event.occur_time_ms / 1000, UTC).date().isoformat()


def price(events: Iterable[Event], card_of: CardOf) -> list[Priced]:
    """Return events with their cards and lines."""
    found = []
    for event in events:
        card = card_of(event)
        lines = [
            (name, count, card.cost_picos(event.model, name, count)) for name, count in event.usage.items()
        ]
        found.append((event, card, lines))
    return found


def sums_by(priced: Iterable[Priced], dimension: str) -> dict[Group, Sums]:
    """Return the sums by the values of a dimension; "" is one group of everything."""
    found: dict[Group, Sums] = defaultdict(Sums)
    for event, card, lines in priced:
        groups = {_group(event, None, dimension, card)} if not lines else set()
        for usage_class, quantity, cost_picos in lines:
            group = _group(event, usage_class, dimension, card)
            groups.add(group)
            sums = found[group]
            sums.quantities[usage_class] += quantity
            sums.cost_picos += cost_picos or 0
            sums.unpriced_lines += cost_picos is None
        for group in groups:
            found[group].calls += event.calls
    return dict(found)


def _group(event: Event, usage_class: str | None, dimension: str, card: Card) -> Group:
    if dimension.startswith("attributes."):
        return event.attributes.get(dimension.removeprefix("attributes."))
    if dimension == "usage_class":
        return usage_class
    if dimension == "rate_card_id":
        return card.card_id
    return VALUES[dimension](event)


VALUES: Mapping[str, Callable[[Event], Group]] = {
    "": lambda _: "",
    "tenant": lambda event: event.tenant,
    "root_tenant": lambda event: event.tenant.split("/")[0],
    "model": lambda event: event.model,
    "provider": lambda event: event.provider or None,
    "day": day_of,
}
