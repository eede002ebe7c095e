# SPDX-License-Identifier: Apache-2.0
"""The rules of pricing once more, written for reading: rationals, no tables, no caches.

Works on a card as plain text in dictionaries (YAML read without resolving), not on the canonical form, so that
neither the reader nor the compiler of the product is involved.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

PICO = 10**12
RANGE_MAX = 2**63 - 1

PARENTS = {
    "cache_read": "input",
    "cache_write": "input",
    "cache_write_1h": "cache_write",
    "reasoning": "output",
    "input_audio": "input",
    "input_image": "input",
    "input_video": "input",
    "cache_read_audio": "cache_read",
    "cache_read_image": "cache_read",
    "output_audio": "output",
    "output_image": "output",
}
UNITS = {
    "requests": 1,
    "web_searches": 1000,
    "file_searches": 1000,
    "tool_calls": 1,
    "code_sessions": 1,
    "audio_ms": 3600000,
    "sandbox_ms": 3600000,
    "storage_byte_hours": 720000000000,
    "pages": 1000,
    "rerank_units": 1000,
    "images": 1,
}
MILLION = 1000000
"""Units of every other class."""
DAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]

Card = Mapping[str, Any]


class OutOfRangeError(Exception):
    """A line, a sum or a count exceeds 64 bits."""


@dataclass(frozen=True)
class OraclePrice:
    """amount per units. priced_as: class that it was written for."""

    amount: Fraction
    per: int
    minimum: int
    priced_as: str


@dataclass(frozen=True)
class OracleLine:
    """A line; price is None when there is none."""

    usage_class: str
    quantity: int
    billed_quantity: int
    price: OraclePrice | None
    cost_picos: int


@dataclass
class OracleAnswer:
    """What a call costs."""

    row: str | None = None
    overlays_applied: list[int] = field(default_factory=list)
    prompt_tokens: int = 0
    quota_tokens: int = 0
    lines: list[OracleLine] = field(default_factory=list)
    cost_picos: int = 0
    unknown_model: bool = False


@dataclass(frozen=True)
class OracleCall:
    """A call."""

    model: str
    usage: Mapping[str, int]
    provider: str = ""
    tier: str = ""
    region: str = ""
    speed: str = ""
    at: datetime = datetime(2026, 11, 22, tzinfo=UTC)
    calls: int = 1


class Oracle:
    """Prices calls by one card."""

    def __init__(self, card: Card) -> None:
        self.card = card["billing"]
        self.classes: Mapping[str, Any] = self.card.get("classes", {})
        self.rows: Mapping[str, Any] = self.card["rate_card"]
        self.defaults = {
            name: self._price(name, value) for name, value in self.card.get("defaults", {}).items()
        }

    def price(self, call: OracleCall) -> OracleAnswer:
        """Price a call. Raises OutOfRangeError."""
        answer = OracleAnswer()
        for name, quantity in call.usage.items():
            chain = self.chain(name)
            cached = any(ancestor.startswith("cache_") for ancestor in chain)
            if chain[-1] == "input":
                answer.prompt_tokens += quantity
            if chain[-1] in {"input", "output"} and not cached:
                answer.quota_tokens += quantity
        if max(answer.prompt_tokens, answer.quota_tokens) > RANGE_MAX:
            raise OutOfRangeError
        prices: dict[str, OraclePrice] = {}
        if call.model:
            answer.row = find_row(self.rows, call.model, call.provider) or self._unknown_row()
            answer.unknown_model = answer.row is None
        if answer.row is not None:
            row = self.rows[answer.row]
            overlays = row.get("when", [])
            answer.overlays_applied = [
                position
                for position, when in enumerate(overlays)
                if applies(when, call, answer.prompt_tokens)
            ]
            prices = self.overlaid(row, [overlays[position] for position in answer.overlays_applied])
        for name, quantity in call.usage.items():
            if quantity:
                price = None if answer.unknown_model and self.is_token(name) else self._lookup(prices, name)
                answer.lines.append(_line(name, quantity, price))
        answer.cost_picos = sum(line.cost_picos for line in answer.lines)
        if answer.cost_picos > RANGE_MAX:
            raise OutOfRangeError
        return answer

    def _unknown_row(self) -> str | None:
        policy = self.card.get("unknown_model", "reject")
        return None if policy == "reject" else str(policy)

    def overlaid(self, row: Card, overlays: Sequence[Card]) -> dict[str, OraclePrice]:
        """Apply the matching entries from top to bottom; round each product once, at the end."""
        exact = {
            name: self._price(name, value) for name, value in row.items() if name not in {"aliases", "when"}
        }
        for when in overlays:
            exact.update(
                {name: self._price(name, value) for name, value in when.items() if self._is_class(name)}
            )
            if "multiply" not in when:
                continue
            named = _listed(when.get("classes", []))
            before = dict(exact)
            for name in named or [name for name in exact if self.is_token(name)]:
                price = self._lookup(before, name)
                if price is not None:
                    amount = price.amount * Fraction(when["multiply"])
                    exact[name] = OraclePrice(amount, price.per, price.minimum, price.priced_as)
        return {
            name: OraclePrice(
                Fraction(round(price.amount * PICO), PICO), price.per, price.minimum, price.priced_as
            )
            for name, price in exact.items()
        }

    def _lookup(self, prices: Mapping[str, OraclePrice], name: str) -> OraclePrice | None:
        chain = self.chain(name)
        found = [prices[at] for at in chain if at in prices] + [
            self.defaults[at] for at in chain if at in self.defaults
        ]
        return found[0] if found else None

    def _price(self, name: str, value: str | Card) -> OraclePrice:
        if isinstance(value, str):
            return OraclePrice(Fraction(value), self._unit(name), 0, name)
        per, minimum = int(Fraction(value.get("per", self._unit(name)))), int(Fraction(value.get("min", 0)))
        return OraclePrice(Fraction(value["price"]), per, minimum, name)

    def _unit(self, name: str) -> int:
        for at in self.chain(name):
            if "per" in self.classes.get(at, {}):
                return int(Fraction(self.classes[at]["per"]))
            if at in UNITS:
                return UNITS[at]
        return MILLION

    def chain(self, name: str) -> list[str]:
        """Return a class and what it falls back to, the nearest first."""
        chain = [name]
        while (parent := PARENTS.get(chain[-1]) or self.classes.get(chain[-1], {}).get("parent")) is not None:
            chain.append(parent)
        return chain

    def _is_class(self, name: str) -> bool:
        return name in {"input", "output", "characters"} | PARENTS.keys() | UNITS.keys() | self.classes.keys()

    def is_token(self, name: str) -> bool:
        """Tell whether a class counts tokens."""
        return self.chain(name)[-1] in {"input", "output"}


def _line(name: str, quantity: int, price: OraclePrice | None) -> OracleLine:
    if price is None:
        return OracleLine(name, quantity, quantity, None, 0)
    billed_quantity = max(quantity, price.minimum)
    # Python rounds a Fraction half to even.
    cost_picos = round(billed_quantity * price.amount * PICO / price.per)
    if cost_picos > RANGE_MAX:
        raise OutOfRangeError
    return OracleLine(name, quantity, billed_quantity, price, cost_picos)


def _listed(value: str | Sequence[str]) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def applies(when: Card, call: OracleCall, prompt_tokens: int) -> bool:
    """Tell whether all conditions of an entry hold."""
    single = call.calls <= 1
    held = [
        getattr(call, name) in _listed(when[name]) for name in ("tier", "region", "speed") if name in when
    ]
    if "context_over" in when:
        held.append(single and prompt_tokens > Fraction(when["context_over"]))
    if "context_from" in when:
        held.append(single and prompt_tokens >= Fraction(when["context_from"]))
    if "utc" in when:
        held.append(any(_in_window(window, call.at) for window in _listed(when["utc"])))
    if "days" in when:
        held.append(DAYS[call.at.weekday()] in _listed(when["days"]))
    if "from" in when:
        held.append(call.at >= _instant(when["from"]))
    if "until" in when:
        held.append(call.at < _instant(when["until"]))
    return all(held)


def _in_window(window: str, at: datetime) -> bool:
    start, end = (timedelta(hours=int(text[:2]), minutes=int(text[3:])) for text in window.split("-"))
    now = at - at.replace(hour=0, minute=0, second=0, microsecond=0)
    return start <= now < end if start < end else now >= start or now < end


def _instant(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


SUFFIX = re.compile(
    r"(.+)(?:-latest|[-@]20\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])"
    r"|[-@]20\d\d-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])|-v\d+:\d+)"
)
PREFIXES = [r"us\.", r"eu\.", r"anthropic\.", "openai/", "anthropic/", "azure/"]


def find_row(rows: Mapping[str, Any], model: str, provider: str) -> str | None:
    """Return the row of a model; knows only those prefixes that the tests use."""
    aliases = {alias: name for name, row in rows.items() for alias in _listed(row.get("aliases", []))}
    names = {name: name for name in rows}
    prefixes = [re.escape(provider) + "/"] * bool(provider) + PREFIXES
    prefix = re.compile(f"(?:{'|'.join(prefixes)})(.+)")
    ends, starts = _stripped(model, SUFFIX), _stripped(model, prefix)
    shorter = sorted(
        (
            (i + j, j, model[len(model) - len(start) : len(end)])
            for i, end in enumerate(ends)
            for j, start in enumerate(starts)
        ),
        key=lambda found: found[:2],
    )
    candidates = [name for _, _, name in shorter if name]
    for candidate in candidates:
        for exact in (names, aliases):
            for full in ([f"{provider}/{candidate}"] if provider else []) + [candidate]:
                if full in exact and "*" not in full:
                    return exact[full]
    seen = candidates + [f"{provider}/{candidate}" for candidate in candidates if provider]
    globs = sorted((names | aliases).items(), key=lambda item: (-len(item[0]), item[0]))
    for pattern, row in globs:
        expression = re.compile(".*".join(map(re.escape, pattern.split("*"))), re.DOTALL)
        if "*" in pattern and any(expression.fullmatch(name) for name in seen):
            return row
    return None


def _stripped(name: str, affix: re.Pattern[str]) -> list[str]:
    names = [name]
    while (found := affix.fullmatch(names[-1])) is not None:
        names.append(found[1])
    return names
