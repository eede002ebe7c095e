# SPDX-License-Identifier: Apache-2.0
"""RateCardService: cards are checked, published once, and shown."""

import secrets

import grpc
from server.api import Api

from taximeter.v1 import (
    rate_card_service_pb2,
)


def test_rate_card_is_published_validated_and_shown(api: Api) -> None:
    """A card is checked, published once, shown by id, listed newest first, and conflicts are told."""
    yaml = f'billing:\n  rate_card:\n    "gpt-5":\n      input: "5.{secrets.randbelow(10**9)}1"\n      output: "25"\n'
    checked = api.call(
        api.rate_cards.ValidateRateCard, rate_card_service_pb2.ValidateRateCardRequest(yaml=yaml)
    )
    request = rate_card_service_pb2.PublishRateCardRequest(yaml=yaml, note="why")
    published = api.call(api.rate_cards.PublishRateCard, request)
    again = api.call(api.rate_cards.PublishRateCard, request)
    shown = api.call(
        api.rate_cards.GetRateCard,
        rate_card_service_pb2.GetRateCardRequest(rate_card_id=published.entry.rate_card_id),
    )
    listed = api.call(api.rate_cards.ListRateCards, rate_card_service_pb2.ListRateCardsRequest()).entries
    late = rate_card_service_pb2.PublishRateCardRequest(yaml=yaml.replace("25", "26"), expected_version=0)

    assert (published.created, again.created) == (True, False)
    assert published.entry.rate_card_id == checked.rate_card_id
    assert (again.entry, shown.entry, listed[0]) == (published.entry,) * 3
    assert (shown.yaml, published.entry.note) == (yaml, "why")
    assert [entry.version for entry in listed] == list(range(len(listed), 0, -1))
    assert api.fail(api.rate_cards.PublishRateCard, late) == (
        grpc.StatusCode.ABORTED,
        "CARD_VERSION_CONFLICT",
    )


def test_card_with_problems_is_explained(api: Api) -> None:
    """Validation lists problems as its answer; publishing fails with them."""
    yaml = 'billing:\n  rate_card:\n    "gpt-5":\n      input: "-1"\n'
    checked = api.call(
        api.rate_cards.ValidateRateCard, rate_card_service_pb2.ValidateRateCardRequest(yaml=yaml)
    )

    assert checked.rate_card_id == ""
    assert [problem.line for problem in checked.problems] == [4]
    assert api.fail(
        api.rate_cards.PublishRateCard, rate_card_service_pb2.PublishRateCardRequest(yaml=yaml)
    ) == (grpc.StatusCode.INVALID_ARGUMENT, "CARD_INVALID")


def test_card_cannot_be_published_too_soon(api: Api) -> None:
    """A card that would be in force at once is refused."""
    request = rate_card_service_pb2.PublishRateCardRequest(
        yaml='billing:\n  rate_card:\n    "x":\n      input: "1"\n'
    )
    request.effective_time.GetCurrentTime()

    assert api.fail(api.rate_cards.PublishRateCard, request) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "EFFECTIVE_TOO_SOON",
    )
