# SPDX-License-Identifier: Apache-2.0
"""What an administrator sets and sees: tenants, rate cards, keys, the server.

All values are immutable; times are in UTC.
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from taximeter.billing import PlanTerms
from taximeter.errors import ServerError
from taximeter.money import decimal_string
from taximeter.results import CostLine, LimitKind


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
    shadow: tuple[LimitKind, ...] = ()
    """Limits that are only watched: counted and shown, but they deny nothing."""

    @property
    def cost_per_day(self) -> Decimal | None:
        """Cost per UTC day in units of the currency."""
        return None if self.cost_per_day_picos is None else Decimal(decimal_string(self.cost_per_day_picos))


@dataclass(frozen=True, slots=True)
class TemporaryLimits:
    """Limits that stand in for others until an instant, and then end by themselves."""

    limits: Limits
    """Maxima; None leaves what it would be without."""
    until_time: datetime
    """When they end."""


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
    temporary_limits: TemporaryLimits | None = None
    """Limits that stand in for these until an instant, which may have passed."""
    plan: str = ""
    """Name of the tenant's plan; limits of its own lie over those of the plan. Empty for none."""
    fail_open_requests: int = 0
    """Requests that each server may let pass while the store cannot decide. 0 lets nothing pass."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A named set of limits, which each of its tenants has for itself."""

    name: str
    """1 to 64 characters of a-z 0-9 . _ -. The plans default, default-2, default-3 and default-4 are those of levels
    without settings, by depth."""
    display_name: str
    """Name for people."""
    limits: Limits
    """Maxima of each tenant."""
    update_time: datetime | None
    """When the plan was last changed."""
    terms: PlanTerms | None = None
    """What a subscription to it costs. None: nobody can subscribe to it."""


@dataclass(frozen=True, slots=True)
class TenantRemoval:
    """What removing a tenant removed."""

    removed_tenants: tuple[str, ...]
    """Tenants whose settings were removed, by name."""
    revoked_key_ids: tuple[str, ...]
    """Ids of the keys that were revoked."""


@dataclass(frozen=True, slots=True)
class PutOutcome:
    """The outcome for one of many tenants; exactly one of `tenant` and `error` is set."""

    name: str
    """The tenant."""
    tenant: Tenant | None
    """The settings as stored."""
    error: ServerError | None
    """Why they were refused, alone. It is returned, not raised."""


class RateCardEntryKind(StrEnum):
    """What an entry of the timeline does."""

    CARD = "CARD"
    """Puts a card in force."""
    WITHDRAWAL = "WITHDRAWAL"
    """Withdraws a future entry."""
    TENANT_PRICES = "TENANT_PRICES"
    """Sets or ends a tenant's own prices."""
    UNRECOGNIZED = "UNRECOGNIZED"
    """A kind that this client does not know yet."""


@dataclass(frozen=True, slots=True)
class RateCardEntry:
    """One entry of the timeline: it puts a card or a tenant's own prices in force, or withdraws such an entry."""

    version: int
    """Position in the timeline, from 1."""
    rate_card_id: str
    """The card: hex SHA-256 of its canonical form. Empty unless kind is CARD."""
    effective_time: datetime | None
    """When it takes force; of a withdrawal, when the withdrawn entry would have."""
    publish_time: datetime | None
    """When it was published."""
    author: str
    """Who published it: id of the key."""
    note: str
    """Why, as the author wrote it."""
    chain_hash: str
    """Hex SHA-256 over this entry and the hash of the entry before."""
    kind: RateCardEntryKind = RateCardEntryKind.CARD
    """What the entry does."""
    tenant: str = ""
    """Tenant whose own prices it sets or ends. Empty unless kind is TENANT_PRICES."""
    tenant_prices_id: str = ""
    """The own prices: hex SHA-256 of their canonical form. Empty where they end."""
    withdrawn_version: int = 0
    """Version of the entry that it withdraws. 0 unless kind is WITHDRAWAL."""
    withdrawn: bool = False
    """True when this entry was withdrawn before it took force."""


@dataclass(frozen=True, slots=True)
class TenantPrices:
    """Own prices of a tenant."""

    entry: RateCardEntry
    """The entry of the timeline that set them; its tenant is the level that they come from."""
    yaml: str
    """The prices as put."""
    canonical_json: str
    """Canonical form, whose SHA-256 is the id."""


@dataclass(frozen=True, slots=True)
class RateCardDifference:
    """One thing in the timeline that is not as it was published."""

    version: int
    """Version of the entry. 0 where no entry is known."""
    document_id: str
    """The card or the own prices. Empty where the entry itself differs."""
    place: str
    """Where: the name of a key in the store, or of a file."""
    message: str
    """What differs, one sentence for people."""


@dataclass(frozen=True, slots=True)
class RateCardVerification:
    """What a walk over the whole timeline looked at, and what differs."""

    entry_count: int
    """Entries of the timeline."""
    document_count: int
    """Cards and tenants' own prices."""
    file_count: int
    """Files beside the ledger."""
    differences: tuple[RateCardDifference, ...]
    """What differs, in the order of the timeline. Empty when everything is as it was published."""
    chain_hash: str
    """Chain hash of the newest entry: kept elsewhere, it proves later that nothing before it changed."""


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
    warnings: tuple["RateCardProblem", ...] = ()
    """What may not be meant in a card, or in the prices of a tenant."""


@dataclass(frozen=True, slots=True)
class RateCardProblem:
    """One thing wrong in a card, or one that may not be meant."""

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
    warnings: tuple[RateCardProblem, ...] = ()
    """What may not be meant, in a card that is good. It may be published all the same."""


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
    predecessor_id: str = ""
    """The key that this one was rotated from. Empty for none."""
    successor_id: str = ""
    """The key that this one was rotated to. Empty for none."""
    last_use_time: datetime | None = None
    """When the key was last used, to some minutes. None when it never was, and in answers other than a list."""


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
class RotatedKey:
    """The successor of a key; its secret is shown this once."""

    key: Key
    """The successor."""
    secret: str
    """The whole secret of the successor, "tx_..."."""
    predecessor: Key
    """The old key, with the time at which it stops working."""

    def __repr__(self) -> str:
        """Leaves the secret out, because representations end up in logs."""
        return f"RotatedKey(key={self.key!r}, secret=..., predecessor={self.predecessor!r})"


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
    """Ledger entries not yet in Parquet files; records that were applied together count as one."""
    rate_card_version: int
    """Newest version of the rate-card timeline known to the instance."""
    start_time: datetime | None
    """When the server started."""


@dataclass(frozen=True, slots=True)
class RecordConflict:
    """A journaled record that could not be applied, because its id belongs to another record."""

    tenant: str
    """Tenant of the record."""
    record_id: str
    """Id of the record."""
    receive_time: datetime | None
    """When it was accepted."""
    find_time: datetime | None
    """When the conflict was found."""
    model: str
    """Model of the record."""
    lines: tuple[CostLine, ...]
    """What the record would have been charged."""
