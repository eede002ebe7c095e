# SPDX-License-Identifier: Apache-2.0
"""RateCardService: publishing and showing rate cards. Cards hold for all tenants, so bound keys cannot publish."""

from collections.abc import Callable, Mapping
from typing import ClassVar

from google.protobuf.descriptor import ServiceDescriptor

from taximeter.v1 import rate_card_service_pb2 as pb
from taximeter_server.errors import InvalidFieldsError
from taximeter_server.pages import PageTokens
from taximeter_server.rate_card_problems import RateCardInvalidError
from taximeter_server.rate_card_timeline import RateCardTimeline, compile_card
from taximeter_server.rpc.convert import timestamp_ms, timestamp_nanos, to_entry
from taximeter_server.rpc.principal import Principal
from taximeter_server.rpc.server import Handler


class RateCardService:
    """Serves taximeter.v1.RateCardService."""

    descriptor: ClassVar[ServiceDescriptor] = pb.DESCRIPTOR.services_by_name["RateCardService"]
    serves_without_store: ClassVar[bool] = False

    def __init__(
        self,
        timeline: RateCardTimeline,
        *,
        apply: Callable[[], None],
        page_tokens: PageTokens,
        clock: Callable[[], int],
    ) -> None:
        """apply: brings this instance's engine up to date before a publisher is answered."""
        self._timeline = timeline
        self._apply = apply
        self._page_tokens = page_tokens
        self._clock = clock

    def handlers(self) -> Mapping[str, Handler]:
        """Return the handler of every method."""
        return {
            "PublishRateCard": self.publish_rate_card,
            "ValidateRateCard": self.validate_rate_card,
            "GetRateCard": self.get_rate_card,
            "ListRateCards": self.list_rate_cards,
        }

    def slow_methods(self) -> frozenset[str]:
        """Return no methods."""
        return frozenset()

    def publish_rate_card(
        self, request: pb.PublishRateCardRequest, principal: Principal
    ) -> pb.PublishRateCardResponse:
        """Publish a card."""
        principal.require_unbound()
        if not request.yaml:
            raise InvalidFieldsError.required("yaml")
        effective_time_ms = None
        if request.HasField("effective_time"):
            effective_time_ms = timestamp_ms(request.effective_time, "effective_time")
        entry, created = self._timeline.publish(
            request.yaml,
            author=principal.key_id,
            effective_time_ms=effective_time_ms,
            expected_version=request.expected_version if request.HasField("expected_version") else None,
            note=request.note,
        )
        self._apply()
        return pb.PublishRateCardResponse(entry=to_entry(entry), created=created)

    def validate_rate_card(
        self, request: pb.ValidateRateCardRequest, _principal: Principal
    ) -> pb.ValidateRateCardResponse:
        """Check a card; its problems are the answer, not an error."""
        if not request.yaml:
            raise InvalidFieldsError.required("yaml")
        try:
            card = compile_card(request.yaml)
        except RateCardInvalidError as error:
            return pb.ValidateRateCardResponse(
                problems=[
                    pb.RateCardProblem(
                        line=problem.line,
                        column=problem.column,
                        field=problem.field,
                        reason=problem.reason,
                        message=problem.message,
                    )
                    for problem in error.problems
                ]
            )
        return pb.ValidateRateCardResponse(rate_card_id=card.rate_card_id)

    def get_rate_card(self, request: pb.GetRateCardRequest, _principal: Principal) -> pb.GetRateCardResponse:
        """Show one card."""
        time_ms = self._clock()
        if request.HasField("at_time"):
            # Down: a card that takes force within this millisecond is not in force yet.
            time_ms = timestamp_nanos(request.at_time, "at_time") // 1_000_000
        entry, card = self._timeline.find(rate_card_id=request.rate_card_id, time_ms=time_ms)
        return pb.GetRateCardResponse(
            entry=to_entry(entry), yaml=card.yaml, canonical_json=card.canonical_json
        )

    def list_rate_cards(
        self, request: pb.ListRateCardsRequest, _principal: Principal
    ) -> pb.ListRateCardsResponse:
        """List the timeline, newest first."""
        entries = self._timeline.entries()[::-1]
        page, next_page_token = self._page_tokens.page(
            entries,
            cursor_of=lambda entry: str(entry.version),
            binding="ListRateCards",
            page_size=request.page_size,
            page_token=request.page_token,
        )
        return pb.ListRateCardsResponse(
            entries=[to_entry(entry) for entry in page], next_page_token=next_page_token
        )
