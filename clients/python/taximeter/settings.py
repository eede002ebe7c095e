# SPDX-License-Identifier: Apache-2.0
"""What an administrator sets and sees: tenants, rate cards, keys, the server.

All values are immutable; times are in UTC.
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from taximeter.money import decimal_string


class Role(StrEnum):
    """What a key may do."""

    ADMIN = "ADMIN"
    """Everything."""
    METER = "METER"
    """Record, check quotas, estimate, see the state of quotas."""
    READ = "READ"
    """Reports, estimates, rate cards and limits, without changing anything."""
    UNRECOGNIZED = "UNRECOGNIZED"
    """A role that this client does not know yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The maxima of one level of a tenant's path. None means no limit; 0 lets nothing pass."""

    requests_per_minute: int | None = None
    """Requests in any 60 seconds."""
    tokens_per_day: int | None = None
    """Input, output and reasoning tokens per UTC day."""
    cost_per_day_picos: int | None = None
    """Cost per UTC day in pico-units of the currency; `money.picos_of` makes it from a Decimal."""

    @property
    def cost_per_day(self) -> Decimal | None:
        """Cost per UTC day in units of the currency."""
        return None if self.cost_per_day_picos is None else Decimal(decimal_string(self.cost_per_day_picos))


@dataclass(frozen=True, slots=True)
class Tenant:
    """The settings of one level of a tenant's path."""

    name: str
    """Path of one to four segments."""
    display_name: str
    """Name for people."""
    limits: Limits
    """Maxima at this level."""
    update_time: datetime | None
    """When the settings were last changed."""


@dataclass(frozen=True, slots=True)
class RateCardEntry:
    """One entry of the timeline: a card and from when on it is in force."""

    version: int
    """Position in the timeline, from 1."""
    rate_card_id: str
    """The card: hex SHA-256 of its canonical form."""
    effective_time: datetime | None
    """When the card takes force."""
    publish_time: datetime | None
    """When it was published."""
    author: str
    """Who published it: id of the key."""
    note: str
    """Why, as the author wrote it."""
    chain_hash: str
    """Hex SHA-256 over this entry and the hash of the entry before."""


@dataclass(frozen=True, slots=True)
class RateCard:
    """A card."""

    entry: RateCardEntry
    """Newest entry of the timeline that names the card."""
    yaml: str
    """The card as published."""
    canonical_json: str
    """Canonical form, whose SHA-256 is the id."""


@dataclass(frozen=True, slots=True)
class PublishedRateCard:
    """The answer to publishing a card."""

    entry: RateCardEntry
    """The new entry, or the newest when its content is the same."""
    created: bool
    """False when the content was the same as the newest entry's."""


@dataclass(frozen=True, slots=True)
class RateCardProblem:
    """One thing wrong in a card."""

    line: int
    """Line, from 1. 0 when it concerns the whole file."""
    column: int
    """Column, from 1."""
    field: str
    """Path of the field."""
    reason: str
    """Stable name of the problem."""
    message: str
    """One sentence for people."""


@dataclass(frozen=True, slots=True)
class RateCardCheck:
    """The answer to validating a card."""

    rate_card_id: str
    """Id that the card would have. Empty when it has problems."""
    problems: tuple[RateCardProblem, ...]
    """What is wrong. Empty when the card is good."""


@dataclass(frozen=True, slots=True)
class Key:
    """An API key without its secret."""

    key_id: str
    """The part of the key between "tx_" and the secret."""
    role: Role
    """What the key may do."""
    tenants: tuple[str, ...]
    """Tenants that the key is bound to. Empty means all."""
    note: str
    """What the key is for."""
    create_time: datetime | None
    """When the key was made."""
    expire_time: datetime | None
    """When the key stops working. None means never."""
    revoke_time: datetime | None
    """When the key was revoked. None while it works."""


@dataclass(frozen=True, slots=True)
class CreatedKey:
    """A new key; its secret is shown this once."""

    key: Key
    """The key."""
    secret: str
    """The whole secret, "tx_..."."""

    def __repr__(self) -> str:
        """Leaves the secret out, because representations end up in logs."""
        return f"CreatedKey(key={self.key!r}, secret=...)"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who the caller is."""

    key_id: str
    """Id of the caller's key."""
    role: Role
    """What the caller may do."""
    tenants: tuple[str, ...]
    """Tenants that the caller is bound to. Empty means all."""
    server_version: str
    """Version of the server."""


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """The state of one server instance."""

    server_version: str
    """Version of the server."""
    store_available: bool
    """Whether the store answers."""
    store_version: str
    """Name and version of the store."""
    journal_pending_records: int
    """Records accepted while the store was away and not yet applied."""
    journal_bytes: int
    """Bytes of journal segments on disk."""
    unarchived_entries: int
    """Ledger entries not yet in Parquet files."""
    rate_card_version: int
    """Newest version of the rate-card timeline known to the instance."""
    start_time: datetime | None
    """When the server started."""
