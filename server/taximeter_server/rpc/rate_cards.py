# SPDX-License-Identifier: Apache-2.0
"""RateCardService: publishing and showing rate cards. Cards hold for all tenants, so bound keys cannot publish."""

from collections.abc import Callable, Mapping
from typing import ClassVar

from google.protobuf.descriptor import ServiceDescriptor

from taximeter.v1 import rate_card_service_pb2 as pb
from taximeter_server.errors import InvalidFieldsError
from taximeter_server.pages import PageTokens
from taximeter_server.published_card import to_publish
from taximeter_server.rate_card import parse_rate_card
from taximeter_server.rate_card_problems import RateCardInvalidError
from taximeter_server.rate_card_timeline import RateCardTimeline
from taximeter_server.rate_card_verification import RateCardVerifier
from taximeter_server.rate_card_warnings import card_warnings
from taximeter_server.rpc.convert import at_time_ms, to_entry
from taximeter_server.rpc.convert_rate_cards import effective_time_of, expected_version_of, to_problem
from taximeter_server.rpc.principal import Principal
from taximeter_server.rpc.rate_card_tools import LedgerTools, RateCardTools
from taximeter_server.rpc.server import Handler
from taximeter_server.rpc.tenant_prices import TenantPricesMethods
from taximeter_server.tenant_path import is_reached
from taximeter_server.timeline_entry import TimelineEntry, withdrawn_versions


class RateCardService(TenantPricesMethods, RateCardTools):
    """Serves taximeter.v1.RateCardService."""

    descriptor: ClassVar[ServiceDescriptor] = pb.DESCRIPTOR.services_by_name["RateCardService"]
    serves_without_store: ClassVar[bool] = False

    def __init__(
        self,
        timeline: RateCardTimeline,
        ledger: LedgerTools,
        *,
        verifier: RateCardVerifier,
        apply: Callable[[], None],
        page_tokens: PageTokens,
        clock: Callable[[], int],
    ) -> None:
        """apply: brings this instance's engine up to date before a publisher is answered."""
        super().__init__(timeline, apply=apply, page_tokens=page_tokens, clock=clock)
        self._verifier = verifier
        self._ledger = ledger

    def handlers(self) -> Mapping[str, Handler]:
        """Return the handler of every method."""
        return {
            "PublishRateCard": self.publish_rate_card,
            "ValidateRateCard": self.validate_rate_card,
            "GetRateCard": self.get_rate_card,
            "ListRateCards": self.list_rate_cards,
            "WithdrawRateCard": self.withdraw_rate_card,
            "VerifyRateCards": self.verify_rate_cards,
            **self.tenant_prices_handlers(),
            **self.tool_handlers(),
        }

    def slow_methods(self) -> frozenset[str]:
        """Return the methods that read the ledger, or every card there is."""
        return frozenset({"VerifyRateCards", "CompareRateCards", "PostAdjustments", "ExplainRecord"})

    def publish_rate_card(
        self, request: pb.PublishRateCardRequest, principal: Principal
    ) -> pb.PublishRateCardResponse:
        """Publish a card."""
        principal.require_unbound()
        if request.yaml and request.rate_card_id:
            raise InvalidFieldsError.of("rate_card_id", "not together with yaml")
        yaml = request.yaml
        if request.rate_card_id:
            yaml = self._timeline.find(rate_card_id=request.rate_card_id, time_ms=self._clock())[1].yaml
        if not yaml:
            raise InvalidFieldsError.required("yaml")
        card = parse_rate_card(yaml)
        entry, created = self._timeline.publish(
            to_publish(card, yaml),
            author=principal.key_id,
            effective_time_ms=effective_time_of(request),
            expected_version=expected_version_of(request),
            note=request.note,
        )
        self._apply()
        return pb.PublishRateCardResponse(
            entry=to_entry(entry, withdrawn=False),
            created=created,
            warnings=[to_problem(warning) for warning in card_warnings(card)],
        )

    def validate_rate_card(
        self, request: pb.ValidateRateCardRequest, _principal: Principal
    ) -> pb.ValidateRateCardResponse:
        """Check a card; its problems are the answer, not an error."""
        if not request.yaml:
            raise InvalidFieldsError.required("yaml")
        try:
            card = parse_rate_card(request.yaml)
        except RateCardInvalidError as error:
            return pb.ValidateRateCardResponse(problems=[to_problem(problem) for problem in error.problems])
        warnings = [to_problem(warning) for warning in card_warnings(card)]
        return pb.ValidateRateCardResponse(rate_card_id=card.rate_card_id, warnings=warnings)

    def get_rate_card(self, request: pb.GetRateCardRequest, _principal: Principal) -> pb.GetRateCardResponse:
        """Show one card."""
        time_ms = self._clock()
        if request.HasField("at_time"):
            time_ms = at_time_ms(request.at_time)
        entry, card = self._timeline.find(rate_card_id=request.rate_card_id, time_ms=time_ms)
        withdrawn = withdrawn_versions(self._timeline.entries())
        return pb.GetRateCardResponse(
            entry=to_entry(entry, withdrawn=entry.version in withdrawn),
            yaml=card.yaml,
            canonical_json=card.canonical_json,
        )

    def list_rate_cards(
        self, request: pb.ListRateCardsRequest, principal: Principal
    ) -> pb.ListRateCardsResponse:
        """List the timeline, newest first, without the prices of tenants that the key does not reach."""
        timeline = self._timeline.entries()
        withdrawn = withdrawn_versions(timeline)

        def is_shown(entry: TimelineEntry) -> bool:
            subject = timeline[entry.withdrawn_version - 1] if entry.withdrawn_version else entry
            return not subject.tenant or is_reached(subject.tenant, principal.tenants)

        entries = [entry for entry in reversed(timeline) if is_shown(entry)]
        page, next_page_token = self._page_tokens.page(
            entries,
            cursor_of=lambda entry: str(entry.version),
            binding=f"ListRateCards:{','.join(principal.tenants)}",
            page_size=request.page_size,
            page_token=request.page_token,
        )
        return pb.ListRateCardsResponse(
            entries=[to_entry(entry, withdrawn=entry.version in withdrawn) for entry in page],
            next_page_token=next_page_token,
        )

    def withdraw_rate_card(
        self, request: pb.WithdrawRateCardRequest, principal: Principal
    ) -> pb.WithdrawRateCardResponse:
        """Withdraw a future entry."""
        principal.require_unbound()
        if not request.version:
            raise InvalidFieldsError.required("version")
        entry, created = self._timeline.withdraw(
            request.version,
            author=principal.key_id,
            expected_version=expected_version_of(request),
            note=request.note,
        )
        self._apply()
        return pb.WithdrawRateCardResponse(entry=to_entry(entry, withdrawn=False), created=created)

    def verify_rate_cards(
        self, _request: pb.VerifyRateCardsRequest, principal: Principal
    ) -> pb.VerifyRateCardsResponse:
        """Walk the whole timeline; differences are the answer, not an error."""
        principal.require_unbound()
        found = self._verifier.verify()
        return pb.VerifyRateCardsResponse(
            entry_count=found.entry_count,
            document_count=found.document_count,
            file_count=found.file_count,
            differences=[
                pb.RateCardDifference(
                    version=difference.version,
                    document_id=difference.document_id,
                    place=difference.place,
                    message=difference.message,
                )
                for difference in found.differences
            ],
            chain_hash=found.chain_hash,
        )
