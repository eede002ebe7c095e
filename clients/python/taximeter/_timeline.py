# SPDX-License-Identifier: Apache-2.0
"""The part of the client for the history of prices: withdrawing, verifying, and prices of single tenants."""

from datetime import datetime

from taximeter import _convert, _convert_settings
from taximeter._rate_card_tools import RateCardTools
from taximeter._session import ADMINISTRATION_PAGE_SIZE, ADMINISTRATION_TIMEOUT_S, Session
from taximeter.settings import PublishedRateCard, RateCardEntry, RateCardVerification, TenantPrices
from taximeter.v1 import rate_card_service_pb2, rate_card_service_pb2_grpc

VERIFY_TIMEOUT_S = 120.0


class Timeline(RateCardTools):
    """Calls of RateCardService about what is to come, what was, and who pays something else. All raise ServerError."""

    def __init__(self, session: Session) -> None:
        """Takes the session to call through."""
        super().__init__(session)
        self._rate_cards = rate_card_service_pb2_grpc.RateCardServiceStub(session.channel)

    def withdraw_rate_card(
        self, version: int, *, expected_version: int | None = None, note: str = ""
    ) -> PublishedRateCard:
        """Withdraws a future entry, of a card or of a tenant's own prices; returns the entry that does.

        Raises NotFoundError when there is no such entry, PreconditionError when it takes force in less than 5 s,
        AbortedError when `expected_version` is given and is not the newest.
        """
        request = rate_card_service_pb2.WithdrawRateCardRequest(
            version=version, expected_version=expected_version, note=note
        )
        response = self._session.unary(self._rate_cards.WithdrawRateCard, request, ADMINISTRATION_TIMEOUT_S)
        return PublishedRateCard(_convert_settings.rate_card_entry(response.entry), response.created)

    def verify_rate_cards(self) -> RateCardVerification:
        """Walks the whole timeline in the store and its copies beside the ledger, and names every difference."""
        request = rate_card_service_pb2.VerifyRateCardsRequest()
        response = self._session.unary(self._rate_cards.VerifyRateCards, request, VERIFY_TIMEOUT_S)
        return _convert_settings.rate_card_verification(response)

    def put_tenant_prices(
        self,
        tenant: str,
        yaml: str,
        *,
        effective_time: datetime | None = None,
        expected_version: int | None = None,
        note: str = "",
    ) -> PublishedRateCard:
        """Sets what a tenant, and everything below it without own prices, is charged instead of the card's prices.

        Raises as publish_rate_card() does.
        """
        request = rate_card_service_pb2.PutTenantPricesRequest(
            tenant=tenant,
            yaml=yaml,
            effective_time=_convert.timestamp(effective_time),
            expected_version=expected_version,
            note=note,
        )
        response = self._session.unary(self._rate_cards.PutTenantPrices, request, ADMINISTRATION_TIMEOUT_S)
        return PublishedRateCard(
            _convert_settings.rate_card_entry(response.entry),
            response.created,
            _convert_settings.rate_card_problems(response.warnings),
        )

    def remove_tenant_prices(
        self,
        tenant: str,
        *,
        effective_time: datetime | None = None,
        expected_version: int | None = None,
        note: str = "",
    ) -> RateCardEntry:
        """Ends a tenant's own prices. Raises NotFoundError when it never had any, else as put_tenant_prices()."""
        request = rate_card_service_pb2.RemoveTenantPricesRequest(
            tenant=tenant,
            effective_time=_convert.timestamp(effective_time),
            expected_version=expected_version,
            note=note,
        )
        response = self._session.unary(self._rate_cards.RemoveTenantPrices, request, ADMINISTRATION_TIMEOUT_S)
        return _convert_settings.rate_card_entry(response.entry)

    def get_tenant_prices(self, tenant: str, *, at_time: datetime | None = None) -> TenantPrices:
        """Returns the own prices that apply to a tenant at an instant: its own, or those of the nearest parent.

        Raises NotFoundError when the card's prices apply.
        """
        request = rate_card_service_pb2.GetTenantPricesRequest(
            tenant=tenant, at_time=_convert.timestamp(at_time)
        )
        response = self._session.unary(self._rate_cards.GetTenantPrices, request, ADMINISTRATION_TIMEOUT_S)
        return TenantPrices(
            _convert_settings.rate_card_entry(response.entry), response.yaml, response.canonical_json
        )

    def list_tenant_prices(self, *, at_time: datetime | None = None) -> tuple[RateCardEntry, ...]:
        """Returns the entries of own prices in force at an instant, by tenant."""

        def fetch(token: str) -> rate_card_service_pb2.ListTenantPricesResponse:
            request = rate_card_service_pb2.ListTenantPricesRequest(
                at_time=_convert.timestamp(at_time), page_size=ADMINISTRATION_PAGE_SIZE, page_token=token
            )
            return self._session.unary(self._rate_cards.ListTenantPrices, request, ADMINISTRATION_TIMEOUT_S)

        pages = self._session.pages(fetch)
        return tuple(_convert_settings.rate_card_entry(entry) for page in pages for entry in page.entries)
