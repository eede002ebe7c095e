# SPDX-License-Identifier: Apache-2.0
"""The methods of RateCardService that look into cards: differences, comparisons, adjustments, explanations."""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass

from taximeter.v1 import rate_card_service_pb2 as pb
from taximeter_server import _native
from taximeter_server.adjustments import AdjustingCard, AdjustmentPoster, PostProgress, check_note
from taximeter_server.card_comparison import CardComparer, CardRun, CompareQuery, Comparison
from taximeter_server.errors import InvalidFieldsError
from taximeter_server.published_card import currency_of
from taximeter_server.rate_card_diff import diff_cards
from taximeter_server.rate_card_timeline import RateCardTimeline, ReferencedCard
from taximeter_server.record_explanation import RecordExplainer
from taximeter_server.rpc.convert import check_record_id, to_timestamp
from taximeter_server.rpc.convert_explanation import to_explanation
from taximeter_server.rpc.convert_rate_cards import reference_of, to_change, to_comparison, to_identity
from taximeter_server.rpc.convert_report import usage_of
from taximeter_server.rpc.principal import Principal
from taximeter_server.rpc.server import Handler
from taximeter_server.tenant_path import check_tenant

ROWS_PER_PIECE = 1_000


@dataclass(frozen=True, slots=True)
class LedgerTools:
    """What looks into the ledger for these methods. currency_code: of the newest card."""

    comparer: CardComparer
    poster: AdjustmentPoster
    explainer: RecordExplainer
    currency_code: Callable[[], str]


