# SPDX-License-Identifier: Apache-2.0
"""Rows of a rate card: base prices, aliases, and the overlays of ``when``."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field

from taximeter_server._native import MappingNode, Mark, Scalar, SequenceNode, join_path, shown
from taximeter_server.rate_card_reader import Json, Price, Reader, largest_product_in_range, plain_price
from taximeter_server.rate_card_values import (
    CONDITION_VALUE,
    DAYS,
    INTEGER_MAX,
    MODEL_NAME,
    day_texts,
    decimal_text,
    parse_instant,
    parse_window,
    window_texts,
)
from taximeter_server.rate_card_yaml import Node
from taximeter_server.usage_class import UsageClass

WHEN_MAX = 256
"""Entries of ``when`` in one row."""

CHOICES = ("tier", "region", "speed")
CONDITIONS = (*CHOICES, "context_over", "context_from", "utc", "days", "from", "until")
EFFECTS = ("multiply", "classes")
ROW_WORDS = frozenset({"aliases", "when", *CONDITIONS, *EFFECTS})
"""Fields of a row or an entry of ``when`` that are no class, so no class can have their name."""

Fields = Mapping[str, tuple[Scalar, Node]]


class KnownFields:
    """What a row and an entry of ``when`` may have, among it the classes of the card. Made once for all rows."""

    def __init__(self, classes: Mapping[str, UsageClass]) -> None:
        self.classes = classes
        self.pers = {name: usage_class.per for name, usage_class in classes.items()}
        self.row = dict.fromkeys(("aliases", "when", *classes))
        self.entry = dict.fromkeys((*CONDITIONS, *EFFECTS, *classes))


@dataclass(frozen=True, slots=True)
class Overlay:
    """An entry of ``when``. conditions: canonical, apart from the context."""

    mark: Mark
    conditions: dict[str, Json]
    context_from_tokens: int | None
    prices: dict[str, Price]
    multiply_picos: int | None
    multiplied: list[str]

    def canonical(self) -> Json:
        """Return the entry's place in the canonical form."""
        document = dict(self.conditions)
        if self.context_from_tokens is not None:
            document["context_from"] = self.context_from_tokens
        if self.prices:
            document["prices"] = {name: price.canonical() for name, price in self.prices.items()}
        if self.multiply_picos is not None:
            document["multiply"] = decimal_text(self.multiply_picos)
        if self.multiplied:
            document["classes"] = sorted(self.multiplied)
        return document

    def hides(self, earlier: "Overlay") -> bool:
        """Tell whether earlier never shows, because this entry applies wherever it does and replaces all it sets."""
        return (
            self.context_from_tokens is not None
            and earlier.context_from_tokens is not None
            and self.context_from_tokens <= earlier.context_from_tokens
            and self.conditions == earlier.conditions
            and earlier.multiply_picos is None
            and self.prices.keys() >= earlier.prices.keys()
        )


@dataclass(frozen=True, slots=True)
class Row:
    """The prices of a model."""

    mark: Mark
    name: str
    aliases: list[tuple[str, Mark, str]]
    """Name, place and path."""
    prices: dict[str, Price]
    overlays: list[Overlay] = field(default_factory=list)

    def canonical(self) -> Json:
        """Return the row's place in the canonical form."""
        document: dict[str, Json] = {}
        names = sorted({name for name, _, _ in self.aliases} - {self.name})
        if names:
            document["aliases"] = names
        if self.prices:
            document["prices"] = {name: price.canonical() for name, price in self.prices.items()}
        if self.overlays:
            document["when"] = [overlay.canonical() for overlay in self.overlays]
        return document


def read_row(reader: Reader, name: str, node: Node, known: KnownFields, defaults: Mapping[str, Price]) -> Row:
    """Read one row."""
    # Most rows of a large card are prices alone, with nothing wrong in them.
    plain = node.plain(known.pers, plain_price) if isinstance(node, MappingNode) else None
    if plain is not None:
        return Row(node.mark, name, [], plain)
    path = join_path("rate_card", name)
    fields = reader.fields(node, path, known.row, unknown_reason="UNKNOWN_CLASS")
    prices = reader.prices(fields, path, known.classes)
    aliases = _read_aliases(reader, fields, path)
    row = Row(node.mark, name, aliases, prices, _read_overlays(reader, fields, path, known))
    factors = [overlay.multiply_picos for overlay in row.overlays if overlay.multiply_picos is not None]
    if factors and not largest_product_in_range(_amounts_picos(row, defaults), factors):
        message = f"the largest price times all multipliers exceeds {decimal_text(INTEGER_MAX)}"
        reader.problems.add(node.mark, path, "PRICE_RANGE", message)
    return row


def _amounts_picos(row: Row, defaults: Mapping[str, Price]) -> list[int]:
    replaced = (overlay.prices.values() for overlay in row.overlays)
    prices = itertools.chain(row.prices.values(), defaults.values(), *replaced)
    return [price.amount_picos for price in prices]


def read_model_name(reader: Reader, name: Scalar, path: str) -> bool:
    """Tell whether a row or alias has a name that a call can have."""
    if MODEL_NAME.fullmatch(name.text) and "**" not in name.text:
        return True
    message = "a model name has 1 to 256 ASCII characters without spaces; * stands for any others"
    reader.problems.add(name.mark, path, "MODEL_NAME_INVALID", message)
    return False


