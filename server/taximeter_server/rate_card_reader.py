# SPDX-License-Identifier: Apache-2.0
"""Reads the parts of a rate card that stand in more than one place: fields, lists, numbers, names and prices."""

import functools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from taximeter_server._native import MappingNode, RefusedNode, Scalar, SequenceNode, join_path, shown
from taximeter_server.rate_card_problems import ProblemList, suggestion
from taximeter_server.rate_card_values import (
    DECIMAL_RULE,
    INTEGER_MAX,
    PICOS_PER_UNIT,
    decimal_text,
    parse_decimal_picos,
    parse_integer,
)
from taximeter_server.rate_card_yaml import Node
from taximeter_server.usage_class import UsageClass

Parsed = TypeVar("Parsed")
Json: TypeAlias = "str | int | Sequence[Json] | Mapping[str, Json]"

PRICE_FIELDS = ("price", "per", "min")
_PRICES_REMEMBERED_MAX = 4_096
"""A card repeats its prices."""


@dataclass(frozen=True, slots=True)
class Price:
    """What per units cost, in 10^-12 of the currency. min_quantity: smallest quantity billed."""

    amount_picos: int
    per: int
    min_quantity: int = 0

    def canonical(self) -> Json:
        """Return the price's place in the canonical form."""
        return _canonical_price(self.amount_picos, self.per, self.min_quantity)


@functools.lru_cache(maxsize=_PRICES_REMEMBERED_MAX)
def _canonical_price(amount_picos: int, per: int, min_quantity: int) -> Json:
    document: dict[str, Json] = {"price": decimal_text(amount_picos), "per": per}
    if min_quantity:
        document["min"] = min_quantity
    return document


