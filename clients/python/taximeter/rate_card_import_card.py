# SPDX-License-Identifier: Apache-2.0
"""A rate card made of somebody else's price data: its rows, where each came from, and what could not be taken over."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Context, Decimal, Inexact, InvalidOperation
from typing import Any, NamedTuple

from taximeter.errors import ConfigurationError

DECIMALS_MAX = 12
CARD_BYTES_MAX = 1_048_576
CARD_RULES_MAX = 10_000
AMOUNT_MAX = Decimal("9223372.036854775807")

OWN_CLASSES = {
    "output_video": "{parent: output}",
    "citation": "{parent: output}",
    "annotated_pages": "{per: 1000}",
    "text_messages": "{per: 1000}",
}
"""Classes that are not built in, and how a card declares them."""

CLASS_PER = {
    "requests": 1,
    "code_sessions": 1,
    "images": 1,
    "web_searches": 1_000,
    "file_searches": 1_000,
    "pages": 1_000,
    "rerank_units": 1_000,
    "annotated_pages": 1_000,
    "text_messages": 1_000,
    "audio_ms": 3_600_000,
}
"""Units that a plain price of a class is for, where they are not a million."""

_EXACT = Context(prec=200, traps=[Inexact, InvalidOperation])
_MODEL_NAME = re.compile(r"[!-~]{1,256}")
_NOT_IN_COMMENTS = re.compile(r"[^ -~]+")
_COMMENT_MAX = 300


class ImportedDataError(ConfigurationError):
    """The data is not there, or not what its package publishes."""


class Homeless(NamedTuple):
    """Something that the language of rate cards cannot say. what: field or rule of the data, with its value."""

    what: str
    reason: str


class Origin(NamedTuple):
    """Where the data is from. version: of the package, or the SHA-256 of a file."""

    package: str
    version: str


@dataclass(frozen=True, slots=True)
class ImportedPrice:
    """An amount in USD per so many units; per None is what the class's price is for."""

    amount: Decimal
    per: int | None = None
    min_quantity: int | None = None

    def __str__(self) -> str:
        """Returns the price as a card has it."""
        if self.per is None:
            return decimal_text(self.amount)
        minimum = "" if self.min_quantity is None else f", min: {self.min_quantity}"
        return f"{{price: {decimal_text(self.amount)}, per: {self.per}{minimum}}}"


Prices = dict[str, ImportedPrice]


@dataclass(frozen=True, slots=True)
class ImportedEntry:
    """An entry of `when`. conditions: by name, as YAML."""

    conditions: Mapping[str, str]
    prices: Prices = field(default_factory=dict)
    multiply: Decimal | None = None

    def __str__(self) -> str:
        """Returns the entry as a card has it."""
        parts = [f"{name}: {value}" for name, value in self.conditions.items()]
        parts += [f"{name}: {price}" for name, price in self.prices.items()]
        if self.multiply is not None:
            parts.append(f"multiply: {decimal_text(self.multiply)}")
        return f"{{{', '.join(parts)}}}"


@dataclass(slots=True)
class ImportedRow:
    """The prices of a model. source: key of the data, and what it says about where its prices are from."""

    name: str
    source: str
    aliases: list[str] = field(default_factory=list)
    prices: Prices = field(default_factory=dict)
    entries: list[ImportedEntry] = field(default_factory=list)
    homeless: list[Homeless] = field(default_factory=list)
    is_written: bool = False

    def drop(self, what: str, reason: str) -> None:
        """Notes something that cannot be said."""
        self.homeless.append(Homeless(what, reason))

    def take(self, prices: Prices, usage_class: str, found: "ImportedPrice | str", what: str) -> None:
        """Adds a price, or the reason why there is none."""
        if isinstance(found, str):
            self.drop(what, found)
        elif usage_class in prices and prices[usage_class] != found:
            self.drop(what, f"another price of the model is for {usage_class} already")
        else:
            prices[usage_class] = found