def _read_aliases(reader: Reader, fields: Fields, path: str) -> list[tuple[str, Mark, str]]:
    if "aliases" not in fields:
        return []
    node, below = fields["aliases"][1], join_path(path, "aliases")
    if isinstance(node, SequenceNode) and not node.items:
        return []
    texts = reader.texts(node, below, "a model name or a list of them")
    return [(text.text, text.mark, at) for text, at in texts if read_model_name(reader, text, at)]


def _read_overlays(reader: Reader, fields: Fields, path: str, known: KnownFields) -> list[Overlay]:
    if "when" not in fields:
        return []
    node, below = fields["when"][1], join_path(path, "when")
    if not isinstance(node, SequenceNode):
        reader.wrong_shape(node, below, "a list of entries")
        return []
    if len(node.items) > WHEN_MAX:
        message = f"at most {WHEN_MAX} entries in one row"
        reader.problems.add(node.mark, below, "LIMIT_EXCEEDED", message)
        return []
    overlays = [
        _read_overlay(reader, item, f"{below}[{place}]", known) for place, item in enumerate(node.items)
    ]
    for place, overlay in enumerate(overlays):
        for earlier in overlays[:place]:
            if overlay.hides(earlier):
                message = (
                    f"tiers: the entry in line {earlier.mark.line} never shows, because this one in line"
                    f" {overlay.mark.line} begins at the same context or a smaller one; write ascending contexts"
                )
                reader.problems.add(overlay.mark, f"{below}[{place}]", "TIERS_INVALID", message)
    return overlays


def _read_overlay(reader: Reader, node: Node, path: str, known: KnownFields) -> Overlay:
    fields = reader.fields(node, path, known.entry, unknown_reason="UNKNOWN_FIELD")
    prices = reader.prices(fields, path, known.classes)
    multiply_picos, multiplied = None, []
    if "multiply" in fields:
        multiply_picos = reader.decimal_picos(fields["multiply"][1], join_path(path, "multiply"), "multiply")
    if "classes" in fields:
        key, value = fields["classes"]
        below = join_path(path, "classes")
        multiplied = reader.names(value, below, known.classes, "UNKNOWN_CLASS", "class")
        if "multiply" not in fields:
            reader.problems.add(
                key.mark, below, "EFFECT_MISSING", "classes says what multiply is for; add multiply"
            )
    if isinstance(node, MappingNode) and node.entries.keys() <= set(CONDITIONS):
        message = "changes nothing: add class prices or multiply"
        reader.problems.add(node.mark, path, "EFFECT_MISSING", message)
    context = _read_context(reader, fields, path)
    return Overlay(
        node.mark, _read_conditions(reader, fields, path), context, prices, multiply_picos, multiplied
    )


def _read_context(reader: Reader, fields: Fields, path: str) -> int | None:
    """Return the smallest prompt: more than n tokens is n + 1 tokens or more."""
    floors = []
    for name, offset in (("context_over", 1), ("context_from", 0)):
        if name in fields:
            tokens = reader.integer(fields[name][1], join_path(path, name), minimum=0)
            if tokens is not None:
                floors.append(min(tokens + offset, INTEGER_MAX))
    return max(floors, default=None)


def _read_conditions(reader: Reader, fields: Fields, path: str) -> dict[str, Json]:
    """Return all conditions but the context. One that always holds is left out."""
    conditions: dict[str, Json] = {}
    for name in CHOICES:
        if name in fields:
            below = join_path(path, name)
            wanted = f"a {name} of 1 to 64 ASCII characters without spaces, or a list of them"
            values = reader.parsed_list(fields[name][1], below, _condition_value, "CONDITION_INVALID", wanted)
            conditions[name] = sorted(set(values))
    if "utc" in fields:
        wanted = '"HH:MM-HH:MM" with an end other than the start, or a list of them'
        windows = reader.parsed_list(
            fields["utc"][1], join_path(path, "utc"), parse_window, "WINDOW_INVALID", wanted
        )
        conditions["utc"] = window_texts(windows)
    if "days" in fields:
        days = reader.names(fields["days"][1], join_path(path, "days"), DAYS, "DAY_INVALID", "day")
        conditions["days"] = day_texts(days)
    conditions.update(_read_dates(reader, fields, path))
    return {name: value for name, value in conditions.items() if value}


def _condition_value(text: str) -> str | None:
    return text if CONDITION_VALUE.fullmatch(text) else None


def _read_dates(reader: Reader, fields: Fields, path: str) -> dict[str, str]:
    dates: dict[str, str] = {}
    wanted = "a date such as 2026-03-13 or a time such as 2026-03-13T12:00:00Z; leap seconds are not accepted"
    for name in ("from", "until"):
        if name in fields:
            below = join_path(path, name)
            found = reader.text(fields[name][1], below, wanted)
            instant = reader.parsed(found, below, parse_instant, "DATE_INVALID", wanted)
            if instant is not None:
                dates[name] = instant
    if len(dates) > 1 and dates["from"] >= dates["until"]:
        value = fields["until"][1]
        message = f"until must be after from, {shown(dates['from'])}"
        reader.problems.add(value.mark, join_path(path, "until"), "RANGE_EMPTY", message)
    return dates
