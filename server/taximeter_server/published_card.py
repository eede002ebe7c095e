# SPDX-License-Identifier: Apache-2.0
"""What an entry of the timeline puts in force: a card or a tenant's own prices, as published and in canonical form."""

import hashlib
import json
from dataclasses import dataclass
from typing import Self

from taximeter_server.errors import StoreCorruptError
from taximeter_server.rate_card import parse_rate_card
from taximeter_server.tenant_prices import parse_tenant_prices


@dataclass(frozen=True, slots=True)
class PublishedCard:
    """A card, or a tenant's own prices. canonical_json is the text whose SHA-256 is the id."""

    rate_card_id: str
    yaml: str
    canonical_json: str

    @property
    def source_sha256(self) -> str:
        """SHA-256 of the YAML as published."""
        return hashlib.sha256(self.yaml.encode()).hexdigest()

    def to_json(self) -> str:
        """Return the card's document."""
        return json.dumps({"yaml": self.yaml, "canonical_json": self.canonical_json})

    @classmethod
    def from_json(cls, rate_card_id: str, document: str) -> Self:
        """Read a card's document. Raises StoreCorruptError, also when it is not the card of that id."""
        try:
            values = json.loads(document)
            card = cls(rate_card_id, values["yaml"], values["canonical_json"])
            actual_id = hashlib.sha256(card.canonical_json.encode()).hexdigest()
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise StoreCorruptError(f"rate card {rate_card_id}: {error}") from error
        if actual_id != rate_card_id:
            raise StoreCorruptError(f"rate card {rate_card_id} has the content of {actual_id}")
        return card


def compile_card(yaml: str) -> PublishedCard:
    """Check a card and bring it into canonical form. Raises RateCardInvalidError with all its problems."""
    document = parse_rate_card(yaml)
    return PublishedCard(document.rate_card_id, yaml, document.canonical_json.decode())


def compile_tenant_prices(yaml: str) -> tuple[PublishedCard, str | None]:
    """Check a tenant's own prices likewise; also returns their currency, None where they have a markup only."""
    document = parse_tenant_prices(yaml)
    card = PublishedCard(document.tenant_prices_id, yaml, document.canonical_json.decode())
    return card, document.currency


def currency_of(canonical_json: str) -> str:
    """Return the ISO 4217 code of a card. Raises StoreCorruptError."""
    try:
        return str(json.loads(canonical_json)["currency"])
    except (ValueError, TypeError, KeyError) as error:
        raise StoreCorruptError(f"rate card without a currency: {error}") from error
