# SPDX-License-Identifier: Apache-2.0
"""Warnings of rate cards: what may not be meant is said with its place, and the card can be published all the same."""

from collections.abc import Callable

import pytest
from server.api import Api, connect

from harness.server_process import ServerProcess
from taximeter.v1 import rate_card_service_pb2 as pb
from taximeter_server.rate_card import parse_rate_card
from taximeter_server.rate_card_warnings import card_warnings
from taximeter_server.tenant_prices import parse_tenant_prices
from taximeter_server.tenant_prices_warnings import tenant_prices_warnings

ROUNDED = """\
billing:
  defaults: {sandbox_ms: {price: 0.000000000003, per: 1, min: 9000000000000000000}}
  rate_card:
    "exact":
      input: 0.003625
      when: [{tier: batch, multiply: 0.5}, {region: us, multiply: 1.1}]
    "rounded":
      input: 0.000000000005
      output: 30
      when:
        - {speed: fast, output: 60}
        - {tier: [batch, flex], multiply: 0.5}
        - {region: us, output: 0.000000000001, multiply: 1.1}
        - {days: [sat], classes: sandbox_ms, multiply: 0.5}
"""
CACHED_AUDIO = "{{input: 1, cache_read: 0.1, input_audio: 2{more}}}"


def validated(api: Api, yaml: str) -> list[tuple[int, int, str, str]]:
    """Return the warnings of a good card without their messages."""
    checked = api.call(api.rate_cards.ValidateRateCard, pb.ValidateRateCardRequest(yaml=yaml))
    assert (len(checked.rate_card_id), len(checked.problems)) == (64, 0)
    return [(found.line, found.column, found.field, found.reason) for found in checked.warnings]


def test_rounded_prices_are_named_exactly(api: Api) -> None:
    """Row, class, condition, the exact price and the one that is charged, at the entry that multiplies."""
    checked = api.call(api.rate_cards.ValidateRateCard, pb.ValidateRateCardRequest(yaml=ROUNDED))

    # Half to even: 2.5 to 2, 1.5 to 2.
    assert [(found.line, found.column, found.field, found.message) for found in checked.warnings] == [
        (
            12,
            11,
            "rate_card.rounded.when[1].multiply",
            (
                'the price of input in the row "rounded" (tier batch or flex) is 0.0000000000025, which has more than'
                " 12 decimals; 0.000000000002 is charged"
            ),
        ),
        (
            13,
            11,
            "rate_card.rounded.when[2].multiply",
            (
                'the price of output in the row "rounded" (region us) is 0.0000000000011, which has more than'
                " 12 decimals; 0.000000000001 is charged"
            ),
        ),
        (
            14,
            11,
            "rate_card.rounded.when[3].multiply",
            (
                'the price of sandbox_ms in the row "rounded" (on sat) is 0.0000000000015, which has more than'
                " 12 decimals; 0.000000000002 is charged"
            ),
        ),
    ]
    assert {found.reason for found in checked.warnings} == {"PRICE_ROUNDED"}


def test_only_the_multipliers_of_a_price_count() -> None:
    """A replaced price forgets its multipliers, one of another class does not count, and all are rounded once."""
    row = (
        "{input: 7, output: 0.3, when: [{multiply: 0.7}, {input: 0.000000000003}, {classes: output, multiply: 0.9},"
        " {multiply: 0.3}, {tier: batch, multiply: 0.3}]}"
    )
    warnings = card_warnings(parse_rate_card(f"billing: {{rate_card: {{m: {row}}}}}"))

    assert [warning.message for warning in warnings] == [
        (
            'the price of input in the row "m" is 0.0000000000009, which has more than'
            " 12 decimals; 0.000000000001 is charged"
        )
    ]


@pytest.mark.parametrize("multipliers", [2, 15])
def test_a_long_exact_price_is_cut(multipliers: int) -> None:
    """Nobody reads more than 36 decimals."""
    when = ", ".join(["{multiply: 1.000000000001}"] * multipliers)
    row = f"{{input: 1.5, when: [{when}]}}"
    (warning,) = card_warnings(parse_rate_card(f"billing: {{rate_card: {{m: {row}}}}}"))
    exact = 15 * (10**12 + 1) ** multipliers * 10**35 // 10 ** (12 * multipliers)
    ending = f"{exact % 10**36:036}".rstrip("0") if multipliers == 2 else f"{exact % 10**36:036}..."
    charged = 1_500_000_000_000 + (3 * multipliers + 1) // 2

    assert f" is 1.{ending}, which " in warning.message
    assert warning.message.endswith(
        f"; 1.{charged - 10**12:012} is charged" if multipliers > 2 else " is charged"
    )


