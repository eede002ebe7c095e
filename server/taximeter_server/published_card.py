# SPDX-License-Identifier: Apache-2.0
"""What an entry of the timeline puts in force: a card or a tenant's own prices, as published and in canonical form."""

import hashlib
import json
from dataclasses import dataclass
from typing import Self

from taximeter_server.errors import StoreCorruptError
from taximeter_server.rate_card import RateCardDocument, parse_rate_card
from taximeter_server.tenant_prices import TenantPricesDocument


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
    return to_publish(parse_rate_card(yaml), yaml)


def to_publish(document: RateCardDocument, yaml: str) -> PublishedCard:
    """Return a card that was read from yaml as it is published."""
    return PublishedCard(document.rate_card_id, yaml, document.canonical_json.decode())


def tenant_prices_to_publish(document: TenantPricesDocument, yaml: str) -> PublishedCard:
    """Return a tenant's own prices that were read from yaml as they are published."""
    return PublishedCard(document.tenant_prices_id, yaml, document.canonical_json.decode())


def currency_of(canonical_json: str) -> str:
    """Return the ISO 4217 code of a card. Raises StoreCorruptError."""
    try:
        return str(json.loads(canonical_json)["currency"])
    except (ValueError, TypeError, KeyError) as error:
        raise StoreCorruptError(f"rate card without a currency: {error}") from error
