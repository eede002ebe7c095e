# SPDX-License-Identifier: Apache-2.0
"""What differs between two rate cards, in terms of what usage costs.

Prices are those that the compiled cards give for one unit under the circumstances that an entry of ``when`` of either
card asks for, so two ways of writing the same prices do not differ, and multipliers, fallbacks and rounding are those
of charging.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import Any, TypeAlias

from taximeter_server import _native
from taximeter_server.percent import change_percent
from taximeter_server.rate_card_conditions import (
    Circumstances,
    FittingTimes,
    distinct_circumstances,
)

Document: TypeAlias = Mapping[str, Any]
"""A card, or a part of one, in canonical form."""

_ROW = "row"
_NANOS_PER_SECOND = 1_000_000_000
_REJECT = "reject"


class ChangeKind(StrEnum):
    """What differs."""

    CURRENCY = "CURRENCY"
    UNKNOWN_MODEL = "UNKNOWN_MODEL"
    CLASS = "CLASS"
    DEFAULT = "DEFAULT"
    ROW_ADDED = "ROW_ADDED"
    ROW_REMOVED = "ROW_REMOVED"
    ALIAS = "ALIAS"
    PRICE = "PRICE"


@dataclass(frozen=True, slots=True)
class ClassPrice:
    """What per units of a class cost, in pico-units. priced_as: class whose price it is. min_quantity: 0 for none."""

    amount_picos: int
    per: int
    priced_as: str
    min_quantity: int = 0

    @property
    def per_unit(self) -> Fraction:
        """Price of one unit, exactly."""
        return Fraction(self.amount_picos, self.per)

    def costs_the_same(self, other: "ClassPrice") -> bool:
        """Tell whether no quantity costs another amount by other."""
        return (self.per_unit, self.min_quantity) == (other.per_unit, other.min_quantity)


@dataclass(frozen=True, slots=True)
class CardChange:
    """One difference, from card a to card b. row, condition, usage_class and the values are "" for none."""

    kind: ChangeKind
    row: str = ""
    condition: str = ""
    usage_class: str = ""
    price_a: ClassPrice | None = None
    price_b: ClassPrice | None = None
    value_a: str = ""
    value_b: str = ""

    @property
    def change_percent(self) -> str:
        """By how many per cent the price of a unit changes, "" where that says nothing."""
        if self.price_a is None or self.price_b is None:
            return ""
        return change_percent(self.price_a.per_unit, self.price_b.per_unit)


def diff_cards(canonical_a: str, canonical_b: str, *, now_ms: int) -> list[CardChange]:
    """Return the differences: of the whole card first, then by row. now_ms: what dated prices are looked at from."""
    a: Document = json.loads(canonical_a)
    b: Document = json.loads(canonical_b)
    changes = [*_card_changes(a, b)]
    shared_alike = all(a.get(name) == b.get(name) for name in ("classes", "defaults"))
    for name in sorted({*a["rows"], *b["rows"]}):
        row_a, row_b = a["rows"].get(name), b["rows"].get(name)
        if row_a == row_b and shared_alike:
            continue
        if row_a is not None and row_b is not None:
            changes += _alias_changes(name, row_a, row_b)
        changes += _price_changes(name, (a, row_a), (b, row_b), now_s=now_ms // 1_000)
    return changes


def _card_changes(a: Document, b: Document) -> Iterator[CardChange]:
    if a["currency"] != b["currency"]:
        yield CardChange(ChangeKind.CURRENCY, value_a=a["currency"], value_b=b["currency"])
    policies = [str(card.get("unknown_model", _REJECT)) for card in (a, b)]
    if policies[0] != policies[1]:
        yield CardChange(ChangeKind.UNKNOWN_MODEL, value_a=policies[0], value_b=policies[1])
    for name, value_a, value_b in _differing(a.get("classes", {}), b.get("classes", {})):
        texts = [_class_text(value) for value in (value_a, value_b)]
        yield CardChange(ChangeKind.CLASS, usage_class=name, value_a=texts[0], value_b=texts[1])
    for name, value_a, value_b in _differing(a.get("defaults", {}), b.get("defaults", {})):
        prices = [None if value is None else _declared_price(name, value) for value in (value_a, value_b)]
        yield CardChange(ChangeKind.DEFAULT, usage_class=name, price_a=prices[0], price_b=prices[1])


def _differing(a: Document, b: Document) -> Iterator[tuple[str, Any, Any]]:
    for name in sorted({*a, *b}):
        if a.get(name) != b.get(name):
            yield name, a.get(name), b.get(name)


def _class_text(declared: Document | None) -> str:
    if declared is None:
        return ""
    parent = f", parent {declared['parent']}" if "parent" in declared else ""
    return f"per {declared['per']:,}{parent}"


def _declared_price(usage_class: str, price: Document) -> ClassPrice:
    whole, _, fraction = str(price["price"]).partition(".")
    return ClassPrice(int(whole + fraction.ljust(12, "0")), price["per"], usage_class, price.get("min", 0))


def _alias_changes(name: str, row_a: Document, row_b: Document) -> Iterator[CardChange]:
    aliases_a, aliases_b = set(row_a.get("aliases", ())), set(row_b.get("aliases", ()))
    for alias in sorted(aliases_a - aliases_b):
        yield CardChange(ChangeKind.ALIAS, row=name, value_a=alias)
    for alias in sorted(aliases_b - aliases_a):
        yield CardChange(ChangeKind.ALIAS, row=name, value_b=alias)


def _price_changes(
    name: str, a: tuple[Document, Document | None], b: tuple[Document, Document | None], *, now_s: int
) -> Iterator[CardChange]:
    """Yield the prices of a row that differ, those without conditions first."""
    rows = [row for _, row in (a, b) if row is not None]
    kind = ChangeKind.PRICE
    if len(rows) == 1:
        kind = ChangeKind.ROW_REMOVED if b[1] is None else ChangeKind.ROW_ADDED
    entries = [when for row in rows for when in row.get("when", ())]
    classes = _classes_of(rows)
    pricers = [None if row is None else _RowPricer(card, row, classes) for card, row in (a, b)]
    times = FittingTimes(entries, now_s)
    seen: list[tuple[str, str]] = []
    for circumstances in distinct_circumstances(entries):
        instant_s = times.find(circumstances)
        if instant_s is None:
            continue
        prices_a, prices_b = (
            {} if pricer is None else pricer.prices(circumstances, instant_s) for pricer in pricers
        )
        for usage_class in classes:
            price_a, price_b = prices_a.get(usage_class), prices_b.get(usage_class)
            same = (
                price_a == price_b if price_a is None or price_b is None else price_a.costs_the_same(price_b)
            )
            if not same:
                seen.append((circumstances.text, usage_class))
                yield CardChange(kind, name, circumstances.text, usage_class, price_a, price_b)
    if len(rows) == 1 and not seen:
        yield CardChange(kind, name)


def _classes_of(rows: Sequence[Document]) -> list[str]:
    """Return the classes that the rows name anywhere, in the order in which they do."""
    named: dict[str, None] = {}
    for row in rows:
        parts = [row, *row.get("when", ())]
        for part in parts:
            named |= dict.fromkeys([*part.get("prices", {}), *part.get("classes", ())])
    return list(named)


class _RowPricer:
    """Prices one unit of each class by one row of a card."""

    def __init__(self, card: Document, row: Document, classes: Sequence[str]) -> None:
        alone = {key: value for key, value in card.items() if key not in {"rows", "unknown_model"}}
        prices = {key: value for key, value in row.items() if key != "aliases"}
        document = {**alone, "rows": {_ROW: prices}}
        self._card = _native.RateCard(json.dumps(document, sort_keys=True, separators=(",", ":")).encode())
        self._usage = dict.fromkeys([*classes, "input"], 1)

    def prices(self, circumstances: Circumstances, instant_s: int) -> dict[str, ClassPrice]:
        """Return the prices that are there, by class; none where such a prompt costs more than can be charged."""
        try:
            return self._prices(circumstances, instant_s)
        except OverflowError:
            return {}

    def _prices(self, circumstances: Circumstances, instant_s: int) -> dict[str, ClassPrice]:
        priced = self._price(self._usage, circumstances, instant_s)
        missing_tokens = circumstances.context_tokens - priced.prompt_tokens
        if missing_tokens > 0:
            usage = {**self._usage, "input": 1 + missing_tokens}
            priced = self._price(usage, circumstances, instant_s)
        return {
            line.usage_class: ClassPrice(
                line.amount_picos,
                line.per,
                line.priced_as or "",
                line.billed_quantity if line.billed_quantity > line.quantity else 0,
            )
            for line in priced.lines
            if not line.unpriced
        }

    def _price(
        self, usage: Mapping[str, int], circumstances: Circumstances, instant_s: int
    ) -> _native.PricedCall:
        return self._card.price(
            model=_ROW,
            usage=usage,
            occur_time_nanos=instant_s * _NANOS_PER_SECOND,
            tier=circumstances.choice("tier"),
            region=circumstances.choice("region"),
            speed=circumstances.choice("speed"),
        )