def test_many_multipliers_stay_cheap_to_warn_of() -> None:
    """No exact price is worked out for as many entries as a row can have, and no condition makes a long message."""
    entry = (
        f"{{region: [{', '.join(f'region-{number}' for number in range(300))}], multiply: 1.000000000001}}"
    )
    row = f"{{input: 1, when: [{', '.join([entry] * 16)}]}}"
    warnings = card_warnings(parse_rate_card(f"billing: {{rate_card: {{m: {row}}}}}"))

    assert [warning.reason for warning in warnings] == ["PRICE_ROUNDED"]
    assert "which has more than 12 decimals; it is rounded half to even" in warnings[0].message
    assert len(warnings[0].message) < 400


@pytest.mark.parametrize(
    ("more", "is_warned"),
    [
        ("", True),
        (", when: [{tier: batch, cache_read_audio: 0.1}]", True),
        (", cache_read_audio: 0.2", False),
        (", cache_read_audio: 0.2, when: [{tier: batch, cache_read: 0.05, input_audio: 1}]", False),
    ],
)
def test_cached_audio_wants_a_price_of_its_own(api: Api, more: str, *, is_warned: bool) -> None:
    """A row with prices of cached tokens and of audio should say what cached audio costs."""
    yaml = f"billing:\n  rate_card:\n    gpt-audio:\n      {CACHED_AUDIO.format(more=more)}\n"
    place = (4, 7, "rate_card.gpt-audio.cache_read_audio", "CACHE_READ_AUDIO_MISSING")

    assert validated(api, yaml) == ([place] if is_warned else [])


def test_overlays_alone_can_price_audio(api: Api) -> None:
    """What an entry of when prices counts, too."""
    row = "{input: 1, cache_read: 0.1, when: [{tier: batch, input_audio: 1%s}]}"
    cards = [f"billing: {{rate_card: {{m: {row % more}}}}}" for more in ("", ", cache_read_audio: 0.2")]

    assert [len(validated(api, card)) for card in cards] == [1, 0]


def test_a_card_with_warnings_is_published(fresh_server: Callable[..., ServerProcess]) -> None:
    """The answer has the warnings, also where the content is the same as before or named by its id."""
    server = fresh_server()
    with connect(server.address, server.admin_key) as api:
        published = api.call(api.rate_cards.PublishRateCard, pb.PublishRateCardRequest(yaml=ROUNDED))
        by_id = pb.PublishRateCardRequest(rate_card_id=published.entry.rate_card_id)
        again = api.call(api.rate_cards.PublishRateCard, by_id)

    assert (published.created, again.created) == (True, False)
    assert [warning.line for warning in published.warnings] == [12, 13, 14]
    assert list(again.warnings) == list(published.warnings)


def test_warnings_are_in_the_order_of_the_file_and_limited(api: Api) -> None:
    """A card of nothing but warnings shows the first 100 and how many more there are."""
    rows = "".join(f"    z{200 - row}: {CACHED_AUDIO.format(more='')}\n" for row in range(120))
    checked = api.call(
        api.rate_cards.ValidateRateCard,
        pb.ValidateRateCardRequest(yaml=f"billing:\n  rate_card:\n{rows}"),
    )

    assert [warning.line for warning in checked.warnings] == [*range(3, 103), 0]
    assert (checked.warnings[100].reason, checked.warnings[100].message) == (
        "MORE_WARNINGS",
        "20 more warnings",
    )


def test_own_prices_that_may_not_be_meant() -> None:
    """What a finance admin would want to know before a tenant is charged so."""
    card = "billing: {rate_card: {gpt-5: {input: 4, output: 8, aliases: [five]}, free: {input: 0}}}"
    own = """\
billing:
  markup_basis_points: 0
  rate_card:
    gpt-5: {input: 3, output: 9}
    five: {output: 0}
    gtp-5: {input: 3}
    free: {when: [{tier: batch, input: 1}]}
"""
    found = tenant_prices_warnings(
        parse_tenant_prices(own), parse_rate_card(card).canonical_json.decode(), now_ms=0
    )

    assert [(warning.line, warning.field, warning.reason) for warning in found] == [
        (0, "markup_basis_points", "MARKUP_ZERO"),
        (4, "rate_card.gpt-5.input", "BELOW_LIST_PRICE"),
        (5, "rate_card.five.output", "OWN_PRICE_ZERO"),
        (6, "rate_card.gtp-5", "MODEL_NOT_IN_CARD"),
        (7, "rate_card.free", "ONLY_CONDITIONAL"),
    ]
    assert found[1].message == "3 per 1,000,000 is below the list price, 4 per 1,000,000 (-25 %)"
