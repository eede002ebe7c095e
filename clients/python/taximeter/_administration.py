# SPDX-License-Identifier: Apache-2.0
"""The part of the client that an administrator uses: tenants, rate cards, keys, the server."""

from datetime import datetime

from taximeter import _convert, _convert_settings
from taximeter._crediting import Crediting
from taximeter._session import ADMINISTRATION_PAGE_SIZE, ADMINISTRATION_TIMEOUT_S, Session
from taximeter.settings import (
    PublishedRateCard,
    RateCard,
    RateCardCheck,
    RateCardEntry,
    RecordConflict,
    ServerStatus,
)
from taximeter.v1 import (
    operations_service_pb2,
    operations_service_pb2_grpc,
    rate_card_service_pb2,
)


class Administration(Crediting):
    """Calls of RateCardService and OperationsService. All raise ServerError."""

    def __init__(self, session: Session) -> None:
        """Takes the session to call through."""
        super().__init__(session)
        self._operations = operations_service_pb2_grpc.OperationsServiceStub(session.channel)

    def publish_rate_card(
        self,
        yaml: str = "",
        *,
        rate_card_id: str = "",
        effective_time: datetime | None = None,
        expected_version: int | None = None,
        note: str = "",
    ) -> PublishedRateCard:
        """Publishes a card; without `effective_time` it takes force at the earliest possible instant.

        `rate_card_id`, instead of `yaml`, publishes a card again that was published before. Raises
        InvalidArgumentError with every problem of the card, AbortedError when `expected_version` is given and is
        not the newest, PreconditionError for an effective_time less than 5 s ahead.
        """
        request = rate_card_service_pb2.PublishRateCardRequest(
            yaml=yaml,
            rate_card_id=rate_card_id,
            effective_time=_convert.timestamp(effective_time),
            expected_version=expected_version,
            note=note,
        )
        response = self._session.unary(self._rate_cards.PublishRateCard, request, ADMINISTRATION_TIMEOUT_S)
        return PublishedRateCard(
            _convert_settings.rate_card_entry(response.entry),
            response.created,
            _convert_settings.rate_card_problems(response.warnings),
        )

    def validate_rate_card(self, yaml: str) -> RateCardCheck:
        """Checks a card without publishing it; all problems are listed at once."""
        request = rate_card_service_pb2.ValidateRateCardRequest(yaml=yaml)
        response = self._session.unary(self._rate_cards.ValidateRateCard, request, ADMINISTRATION_TIMEOUT_S)
        return _convert_settings.rate_card_check(response)

    def get_rate_card(self, rate_card_id: str = "", *, at_time: datetime | None = None) -> RateCard:
        """Returns a card by id or unique prefix, or the one in force at an instant, now if not given.

        Raises NotFoundError when there is none.
        """
        request = rate_card_service_pb2.GetRateCardRequest(
            rate_card_id=rate_card_id, at_time=_convert.timestamp(at_time)
        )
        response = self._session.unary(self._rate_cards.GetRateCard, request, ADMINISTRATION_TIMEOUT_S)
        return _convert_settings.rate_card(response)

    def list_rate_cards(self) -> tuple[RateCardEntry, ...]:
        """Returns the timeline of cards, newest first."""

        def fetch(token: str) -> rate_card_service_pb2.ListRateCardsResponse:
            request = rate_card_service_pb2.ListRateCardsRequest(
                page_size=ADMINISTRATION_PAGE_SIZE, page_token=token
            )
            return self._session.unary(self._rate_cards.ListRateCards, request, ADMINISTRATION_TIMEOUT_S)

        pages = self._session.pages(fetch)
        return tuple(_convert_settings.rate_card_entry(entry) for page in pages for entry in page.entries)

    def server_status(self) -> ServerStatus:
        """Returns the state of the server instance that answers."""
        request = operations_service_pb2.GetServerStatusRequest()
        response = self._session.unary(self._operations.GetServerStatus, request, ADMINISTRATION_TIMEOUT_S)
        return _convert_settings.server_status(response)

    def list_record_conflicts(self) -> tuple[RecordConflict, ...]:
        """Returns journaled records that turned out to reuse the id of another record, oldest first."""

        def fetch(token: str) -> operations_service_pb2.ListRecordConflictsResponse:
            request = operations_service_pb2.ListRecordConflictsRequest(
                page_size=ADMINISTRATION_PAGE_SIZE, page_token=token
            )
            return self._session.unary(
                self._operations.ListRecordConflicts, request, ADMINISTRATION_TIMEOUT_S
            )

        pages = self._session.pages(fetch)
        return tuple(_convert.record_conflict(conflict) for page in pages for conflict in page.conflicts)
