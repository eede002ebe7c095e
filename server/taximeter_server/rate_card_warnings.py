# SPDX-License-Identifier: Apache-2.0
"""What may not be meant in a good rate card: prices that are rounded, and cached audio at the price of cached text."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from taximeter_server import _native
from taximeter_server._native import join_path, shown
from taximeter_server.rate_card import RateCardDocument
from taximeter_server.rate_card_conditions import condition_text
from taximeter_server.rate_card_problems import PROBLEMS_MAX, WHOLE_FILE, RateCardProblem
from taximeter_server.rate_card_rows import Row
from taximeter_server.rate_card_values import DECIMALS_MAX, decimal_text, parse_decimal_picos

_ROW = "row"
_PRIMES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47)
"""As many as fit an amount when multiplied, and more multipliers than a price has."""
_SHOWN_DECIMALS_MAX = 36
_CONDITION_LENGTH_MAX = 200

Document = Mapping[str, Any]


def card_warnings(document: RateCardDocument) -> list[RateCardProblem]:
    """Return the warnings of a card in the order of the file, at most PROBLEMS_MAX and how many more there are."""
    card: Document = json.loads(document.canonical_json)
    rows = {row.name: row for row in document.rows}
    rounded = [
        (rows[name], usage_class, positions)
        for name, usage_class, positions in _native.rounded_prices(document.canonical_json)
    ]
    rounded.sort(key=lambda found: (found[0].mark.line, found[0].mark.column))
    warnings = [_cached_audio(row) for row in document.rows if _lacks_cached_audio(row)]
    warnings += [_rounded(card, *found) for found in rounded[:PROBLEMS_MAX]]
    warnings.sort(key=lambda warning: (warning.line, warning.column))
    hidden = max(len(warnings) - PROBLEMS_MAX, 0) + max(len(rounded) - PROBLEMS_MAX, 0)
    if hidden:
        more = RateCardProblem(
            WHOLE_FILE.line, WHOLE_FILE.column, "", "MORE_WARNINGS", f"{hidden:,} more warnings"
        )
        return [*warnings[:PROBLEMS_MAX], more]
    return warnings


def _lacks_cached_audio(row: Row) -> bool:
    base = set(row.prices)
    anywhere = base.union(*(overlay.prices for overlay in row.overlays))
    return any(
        {"cache_read", "input_audio"} <= priced and "cache_read_audio" not in priced
        for priced in (base, anywhere)
    )


def _cached_audio(row: Row) -> RateCardProblem:
    return RateCardProblem(
        row.mark.line,
        row.mark.column,
        join_path(join_path("rate_card", row.name), "cache_read_audio"),
        "CACHE_READ_AUDIO_MISSING",
        f"the row {shown(row.name)} prices cache_read and input_audio but not cache_read_audio,"
        " so cached audio costs what cached text does",
    )


def _rounded(card: Document, row: Row, usage_class: str, positions: Sequence[int]) -> RateCardProblem:
    entries = card["rows"][row.name]["when"]
    multiplying = [position for position in positions if "multiply" in entries[position]]
    conditions = filter(None, (condition_text(entries[position]) for position in positions))
    condition = ", ".join(dict.fromkeys(conditions))
    if len(condition) > _CONDITION_LENGTH_MAX:
        condition = f"{condition[:_CONDITION_LENGTH_MAX]}..."
    exact, charged = "a product", "it is rounded half to even"
    if len(multiplying) <= len(_PRIMES):
        probe = _Probe(card, row.name, positions, usage_class)
        exact, charged = probe.exact_text(), f"{decimal_text(probe.charged_picos())} is charged"
    mark = row.overlays[multiplying[-1]].mark
    return RateCardProblem(
        mark.line,
        mark.column,
        join_path(f"{join_path('rate_card', row.name)}.when[{multiplying[-1]}]", "multiply"),
        "PRICE_ROUNDED",
        f"the price of {usage_class} in the row {shown(row.name)}{condition and f' ({condition})'} is {exact},"
        f" which has more than {DECIMALS_MAX} decimals; {charged}",
    )


class _Probe:
    """A price under some overlays. What it is made of is asked of the compiled card, which decides it."""

    def __init__(self, card: Document, name: str, positions: Sequence[int], usage_class: str) -> None:
        self._usage_class = usage_class
        self._classes = card.get("classes", {})
        self._defaults = _without_minimum(card.get("defaults", {}))
        row = card["rows"][name]
        self._prices = _without_minimum(row.get("prices", {}))
        entries = (row["when"][position] for position in positions)
        self._when: list[dict[str, Any]] = [
            {
                key: _without_minimum(value) if key == "prices" else value
                for key, value in entry.items()
                if key in {"prices", "multiply", "classes"}
            }
            for entry in entries
        ]

    def charged_picos(self) -> int:
        """Return the amount that is charged."""
        return self._amount_picos({})

    def exact_text(self) -> str:
        """Return the exact price as a decimal, cut after many digits."""
        multiplying = [place for place, entry in enumerate(self._when) if "multiply" in entry]
        product, scale = self._amount_picos(dict.fromkeys(multiplying, 1)), DECIMALS_MAX
        # Of prices of 1 pico and primes as multipliers, the amount tells which multipliers are part of it.
        primes = dict(zip(multiplying, _PRIMES, strict=False))
        marked_picos = self._amount_picos(primes, price_picos=1)
        for place, prime in primes.items():
            if marked_picos % prime == 0:
                product *= parse_decimal_picos(self._when[place]["multiply"]) or 0
                scale += DECIMALS_MAX
        is_cut = scale > _SHOWN_DECIMALS_MAX and product % 10 ** (scale - _SHOWN_DECIMALS_MAX) != 0
        whole, rest = divmod(product * 10**_SHOWN_DECIMALS_MAX // 10**scale, 10**_SHOWN_DECIMALS_MAX)
        text = f"{whole}.{rest:0{_SHOWN_DECIMALS_MAX}}"
        return f"{text}..." if is_cut else text.rstrip("0")

    def _amount_picos(self, factors: Mapping[int, int], *, price_picos: int | None = None) -> int:
        """Return the price with other factors, and with all prices the same if price_picos is given."""

        def priced(prices: Document) -> Document:
            if price_picos is None:
                return prices
            text = decimal_text(price_picos)
            return {name: {**price, "price": text} for name, price in prices.items()}

        when = [
            {
                **entry,
                **({"prices": priced(entry["prices"])} if "prices" in entry else {}),
                **({"multiply": str(factors[place])} if place in factors else {}),
            }
            for place, entry in enumerate(self._when)
        ]
        document = {
            "format": 1,
            "currency": "USD",
            "classes": self._classes,
            "defaults": priced(self._defaults),
            "rows": {_ROW: {"prices": priced(self._prices), "when": when}},
        }
        compiled = _native.RateCard(json.dumps(document).encode())
        answer = compiled.price(model=_ROW, usage={self._usage_class: 1}, occur_time_nanos=0)
        return answer.lines[0].amount_picos


def _without_minimum(prices: Document) -> Document:
    """Leave the smallest billed quantity out, by which an amount could cost more than can be charged."""
    return {name: {"price": price["price"], "per": price["per"]} for name, price in prices.items()}
