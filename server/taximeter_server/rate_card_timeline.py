# SPDX-License-Identifier: Apache-2.0
"""Which prices are in force when: publishing cards and tenants' own prices, and withdrawing what is still to come.

Every change is an entry appended to one hash-chained list. By the store's clock an entry takes force at least 5 s after
it was appended, and is withdrawn at least 5 s before it takes force: an instance that may have missed a change for
longer refuses to price. So no two instances can price one instant differently.

The card of an event is that of the last card's entry with effective_time_ms <= the event's time; the first one is in
force for all earlier times too. Cards take force in the order in which they were published, and so do each tenant's own
prices: to put one before another that is still to come, withdraw that one first.
"""

from dataclasses import dataclass

from taximeter_server.errors import InvalidFieldsError
from taximeter_server.published_card import (
    PublishedCard,
    compile_card,
    currency_of,
)
from taximeter_server.rate_card_errors import (
    EffectiveTooSoonError,
    RateCardUnknownError,
    TenantPricesUnknownError,
    TimelineEntryUnknownError,
    WithdrawTooLateError,
)
from taximeter_server.rate_card_snapshots import RateCardSnapshots
from taximeter_server.store import DocumentStore
from taximeter_server.timeline_entry import (
    EntryKind,
    TimelineEntry,
    entry_in_force,
    prices_in_force,
    standing_cards,
    standing_prices,
)
from taximeter_server.timeline_log import Entries, TimelineLog

LEAD_MS = 5_000
"""Prices take force this long after they are published at the earliest: by then every instance has them or refuses."""

EFFECTIVE_TIME_MS_MAX = 253_402_300_799_999
"""The last millisecond of the year 9999."""

PREFIX_LENGTH_MIN = 8

DEFAULT_AUTHOR = "taximeter"


@dataclass(frozen=True, slots=True, kw_only=True)
class CardReference:
    """Names a card by one of these; by none, it is the card in force now."""

    rate_card_id: str | None = None
    version: int | None = None
    time_ms: int | None = None
    yaml: str | None = None


@dataclass(frozen=True, slots=True)
class ReferencedCard:
    """A card that was named. entry is None for one that is not published."""

    card: PublishedCard
    entry: TimelineEntry | None