class Reader:
    """Reads nodes and notes what is wrong. Every method returns None or less when something is, and goes on."""

    def __init__(self, problems: ProblemList) -> None:
        self.problems = problems

    def fields(
        self, node: Node, path: str, known: Collection[str], *, unknown_reason: str = "UNKNOWN_FIELD"
    ) -> dict[str, tuple[Scalar, Node]]:
        """Return the known fields of a mapping."""
        if not isinstance(node, MappingNode):
            self.wrong_shape(node, path, "a mapping of fields")
            return {}
        noun = "class" if unknown_reason == "UNKNOWN_CLASS" else "field"
        unknown = [name for name in node.entries if name not in known]
        if not unknown:
            return node.entries
        for name in unknown:
            message = f"unknown {noun} {shown(name)}{suggestion(name, known)}"
            key, _ = node.entries[name]
            self.problems.add(key.mark, join_path(path, name), unknown_reason, message)
        return {name: entry for name, entry in node.entries.items() if name in known}

    def wrong_shape(self, node: Node, path: str, wanted: str) -> None:
        """Note that something else should stand here, unless that was noted already."""
        if isinstance(node, RefusedNode):
            return
        if isinstance(node, Scalar) and node.is_null:
            self.problems.add(node.mark, path, "FIELD_REQUIRED", f"required: {wanted}")
        else:
            self.problems.add(node.mark, path, "WRONG_SHAPE", f"must be {wanted}")

    def text(self, node: Node, path: str, wanted: str) -> Scalar | None:
        """Return a text that is there."""
        if isinstance(node, Scalar) and not node.is_null:
            return node
        self.wrong_shape(node, path, wanted)
        return None

    def texts(self, node: Node, path: str, wanted: str) -> list[tuple[Scalar, str]]:
        """Return the texts of a list, or the one that stands in place of a list, each with its path."""
        if not isinstance(node, SequenceNode):
            found = self.text(node, path, wanted)
            return [] if found is None else [(found, path)]
        if not node.items:
            self.problems.add(node.mark, path, "FIELD_REQUIRED", f"required: {wanted}")
        pairs = [
            (self.text(item, f"{path}[{place}]", wanted), place) for place, item in enumerate(node.items)
        ]
        return [(found, f"{path}[{place}]") for found, place in pairs if found is not None]

    def parsed(
        self, found: Scalar | None, path: str, parse: Callable[[str], Parsed | None], reason: str, wanted: str
    ) -> Parsed | None:
        """Return what parse makes of a text."""
        value = None if found is None else parse(found.text)
        if found is not None and value is None:
            self.problems.add(found.mark, path, reason, f"must be {wanted}")
        return value

    def parsed_list(
        self, node: Node, path: str, parse: Callable[[str], Parsed | None], reason: str, wanted: str
    ) -> list[Parsed]:
        """Return what parse makes of one text or a list of texts."""
        texts = self.texts(node, path, wanted)
        values = [self.parsed(found, item_path, parse, reason, wanted) for found, item_path in texts]
        return [value for value in values if value is not None]

    def integer(self, node: Node, path: str, *, minimum: int) -> int | None:
        """Return a whole number of at least minimum."""
        wanted = f"a whole number from {minimum} to {INTEGER_MAX}"

        def parse(text: str) -> int | None:
            value = parse_integer(text)
            return None if value is None or value < minimum else value

        return self.parsed(self.text(node, path, wanted), path, parse, "INTEGER_INVALID", wanted)

    def decimal_picos(self, node: Node, path: str, noun: str) -> int | None:
        """Return a decimal times 10^12."""
        found = self.text(node, path, f"a {DECIMAL_RULE}")
        if found is None:
            return None
        picos = parse_decimal_picos(found.text)
        if picos is None and parse_decimal_picos(found.text.removeprefix("-")):
            self.problems.add(found.mark, path, "DECIMAL_NEGATIVE", f"{noun}: must not be negative")
        elif picos is None:
            self.problems.add(found.mark, path, "DECIMAL_INVALID", f"{noun}: {DECIMAL_RULE}")
        return picos

    def names(self, node: Node, path: str, known: Iterable[str], reason: str, noun: str) -> list[str]:
        """Return known names of a list or a single text, each once."""
        words = list(known)
        found: dict[str, None] = {}
        for text, item_path in self.texts(node, path, f"a {noun} or a list of them"):
            if text.text in words:
                found[text.text] = None
            else:
                message = f"unknown {noun} {shown(text.text)}{suggestion(text.text, words)}"
                self.problems.add(text.mark, item_path, reason, message)
        return list(found)

    def price(self, node: Node, path: str, usage_class: UsageClass) -> Price | None:
        """Return the price of a class: a decimal per the class's unit, or {price, per, min}."""
        if not isinstance(node, MappingNode):
            amount_picos = self.price_amount(node, path)
            return None if amount_picos is None else Price(amount_picos, usage_class.per)
        fields = self.fields(node, path, PRICE_FIELDS)
        if "price" not in fields:
            self.problems.add(node.mark, join_path(path, "price"), "FIELD_REQUIRED", "required: price")
        numbers: dict[str, int | None] = {"price": None, "per": usage_class.per, "min": 0}
        for name, (_, value) in fields.items():
            below = join_path(path, name)
            if name == "price":
                numbers[name] = self.price_amount(value, below)
            else:
                numbers[name] = self.integer(value, below, minimum=1 if name == "per" else 0)
        amount_picos, per, min_quantity = numbers["price"], numbers["per"], numbers["min"]
        if amount_picos is None or per is None or min_quantity is None:
            return None
        return Price(amount_picos, per, min_quantity)

    def price_amount(self, node: Node, path: str) -> int | None:
        """Return the amount of a price."""
        picos = self.decimal_picos(node, path, "price")
        if picos is not None and picos > INTEGER_MAX:
            message = f"price: at most {decimal_text(INTEGER_MAX)}"
            self.problems.add(node.mark, path, "PRICE_RANGE", message)
            return None
        return picos

    def prices(
        self, fields: Mapping[str, tuple[Scalar, Node]], path: str, classes: Mapping[str, UsageClass]
    ) -> dict[str, Price]:
        """Return the prices among a mapping's fields."""
        read: dict[str, Price] = {}
        for name, (_, value) in fields.items():
            if name in classes:
                usage_class = classes[name]
                price = plain_price(value.text, usage_class.per) if isinstance(value, Scalar) else None
                price = price or self.price(value, join_path(path, name), usage_class)
                if price is not None:
                    read[name] = price
        return read


@functools.lru_cache(maxsize=_PRICES_REMEMBERED_MAX)
def plain_price(text: str, per: int) -> Price | None:
    """Return the price that a number alone makes, None where something is wrong."""
    amount_picos = parse_decimal_picos(text)
    return None if amount_picos is None or amount_picos > INTEGER_MAX else Price(amount_picos, per)


def largest_product_in_range(amounts_picos: Iterable[int], factors_picos: Iterable[int]) -> bool:
    """Tell whether the largest amount times all factors above one stays a 64-bit number of picos."""
    product = max(amounts_picos, default=0)
    scale = 1
    for factor in factors_picos:
        if factor > PICOS_PER_UNIT:
            product *= factor
            scale *= PICOS_PER_UNIT
    return product <= INTEGER_MAX * scale
