# SPDX-License-Identifier: Apache-2.0
"""What caching saved: what cached tokens cost beside what they would have cost as plain input.

The price of plain input is the average that was charged for it, by the same row of the same card in the same period.
Where none was used there is nothing to compare with, and those tokens are counted as not compared.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from taximeter.results import ReportRow

_READ, _WRITES = "cache_read", ("cache_write", "cache_write_1h")


@dataclass(frozen=True, slots=True)
class CacheSavings:
    """Tokens and pico-units. saved_picos: what was not paid; negative when writing cost more than reading saved."""

    input_tokens: int
    read_tokens: int
    write_tokens: int
    saved_picos: int
    compared_tokens: int

    @property
    def share_permille(self) -> int:
        """Share of prompt tokens that were read from a cache."""
        prompt = self.input_tokens + self.read_tokens + self.write_tokens
        return permille(self.read_tokens, prompt) if prompt else 0


def permille(part: int, whole: int) -> int:
    """Return part of whole in thousandths, rounded. whole is not 0."""
    return (2_000 * part + whole) // (2 * whole)


@dataclass(slots=True)
class _Row:
    """One row of one card: quantity and cost by class."""

    quantity: dict[str, int] = field(default_factory=dict)
    cost_picos: dict[str, int] = field(default_factory=dict)


def savings(rows: Iterable[ReportRow]) -> CacheSavings:
    """Compares, from sums by card, row and class; adjustments belong to the price of what they adjust."""
    by_row: dict[tuple[str | None, str | None], _Row] = {}
    for found in rows:
        name = found.group["usage_class"]
        if name in {"input", _READ, *_WRITES}:
            row = by_row.setdefault((found.group["rate_card_id"], found.group["rate_card_row"]), _Row())
            quantity = found.measures.quantities.get(name, 0)
            row.quantity[name] = row.quantity.get(name, 0) + quantity
            row.cost_picos[name] = row.cost_picos.get(name, 0) + found.measures.cost.picos
    saved = compared = 0
    for row in by_row.values():
        plain = row.quantity.get("input", 0)
        for name in (_READ, *_WRITES):
            quantity = row.quantity.get(name, 0)
            if plain and quantity:
                saved += row.cost_picos["input"] * quantity // plain - row.cost_picos[name]
                compared += quantity
    return CacheSavings(
        input_tokens=sum(row.quantity.get("input", 0) for row in by_row.values()),
        read_tokens=sum(row.quantity.get(_READ, 0) for row in by_row.values()),
        write_tokens=sum(row.quantity.get(name, 0) for row in by_row.values() for name in _WRITES),
        saved_picos=saved,
        compared_tokens=compared,
    )
