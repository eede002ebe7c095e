# SPDX-License-Identifier: Apache-2.0
"""How a record got its price: found in the ledger, priced once more by its card, and laid out step by step."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from taximeter_server import _native
from taximeter_server.rate_card_conditions import condition_text, effect_text
from taximeter_server.record_entries import RecordFinder, Row
from taximeter_server.usage_class import BUILT_IN_CLASSES

_NANOS_PER_MICRO = 1_000


@dataclass(frozen=True, slots=True)
class AppliedOverlay:
    """An entry of ``when`` that applied, in words. position: from 0."""

    position: int
    condition: str
    effect: str


@dataclass(frozen=True, slots=True)
class ExplainedLine:
    """A line of the ledger. price_chain: classes that were asked for a price, in order.

    exact_picos: its cost before rounding, None when it is unpriced.
    """

    row: Row
    price_chain: tuple[str, ...]
    exact_picos: Fraction | None


@dataclass(frozen=True, slots=True)
class RecordExplanation:
    """A record and how it got its price. record: any of its rows. adjustments: rows of each, oldest first.

    resolution: as RateCard.resolve answers, None for none. is_reproduced: the card still gives the same lines.
    """

    record: Row
    resolution: Mapping[str, str] | None
    prompt_tokens: int
    overlays: tuple[AppliedOverlay, ...]
    lines: tuple[ExplainedLine, ...]
    is_reproduced: bool
    adjustments: tuple[tuple[Row, ...], ...]

    reported: Row | None = None
    """The row with what the provider reported, where the record was sent so."""

    @property
    def cost_picos(self) -> int:
        """What was charged when the usage was recorded."""
        return sum(int(line.row["cost_picos"]) for line in self.lines)

    @property
    def adjusted_cost_picos(self) -> int:
        """What is charged now."""
        return self.cost_picos + sum(int(row["cost_picos"]) for rows in self.adjustments for row in rows)


class RecordExplainer:
    """Explains records of one ledger. Thread-safe."""

    def __init__(self, finder: RecordFinder, *, canonical_json: Callable[[str], str]) -> None:
        """canonical_json: that of a published card or of a tenant's own prices, by its id."""
        self._finder = finder
        self._canonical_json = canonical_json

    def explain(
        self, record_id: str, *, tenant: str, readable_tenants: tuple[str, ...] | None
    ) -> list[RecordExplanation]:
        """Explain every record of that id, as RecordFinder.find finds it. Raises RecordUnknownError."""
        found = self._finder.find(record_id, tenant=tenant, readable_tenants=readable_tenants)
        return [self._explain(entries.rows, entries.corrections) for entries in found]

    def _explain(self, rows: Sequence[Row], adjustments: tuple[tuple[Row, ...], ...]) -> RecordExplanation:
        record = rows[0]
        used = [row for row in rows if row["usage_class"] is not None]
        reported = next((row for row in rows if row["usage_json"] is not None), None)
        if record["rate_card_id"] is None:
            lines = tuple(ExplainedLine(row, (row["usage_class"],), None) for row in used)
            return RecordExplanation(record, None, 0, (), lines, True, adjustments, reported)  # noqa: FBT003 (a fact)
        text = self._canonical_json(record["rate_card_id"])
        card, document = _native.RateCard(text.encode()), json.loads(text)
        own = record["tenant_prices_id"]
        priced = card.price(
            model=record["model"] or "",
            provider=record["provider"] or "",
            usage={row["usage_class"]: row["quantity"] for row in used},
            occur_time_nanos=record["occur_time_us"] * _NANOS_PER_MICRO,
            tier=record["tier"] or "",
            region=record["region"] or "",
            speed=record["speed"] or "",
            calls=record["entry_calls"],
            tenant_prices=_native.TenantPrices(self._canonical_json(own).encode()) if own else None,
        )
        when = document["rows"].get(priced.row, {}).get("when", [])
        return RecordExplanation(
            record=record,
            resolution=card.resolve(record["model"] or "", record["provider"] or ""),
            prompt_tokens=priced.prompt_tokens,
            overlays=tuple(
                AppliedOverlay(position, condition_text(when[position]), effect_text(when[position]))
                for position in priced.overlays_applied
            ),
            lines=tuple(_explained(row, document) for row in used),
            is_reproduced=_is_same(used, priced.lines),
            adjustments=adjustments,
            reported=reported,
        )


def _explained(row: Row, card: Mapping[str, Any]) -> ExplainedLine:
    exact = None
    if not row["unpriced"]:
        exact = Fraction(row["billed_quantity"] * row["amount_picos"], row["per"])
    return ExplainedLine(row, _price_chain(row["usage_class"], row["priced_as"], card), exact)


def _price_chain(usage_class: str, priced_as: str | None, card: Mapping[str, Any]) -> tuple[str, ...]:
    parents = {name: found.parent for name, found in BUILT_IN_CLASSES.items()}
    parents |= {name: found.get("parent") for name, found in card.get("classes", {}).items()}
    chain = [usage_class]
    while chain[-1] != priced_as and (parent := parents.get(chain[-1])) is not None:
        chain.append(parent)
    return tuple(chain)


def _is_same(rows: Sequence[Row], lines: Sequence[_native.PricedLine]) -> bool:
    names = (
        "usage_class",
        "priced_as",
        "quantity",
        "billed_quantity",
        "amount_picos",
        "cost_picos",
        "unpriced",
    )
    recorded = [tuple(row[name] for name in names) for row in rows]
    return recorded == [tuple(getattr(line, name) for name in names) for line in lines]
