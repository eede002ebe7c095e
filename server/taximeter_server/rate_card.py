# SPDX-License-Identifier: Apache-2.0
"""Rate cards: from a YAML file to the canonical JSON that is compiled, and whose SHA-256 is the card's id.

The canonical form has sorted keys, no spaces, decimals as strings of plain digits, every price with its unit, and
conditions as sorted lists; what says nothing is left out. So files that mean the same have the same id, and a changed
price changes it. The order of ``when`` entries is kept: it is the order of evaluation.

Prices are exact decimals of at most 12 places. A price after multipliers that needs more is rounded half to even,
once, when the card is compiled.
"""

import contextlib
import hashlib
from dataclasses import dataclass, field

from taximeter_server._native import ROOT_KEY, MappingNode, Mark, canonical_json, join_path, shown
from taximeter_server.currency import CURRENCIES
from taximeter_server.rate_card_classes import canonical_classes, read_classes
from taximeter_server.rate_card_problems import (
    WHOLE_FILE,
    ProblemList,
    RateCardInvalidError,
    RateCardProblem,
    TooManyProblemsError,
    suggestion,
)
from taximeter_server.rate_card_reader import Json, Price, Reader
from taximeter_server.rate_card_rows import Fields, KnownFields, Row, read_model_name, read_row
from taximeter_server.rate_card_yaml import Node, parse_yaml
from taximeter_server.usage_class import BUILT_IN_CLASSES, UsageClass

__all__ = [
    "CardReader",
    "Fields",
    "RateCardDocument",
    "RateCardInvalidError",
    "RateCardProblem",
    "parse_rate_card",
]

FORMAT = 1
"""Version of the canonical form."""

DEFAULT_CURRENCY = "USD"
REJECT = "reject"
CARD_FIELDS = ("currency", "rate_card", "defaults", "classes", "unknown_model")


@dataclass(frozen=True, slots=True)
class RateCardDocument:
    """A valid rate card. rows: as read, in the order of the file; not compared."""

    canonical_json: bytes
    rate_card_id: str
    currency: str
    rows: tuple[Row, ...] = field(compare=False)


def parse_rate_card(yaml_text: str | bytes) -> RateCardDocument:
    """Read a card. Raises RateCardInvalidError with all its problems, in the order of the file."""
    problems = ProblemList()
    card: dict[str, Json] = {}
    rows: tuple[Row, ...] = ()
    with contextlib.suppress(TooManyProblemsError):
        card, rows = _read(CardReader(problems), parse_yaml(yaml_text, problems))
    problems.raise_if_any()
    written = canonical_json(card)
    rate_card_id = hashlib.sha256(written).hexdigest()
    return RateCardDocument(written, rate_card_id, str(card["currency"]), rows)


def _read(reader: "CardReader", root: Node | None) -> tuple[dict[str, Json], tuple[Row, ...]]:
    """Return the canonical card and its rows."""
    body = reader.body(root)
    if body is None:
        return {}, ()
    fields = reader.fields(body, "", CARD_FIELDS)
    if isinstance(body, MappingNode) and "rate_card" not in fields:
        reader.problems.add(body.mark, "rate_card", "FIELD_REQUIRED", "required: rate_card")
    return reader.card(fields)


class CardReader(Reader):
    """Reads the top of a card."""

    def body(self, root: Node | None) -> Node | None:
        """Return what stands below the one key at the top."""
        fields = self.fields(root, "", (ROOT_KEY,)) if root is not None else {}
        if ROOT_KEY in fields:
            return fields[ROOT_KEY][1]
        if root is None or isinstance(root, MappingNode):
            self.problems.add(WHOLE_FILE, ROOT_KEY, "FIELD_REQUIRED", f"required: {ROOT_KEY}")
        return None

    def card(self, fields: Fields) -> tuple[dict[str, Json], tuple[Row, ...]]:
        """Return the canonical card of its fields, and its rows."""
        classes = read_classes(self, fields["classes"][1]) if "classes" in fields else BUILT_IN_CLASSES
        card: dict[str, Json] = {"format": FORMAT, "currency": DEFAULT_CURRENCY}
        if "currency" in fields:
            card["currency"] = self._currency(fields["currency"][1])
        defaults: dict[str, Price] = {}
        if "defaults" in fields:
            default_fields = self.fields(
                fields["defaults"][1], "defaults", classes, unknown_reason="UNKNOWN_CLASS"
            )
            defaults = self.prices(default_fields, "defaults", classes)
        rows = self._rows(fields["rate_card"][1], classes, defaults) if "rate_card" in fields else {}
        card["rows"] = {name: row.canonical() for name, row in rows.items()}
        if declared := canonical_classes(classes):
            card["classes"] = declared
        if defaults:
            card["defaults"] = {name: price.canonical() for name, price in defaults.items()}
        if "unknown_model" in fields:
            policy = self._unknown_model(fields["unknown_model"][1], rows)
            if policy != REJECT:
                card["unknown_model"] = policy
        return card, tuple(rows.values())

    def _currency(self, node: Node) -> str:
        found = self.text(node, "currency", "ISO 4217 capitals")
        if found is not None and found.text not in CURRENCIES:
            self.problems.add(found.mark, "currency", "CURRENCY_INVALID", "currency: ISO 4217 capitals")
        return found.text if found is not None else DEFAULT_CURRENCY

    def _unknown_model(self, node: Node, rows: dict[str, Row]) -> str:
        found = self.text(node, "unknown_model", f"{REJECT} or the name of a row")
        if found is None:
            return REJECT
        if found.text != REJECT and found.text not in rows:
            message = f"no row {shown(found.text)}{suggestion(found.text, (REJECT, *rows))}"
            self.problems.add(found.mark, "unknown_model", "UNKNOWN_ROW", message)
        return found.text

    def _rows(self, node: Node, classes: dict[str, UsageClass], defaults: dict[str, Price]) -> dict[str, Row]:
        if not isinstance(node, MappingNode):
            self.wrong_shape(node, "rate_card", "a mapping of models")
            return {}
        known = KnownFields(classes)
        rows: dict[str, Row] = {}
        owners: dict[str, tuple[str, Mark]] = {}
        for name, (key, value) in node.entries.items():
            if read_model_name(self, key, join_path("rate_card", name)):
                owners[name] = (name, key.mark)
            rows[name] = read_row(self, name, value, known, defaults)
        for name, row in rows.items():
            for alias, mark, path in row.aliases:
                owner, first = owners.setdefault(alias, (name, mark))
                if owner != name:
                    message = f"{shown(alias)} belongs to the row {shown(owner)} in line {first.line} already"
                    self.problems.add(mark, path, "MODEL_NAME_DUPLICATE", message)
        return rows