@dataclass(slots=True)
class ImportedCard:
    """Rows from one package's data."""

    origin: Origin
    rows: list[ImportedRow] = field(default_factory=list)
    _taken: set[str] = field(default_factory=set)

    def add(self, row: ImportedRow) -> None:
        """Adds a row, under the names that no earlier row has."""
        aliases = [
            alias for alias in dict.fromkeys(row.aliases) if alias != row.name and self._is_free(row, alias)
        ]
        row.is_written = self._is_free(row, row.name)
        if row.is_written:
            row.aliases = aliases
            self._taken.update((row.name, *aliases))
            if not row.prices and not row.entries:
                # The row stays, empty, so that nothing else prices the model.
                row.drop(row.name, "no price that a card can have")
        self.rows.append(row)

    def _is_free(self, row: ImportedRow, name: str) -> bool:
        if not _MODEL_NAME.fullmatch(name) or "**" in name:
            row.drop(f"name {name}", "not the name of a model")
            return False
        if name in self._taken:
            row.drop(f"name {name}", "another row has the name")
            return False
        return True

    @property
    def written_rows(self) -> list[ImportedRow]:
        """The rows that the card has; what has no name of its own is none."""
        return [row for row in self.rows if row.is_written]

    def yaml_text(self) -> str:
        """Returns the card. Raises ImportedDataError when it is larger than a server takes."""
        rows = self.written_rows
        lines = [
            f"# Imported from {self.origin.package} {self.origin.version} by taximeter rate-card import.",
            "# Before each row: its key in the data. What a card cannot say is there, too, after 'without a home'.",
            "billing:",
            "  currency: USD",
        ]
        used = {name for row in rows for prices in _all_prices(row) for name in prices}
        declared = [f"    {name}: {how}" for name, how in OWN_CLASSES.items() if name in used]
        lines += ["  classes:", *declared] if declared else []
        lines.append("  rate_card:" if rows else "  rate_card: {}")
        for row in self.rows:
            lines += _row_lines(row)
        text = "\n".join(lines) + "\n"
        rules = sum(1 + len(row.entries) for row in rows)
        if len(text) > CARD_BYTES_MAX or rules > CARD_RULES_MAX:
            message = (
                f"the card would have {len(text):,} bytes and {rules:,} rows and entries of when; a server takes"
                f" {CARD_BYTES_MAX:,} and {CARD_RULES_MAX:,}: choose with --provider"
            )
            raise ImportedDataError(message)
        return text

    def summary(self) -> list[str]:
        """Returns what was read and left out, in lines for people."""
        reasons = Counter(homeless.reason for row in self.rows for homeless in row.homeless)
        first = (
            f"{self.origin.package} {self.origin.version}: {len(self.rows):,} models read,"
            f" {len(self.written_rows):,} rows written, {reasons.total():,} things without a home."
        )
        return [first, *(f"{count:7,}  {reason}" for reason, count in reasons.most_common())]


def _all_prices(row: ImportedRow) -> Iterable[Prices]:
    yield row.prices
    for entry in row.entries:
        yield entry.prices


def _row_lines(row: ImportedRow) -> list[str]:
    lines = [_comment(row.source)]
    lines += [_comment(f"without a home: {what}: {reason}") for what, reason in row.homeless]
    if not row.is_written:
        return lines
    fields = [f"aliases: [{', '.join(map(quoted, row.aliases))}]"] if row.aliases else []
    fields += [f"{name}: {price}" for name, price in row.prices.items()]
    if not row.entries:
        return [*lines, f"    {quoted(row.name)}: {{{', '.join(fields)}}}"]
    whens = [f"        - {entry}" for entry in row.entries]
    return [*lines, f"    {quoted(row.name)}:", *(f"      {part}" for part in fields), "      when:", *whens]


def _comment(text: str) -> str:
    plain = _NOT_IN_COMMENTS.sub(" ", text)
    return f"    # {plain}" if len(plain) <= _COMMENT_MAX else f"    # {plain[:_COMMENT_MAX]}..."


def quoted(text: str) -> str:
    """Returns text in YAML's quotes."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def decimal_text(amount: Decimal) -> str:
    """Returns all digits of an amount, without an exponent and superfluous zeros."""
    text = f"{amount:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def times(value: Decimal, factor: int) -> Decimal:
    """Returns the exact product."""
    return _EXACT.multiply(value, Decimal(factor))


def price_of(value: Any, usage_class: str, units: int) -> ImportedPrice | str:
    """Returns the price of a class, or why a card cannot have it.

    value: a Decimal or int of the data. units: how many of it the class's plain price is for; 1 when it is for that.
    """
    if isinstance(value, bool) or not isinstance(value, Decimal | int):
        return "not a number"
    amount = Decimal(value)
    if not amount.is_finite() or amount < 0:
        return "not a price, but negative or not finite"
    amount = times(amount, units)
    tens = 0
    while len(decimal_text(times(amount, 10**tens)).partition(".")[2]) > DECIMALS_MAX:
        tens += 1
    amount = times(amount, 10**tens)
    if amount > AMOUNT_MAX:
        return "a price beyond what a card can have"
    return ImportedPrice(amount, CLASS_PER.get(usage_class, 1_000_000) * 10**tens if tens else None)