class RateCardTimeline:
    """The timeline of a store. snapshots: keeps every entry and card as a file too, beside the ledger."""

    def __init__(self, store: DocumentStore, snapshots: RateCardSnapshots) -> None:
        self._log = TimelineLog(store, snapshots)

    def entries(self) -> tuple[TimelineEntry, ...]:
        """Return all entries, oldest first. Raises StoreCorruptError."""
        return self._log.entries()

    def publish(
        self,
        card: PublishedCard,
        *,
        author: str,
        effective_time_ms: int | None = None,
        expected_version: int | None = None,
        note: str = "",
    ) -> tuple[TimelineEntry, bool]:
        """Put a card in force from effective_time_ms on, None for the earliest possible.

        Returns (the new entry, True), or (the newest card's entry, False) when that has the same content already.
        expected_version: newest version that the author saw, 0 for none, None not to compare.
        Raises RateCardVersionConflictError, EffectiveTooSoonError, InvalidFieldsError.
        """
        _check_time(effective_time_ms)

        def same(entries: Entries) -> TimelineEntry | None:
            newest = standing_cards(entries)[-1:]
            return newest[0] if newest and newest[0].rate_card_id == card.rate_card_id else None

        def draft(entries: Entries, now_ms: int) -> TimelineEntry:
            self._check_currency(entries, currency_of(card.canonical_json))
            return TimelineEntry(
                rate_card_id=card.rate_card_id,
                effective_time_ms=_effective_time(standing_cards(entries), now_ms, effective_time_ms),
                author=author,
                note=note,
            )

        return self._log.change(same, draft, card, expected_version=expected_version, note=note)

    def withdraw(
        self, version: int, *, author: str, expected_version: int | None = None, note: str = ""
    ) -> tuple[TimelineEntry, bool]:
        """Withdraw an entry that does not take force within 5 s. Returns (the withdrawal, whether it is new).

        Raises TimelineEntryUnknownError, WithdrawTooLateError, RateCardVersionConflictError, InvalidFieldsError.
        """

        def same(entries: Entries) -> TimelineEntry | None:
            withdrawals = (entry for entry in entries if entry.kind is EntryKind.WITHDRAWAL)
            return next((entry for entry in withdrawals if entry.withdrawn_version == version), None)

        def draft(entries: Entries, now_ms: int) -> TimelineEntry:
            if not 1 <= version <= len(entries):
                raise TimelineEntryUnknownError(version)
            target = entries[version - 1]
            if target.kind is EntryKind.WITHDRAWAL:
                raise WithdrawTooLateError(version, "is a withdrawal itself")
            if target.effective_time_ms < now_ms + LEAD_MS:
                raise WithdrawTooLateError(version, "is in force or takes force in less than 5 s")
            return TimelineEntry(
                kind=EntryKind.WITHDRAWAL,
                withdrawn_version=version,
                effective_time_ms=target.effective_time_ms,
                author=author,
                note=note,
            )

        return self._log.change(same, draft, None, expected_version=expected_version, note=note)

    def put_tenant_prices(
        self,
        tenant: str,
        prices: PublishedCard,
        *,
        currency: str | None,
        author: str,
        effective_time_ms: int | None = None,
        expected_version: int | None = None,
        note: str = "",
    ) -> tuple[TimelineEntry, bool]:
        """Set what a tenant, and everything below it without own prices, is charged. As publish() otherwise.

        currency: of the prices, None where they have a markup only.
        """
        _check_time(effective_time_ms)

        def same(entries: Entries) -> TimelineEntry | None:
            newest = standing_prices(entries, tenant)[-1:]
            return newest[0] if newest and newest[0].tenant_prices_id == prices.rate_card_id else None

        def draft(entries: Entries, now_ms: int) -> TimelineEntry:
            if currency is not None:
                self._check_currency(entries, currency)
            time_ms = _effective_time(standing_prices(entries, tenant), now_ms, effective_time_ms)
            return _prices_entry(tenant, prices.rate_card_id, time_ms, author=author, note=note)

        return self._log.change(same, draft, prices, expected_version=expected_version, note=note)

    def remove_tenant_prices(
        self,
        tenant: str,
        *,
        author: str,
        effective_time_ms: int | None = None,
        expected_version: int | None = None,
        note: str = "",
    ) -> TimelineEntry:
        """End a tenant's own prices. Returns the entry that does. Raises TenantPricesUnknownError; see publish()."""
        _check_time(effective_time_ms)

        def same(entries: Entries) -> TimelineEntry | None:
            newest = standing_prices(entries, tenant)[-1:]
            if not newest:
                raise TenantPricesUnknownError(tenant)
            return None if newest[0].tenant_prices_id else newest[0]

        def draft(entries: Entries, now_ms: int) -> TimelineEntry:
            time_ms = _effective_time(standing_prices(entries, tenant), now_ms, effective_time_ms)
            return _prices_entry(tenant, "", time_ms, author=author, note=note)

        return self._log.change(same, draft, None, expected_version=expected_version, note=note)[0]

    def ensure_first(self, yaml: str) -> None:
        """Publish a card for all times when there is none yet, and keep what lacks a file."""
        card = compile_card(yaml)

        def draft(_entries: Entries, _now_ms: int) -> TimelineEntry:
            return TimelineEntry(
                rate_card_id=card.rate_card_id,
                effective_time_ms=0,
                author=DEFAULT_AUTHOR,
                note="the card that the server comes with",
            )

        self._log.change(lambda entries: entries[0] if entries else None, draft, card)
        self._log.keep_snapshots()

    def find(self, *, rate_card_id: str, time_ms: int) -> tuple[TimelineEntry, PublishedCard]:
        """Return a card and its newest entry.

        rate_card_id: an id or a unique prefix of at least 8 hex digits, "" for the card in force at time_ms.
        Raises RateCardUnknownError, InvalidFieldsError.
        """
        entries = self.entries()
        if not rate_card_id:
            found = entry_in_force(entries, time_ms)
            if found is None:
                raise RateCardUnknownError("no card is in force")
            return found, self.card(found.rate_card_id)
        if len(rate_card_id) < PREFIX_LENGTH_MIN:
            raise InvalidFieldsError.of("rate_card_id", f"at least {PREFIX_LENGTH_MIN} hex digits")
        matches = {
            entry.rate_card_id: entry for entry in entries if entry.rate_card_id.startswith(rate_card_id)
        }
        if len(matches) != 1:
            raise RateCardUnknownError("more than one card has this id" if matches else "no such card")
        entry = next(iter(matches.values()))
        return entry, self.card(entry.rate_card_id)

    def find_tenant_prices(self, tenant: str, time_ms: int) -> tuple[TimelineEntry, PublishedCard]:
        """Return the own prices that apply to a tenant. Raises TenantPricesUnknownError when the card's do."""
        entry = prices_in_force(self.entries(), tenant, time_ms)
        if entry is None:
            raise TenantPricesUnknownError(tenant)
        return entry, self.card(entry.tenant_prices_id)

    def resolve(self, reference: CardReference, field: str, *, now_ms: int) -> ReferencedCard:
        """Return the card that a reference names. field: its place in the request, for errors.

        Raises RateCardInvalidError, RateCardUnknownError, InvalidFieldsError.
        """
        if reference.yaml is not None:
            return ReferencedCard(compile_card(reference.yaml), None)
        if reference.version is not None:
            entries = self.entries()
            if not 1 <= reference.version <= len(entries):
                raise RateCardUnknownError(f"{field}.version: no such version")
            entry = entries[reference.version - 1]
            if entry.kind is not EntryKind.CARD:
                raise RateCardUnknownError(f"{field}.version: this entry of the timeline is no card")
            return ReferencedCard(self.card(entry.rate_card_id), entry)
        if reference.rate_card_id is not None and len(reference.rate_card_id) < PREFIX_LENGTH_MIN:
            raise InvalidFieldsError.of(f"{field}.rate_card_id", f"at least {PREFIX_LENGTH_MIN} hex digits")
        time_ms = now_ms if reference.time_ms is None else reference.time_ms
        entry, card = self.find(rate_card_id=reference.rate_card_id or "", time_ms=time_ms)
        return ReferencedCard(card, entry)

    def card(self, rate_card_id: str) -> PublishedCard:
        """Return the card, or the own prices, of an entry. Raises StoreCorruptError when missing or changed."""
        return self._log.card(rate_card_id)

    def _check_currency(self, entries: Entries, currency: str) -> None:
        """Refuse a second currency: sums over records would add up what cannot be added."""
        cards = standing_cards(entries)
        if not cards or (len(entries) == 1 and cards[0].author == DEFAULT_AUTHOR):
            return
        so_far = currency_of(self.card(cards[-1].rate_card_id).canonical_json)
        if currency != so_far:
            raise InvalidFieldsError.of(
                "yaml", f"currency: all cards of a server are in one, so far in {so_far}"
            )


def _check_time(effective_time_ms: int | None) -> None:
    if effective_time_ms is not None and effective_time_ms > EFFECTIVE_TIME_MS_MAX:
        raise InvalidFieldsError.of("effective_time", "at most the year 9999")


def _prices_entry(
    tenant: str, tenant_prices_id: str, effective_time_ms: int, *, author: str, note: str
) -> TimelineEntry:
    """Return the entry that sets a tenant's own prices; those without an id end them."""
    return TimelineEntry(
        kind=EntryKind.TENANT_PRICES,
        tenant=tenant,
        tenant_prices_id=tenant_prices_id,
        effective_time_ms=effective_time_ms,
        author=author,
        note=note,
    )


def _effective_time(standing: Entries, now_ms: int, asked_ms: int | None) -> int:
    """Return when new prices take force: 5 s from now at the earliest, and after those of the same track."""
    earliest_ms = now_ms + LEAD_MS
    if standing:
        earliest_ms = max(earliest_ms, standing[-1].effective_time_ms + 1)
    if asked_ms is None:
        return earliest_ms
    if asked_ms < earliest_ms:
        raise EffectiveTooSoonError(earliest_ms)
    return asked_ms