class RateCardTools:
    """Serves a part of taximeter.v1.RateCardService."""

    # Set by the service that this is a part of.
    _timeline: RateCardTimeline
    _ledger: LedgerTools
    _clock: Callable[[], int]

    def tool_handlers(self) -> Mapping[str, Handler]:
        """Return the handler of every method of this part."""
        return {
            "DiffRateCards": self.diff_rate_cards,
            "CompareRateCards": self.compare_rate_cards,
            "PostAdjustments": self.post_adjustments,
            "ExplainRecord": self.explain_record,
        }

    def diff_rate_cards(
        self, request: pb.DiffRateCardsRequest, _principal: Principal
    ) -> pb.DiffRateCardsResponse:
        """Say what differs between two cards."""
        a, b = self._resolve(request.card_a, "card_a"), self._resolve(request.card_b, "card_b")
        changes = diff_cards(a.card.canonical_json, b.card.canonical_json, now_ms=self._clock())
        return pb.DiffRateCardsResponse(
            card_a=to_identity(a), card_b=to_identity(b), changes=[to_change(change) for change in changes]
        )

    def compare_rate_cards(
        self, request: pb.CompareRateCardsRequest, principal: Principal
    ) -> Generator[pb.CompareRateCardsResponse, None, None]:
        """Price recorded usage again. Errors of the request come before the first piece."""
        query = _query_of(request, principal)
        card_b = self._resolve(request.card_b, "card_b")
        self._check_currency(card_b, "card_b")
        card_a = None
        if request.HasField("card_a"):
            card_a = self._resolve(request.card_a, "card_a")
            self._check_currency(card_a, "card_a")
        return self._compare(query, card_a, card_b)

    def _compare(
        self, query: CompareQuery, card_a: ReferencedCard | None, card_b: ReferencedCard
    ) -> Generator[pb.CompareRateCardsResponse, None, None]:
        records_read = 0
        prices_a = None if card_a is None else _compile(card_a)
        with self._ledger.comparer.open(query) as run:
            for records_read in run.compare(prices_a, _compile(card_b)):
                yield pb.CompareRateCardsResponse(records_read=records_read)
            for rows in _pieces(run):
                yield pb.CompareRateCardsResponse(
                    records_read=records_read,
                    rows=[to_comparison(row, self._ledger.currency_code()) for row in rows],
                )
            yield pb.CompareRateCardsResponse(
                records_read=records_read,
                total=to_comparison(run.sums.total(), self._ledger.currency_code()),
                card_a=None if card_a is None else to_identity(card_a),
                card_b=to_identity(card_b),
                as_of_time=to_timestamp(run.reader.as_of_time_ms),
            )

    def post_adjustments(
        self, request: pb.PostAdjustmentsRequest, principal: Principal
    ) -> Generator[pb.PostAdjustmentsResponse, None, None]:
        """Correct what was charged. Errors of the request come before anything is posted."""
        principal.require_unbound()
        query = _query_of(request, principal)
        note = check_note(request.note)
        if not request.HasField("card"):
            raise InvalidFieldsError.required("card")
        card = self._resolve(request.card, "card")
        if card.entry is None:
            raise InvalidFieldsError.of(
                "card.yaml", "publish the card first: adjustments name a published card"
            )
        self._check_currency(card, "card")
        return self._post(query, card, note=note, author=principal.key_id)

    def _post(
        self, query: CompareQuery, card: ReferencedCard, *, note: str, author: str
    ) -> Generator[pb.PostAdjustmentsResponse, None, None]:
        version = card.entry.version if card.entry else 0
        adjusting = AdjustingCard(card.card.rate_card_id, version, _compile(card))
        progress = PostProgress(0, 0, 0)
        with self._ledger.comparer.open(query) as run:
            for progress in self._ledger.poster.post(run, adjusting, note=note, author=author):
                yield _to_progress(progress)
            for rows in _pieces(run):
                piece = _to_progress(progress)
                piece.rows.extend(to_comparison(row, self._ledger.currency_code()) for row in rows)
                yield piece
            last = _to_progress(progress)
            last.total.CopyFrom(to_comparison(run.sums.total(), self._ledger.currency_code()))
            last.card.CopyFrom(to_identity(card))
            yield last

    def explain_record(
        self, request: pb.ExplainRecordRequest, principal: Principal
    ) -> pb.ExplainRecordResponse:
        """Show how a record got its price."""
        record_id = check_record_id(request.record_id)
        if request.tenant:
            principal.require_reach(check_tenant(request.tenant, "tenant"))
        found = self._ledger.explainer.explain(
            record_id, tenant=request.tenant, readable_tenants=principal.tenants or None
        )
        entries = {entry.version: entry for entry in self._timeline.entries()}
        return pb.ExplainRecordResponse(
            records=[to_explanation(one, entries, self._ledger.currency_code()) for one in found]
        )

    def _resolve(self, message: pb.RateCardReference, field: str) -> ReferencedCard:
        return self._timeline.resolve(reference_of(message, field), field, now_ms=self._clock())

    def _check_currency(self, card: ReferencedCard, field: str) -> None:
        """Refuse a card whose amounts cannot be compared with what was charged."""
        currency_code = self._ledger.currency_code()
        if currency_of(card.card.canonical_json) != currency_code:
            raise InvalidFieldsError.of(field, f"the card must be in {currency_code}, as what was charged is")


def _to_progress(progress: PostProgress) -> pb.PostAdjustmentsResponse:
    return pb.PostAdjustmentsResponse(
        records_read=progress.records_read,
        adjustments_posted=progress.adjustments_posted,
        conflicts=progress.conflicts,
    )


def _compile(card: ReferencedCard) -> _native.RateCard:
    return _native.RateCard(card.card.canonical_json.encode())


def _query_of(
    request: pb.CompareRateCardsRequest | pb.PostAdjustmentsRequest, principal: Principal
) -> CompareQuery:
    """Return what is asked for. Raises InvalidFieldsError, RangeInvalidError, TenantForbiddenError."""
    return CompareQuery(usage_of(request, principal), only_unpriced=request.only_unpriced)


def _pieces(run: CardRun) -> Generator[list[Comparison], None, None]:
    piece: list[Comparison] = []
    for row in run.sums.rows():
        piece.append(row)
        if len(piece) == ROWS_PER_PIECE:
            yield piece
            piece = []
    if piece:
        yield piece
