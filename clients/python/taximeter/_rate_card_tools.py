# SPDX-License-Identifier: Apache-2.0
"""The part of the client that looks into rate cards: their differences, what a change costs, how records are priced."""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import TypeVar

from taximeter import _convert, _convert_rate_cards
from taximeter._session import Session
from taximeter.rate_cards import (
    CURRENT_CARD,
    CardComparison,
    CardDiff,
    CardReference,
    ComparedCards,
    PostedAdjustments,
    RecordExplanation,
)
from taximeter.v1 import rate_card_service_pb2, rate_card_service_pb2_grpc

DIFF_TIMEOUT_S = 60
EXPLAIN_TIMEOUT_S = 300
COMPARE_TIMEOUT_S = 3_600

Progress = Callable[[int], None]
"""Hears how many records were read so far."""


def _ignore(_records_read: int) -> None:
    pass


_Piece = TypeVar(
    "_Piece", rate_card_service_pb2.CompareRateCardsResponse, rate_card_service_pb2.PostAdjustmentsResponse
)


def _gathered(
    pieces: Iterable[_Piece], last: _Piece, on_progress: Progress
) -> tuple[tuple[CardComparison, ...], _Piece]:
    """Returns the rows of all pieces, and the last piece, which has the sums. `last`: for an answer without any."""
    rows: list[CardComparison] = []
    for piece in pieces:
        on_progress(piece.records_read)
        rows += map(_convert_rate_cards.comparison, piece.rows)
        last = piece
    return tuple(rows), last


class RateCardTools:
    """Calls of RateCardService that answer questions. All raise ServerError."""

    def __init__(self, session: Session) -> None:
        """Takes the session to call through."""
        self._session = session
        self._rate_card_tools = rate_card_service_pb2_grpc.RateCardServiceStub(session.channel)

    def diff_rate_cards(
        self, card_a: CardReference = CURRENT_CARD, card_b: CardReference = CURRENT_CARD
    ) -> CardDiff:
        """Returns what differs from one card to another.

        Raises NotFoundError for a card that is not there, InvalidArgumentError for YAML that is no card.
        """
        request = rate_card_service_pb2.DiffRateCardsRequest(
            card_a=_convert_rate_cards.reference_message(card_a),
            card_b=_convert_rate_cards.reference_message(card_b),
        )
        response = self._session.unary(self._rate_card_tools.DiffRateCards, request, DIFF_TIMEOUT_S)
        return _convert_rate_cards.diff(response)

    def compare_rate_cards(
        self,
        start_time: datetime,
        end_time: datetime,
        *,
        card_a: CardReference | None = None,
        card_b: CardReference = CURRENT_CARD,
        tenant: str = "",
        only_unpriced: bool = False,
        on_progress: Progress = _ignore,
        timeout_s: int = COMPARE_TIMEOUT_S,
    ) -> ComparedCards:
        """Prices recorded usage again by `card_b`, changing nothing.

        Compares with `card_a`, or with what was charged where there is none. `only_unpriced`: only lines that
        have no price until now. Raises InvalidArgumentError for an interval that cannot be.
        """
        request = rate_card_service_pb2.CompareRateCardsRequest(
            card_a=None if card_a is None else _convert_rate_cards.reference_message(card_a),
            card_b=_convert_rate_cards.reference_message(card_b),
            tenant=tenant,
            start_time=_convert.timestamp(start_time),
            end_time=_convert.timestamp(end_time),
            only_unpriced=only_unpriced,
        )
        pieces = self._session.stream(self._rate_card_tools.CompareRateCards, request, timeout_s)
        rows, last = _gathered(pieces, rate_card_service_pb2.CompareRateCardsResponse(), on_progress)
        return ComparedCards(
            rows=rows,
            total=_convert_rate_cards.comparison(last.total),
            card_a=_convert_rate_cards.identity(last.card_a) if last.HasField("card_a") else None,
            card_b=_convert_rate_cards.identity(last.card_b),
            as_of_time=_convert.instant(last.as_of_time) if last.HasField("as_of_time") else None,
        )

    def post_adjustments(
        self,
        start_time: datetime,
        end_time: datetime,
        *,
        card: CardReference,
        note: str,
        tenant: str = "",
        only_unpriced: bool = False,
        on_progress: Progress = _ignore,
        timeout_s: int = COMPARE_TIMEOUT_S,
    ) -> PostedAdjustments:
        """Corrects what recorded usage was charged to what a published card makes it cost, and says why.

        Safe to call again, also after an error: what was posted makes no difference any more. Records that somebody
        else adjusts at the same time are counted as conflicts; calling again corrects them.
        """
        request = rate_card_service_pb2.PostAdjustmentsRequest(
            card=_convert_rate_cards.reference_message(card),
            tenant=tenant,
            start_time=_convert.timestamp(start_time),
            end_time=_convert.timestamp(end_time),
            only_unpriced=only_unpriced,
            note=note,
        )
        pieces = self._session.stream(self._rate_card_tools.PostAdjustments, request, timeout_s)
        rows, last = _gathered(pieces, rate_card_service_pb2.PostAdjustmentsResponse(), on_progress)
        return PostedAdjustments(
            adjustments_posted=last.adjustments_posted,
            conflicts=last.conflicts,
            rows=rows,
            total=_convert_rate_cards.comparison(last.total),
            card=_convert_rate_cards.identity(last.card),
        )

    def explain_record(self, record_id: str, *, tenant: str = "") -> tuple[RecordExplanation, ...]:
        """Returns how a record got its price; several where tenants have used the same id.

        Raises NotFoundError (RECORD_UNKNOWN).
        """
        request = rate_card_service_pb2.ExplainRecordRequest(record_id=record_id, tenant=tenant)
        response = self._session.unary(self._rate_card_tools.ExplainRecord, request, EXPLAIN_TIMEOUT_S)
        return tuple(_convert_rate_cards.explanation(record) for record in response.records)
