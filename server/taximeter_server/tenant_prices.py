# SPDX-License-Identifier: Apache-2.0
"""A tenant's own prices: from a YAML file to the canonical JSON that is compiled, and whose SHA-256 is their id.

The file is a rate card with less in it and one more field: ``markup_basis_points`` changes every list price that the
file does not replace, by hundredths of a per cent. An own price is charged as it stands; it is that of its class, and
of a class that falls back to it on the rate card, too.
"""

import contextlib
import hashlib
import re
from dataclasses import dataclass, field

from taximeter_server._native import MappingNode, SequenceNode, canonical_json, join_path
from taximeter_server.rate_card import FORMAT, CardReader, Fields
from taximeter_server.rate_card_problems import ProblemList, TooManyProblemsError
from taximeter_server.rate_card_reader import Json
from taximeter_server.rate_card_rows import Row
from taximeter_server.rate_card_yaml import Node, parse_yaml

MARKUP_BASIS_POINTS_MIN = -10_000
MARKUP_BASIS_POINTS_MAX = 100_000
"""Free of charge, and eleven times the list price."""

_MARKUP_FIELD = "markup_basis_points"
_MARKUP = re.compile(r"[+-]?[0-9]{1,6}")
_CARD_FIELDS = ("currency", "rate_card", "defaults", "classes")


@dataclass(frozen=True, slots=True)
class TenantPricesDocument:
    """Valid own prices. currency is None where there is a markup only, which is in any.

    rows: as read, in the order of the file; not compared. markup_basis_points: None where there is none.
    """

    canonical_json: bytes
    tenant_prices_id: str
    currency: str | None
    rows: tuple[Row, ...] = field(compare=False)
    markup_basis_points: int | None


def parse_tenant_prices(yaml_text: str | bytes) -> TenantPricesDocument:
    """Read own prices. Raises RateCardInvalidError with all their problems, in the order of the file."""
    problems = ProblemList()
    document: dict[str, Json] = {}
    currency: str | None = None
    rows: tuple[Row, ...] = ()
    with contextlib.suppress(TooManyProblemsError):
        document, currency, rows = _TenantPricesReader(problems).read_prices(parse_yaml(yaml_text, problems))
    problems.raise_if_any()
    written = canonical_json(document)
    prices_id = hashlib.sha256(written).hexdigest()
    markup = document.get(_MARKUP_FIELD)
    return TenantPricesDocument(
        written, prices_id, currency, rows, markup if isinstance(markup, int) else None
    )


class _TenantPricesReader(CardReader):
    """Reads the top of own prices."""

    def read_prices(self, root: Node | None) -> tuple[dict[str, Json], str | None, tuple[Row, ...]]:
        """Return the canonical form, its currency and its rows."""
        body = self.body(root)
        if body is None:
            return {}, None, ()
        fields = self.fields(body, "", (_MARKUP_FIELD, *_CARD_FIELDS))
        document: dict[str, Json] = {"format": FORMAT}
        if _MARKUP_FIELD in fields:
            document[_MARKUP_FIELD] = self._markup(fields[_MARKUP_FIELD][1])
        elif isinstance(body, MappingNode) and not {"rate_card", "defaults"} & fields.keys():
            message = f"required: rate_card, defaults or {_MARKUP_FIELD}"
            self.problems.add(body.mark, _MARKUP_FIELD, "FIELD_REQUIRED", message)
        self._refuse_named_multipliers(fields)
        card, rows = self.card(fields)
        if not card["rows"] and "defaults" not in card:
            return document, None, rows
        return {**document, "card": card}, str(card["currency"]), rows

    def _markup(self, node: Node) -> int:
        wanted = f"a whole number of basis points from {MARKUP_BASIS_POINTS_MIN} to {MARKUP_BASIS_POINTS_MAX}"

        def parse(text: str) -> int | None:
            number = int(text) if _MARKUP.fullmatch(text) else None
            in_range = number is not None and MARKUP_BASIS_POINTS_MIN <= number <= MARKUP_BASIS_POINTS_MAX
            return number if in_range else None

        found = self.text(node, _MARKUP_FIELD, wanted)
        return self.parsed(found, _MARKUP_FIELD, parse, "MARKUP_INVALID", wanted) or 0

    def _refuse_named_multipliers(self, fields: Fields) -> None:
        """A multiplier of named classes would multiply prices that the tenant does not have itself."""
        rows = fields["rate_card"][1] if "rate_card" in fields else None
        if not isinstance(rows, MappingNode):
            return
        for name, (_, row) in rows.entries.items():
            when = row.entries.get("when") if isinstance(row, MappingNode) else None
            entries = when[1].items if when is not None and isinstance(when[1], SequenceNode) else []
            for place, entry in enumerate(entries):
                if isinstance(entry, MappingNode) and "classes" in entry.entries:
                    path = join_path(join_path("rate_card", name), f"when[{place}]")
                    message = "classes: not accepted here; write the prices of the classes instead"
                    mark = entry.entries["classes"][0].mark
                    self.problems.add(mark, join_path(path, "classes"), "FIELD_NOT_ACCEPTED", message)
