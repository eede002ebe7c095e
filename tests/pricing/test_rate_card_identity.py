# SPDX-License-Identifier: Apache-2.0
"""What a rate card means is its id."""

import pytest
from pricing.card_text import row_text

from taximeter_server._native import RateCard
from taximeter_server.rate_card import parse_rate_card
from taximeter_server.usage_class import BUILT_IN_CLASSES


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("input: 3.00", 'input: "3e0"'),
        ("input: 3, output: 4", "output: 4, input: 3"),
        ("input: 3", "input: {price: 3, per: 1e6, min: 0}"),
        ("input: 3", "input: 3, aliases: [], when: []"),
        ("input: 3, aliases: a", "input: 3, aliases: [a, m, a]"),
        ("when: [{tier: a, input: 1}]", "when: [{input: 1, tier: [a, a]}]"),
        ("when: [{tier: [a, b], input: 1}]", "when: [{tier: [b, a], input: 1}]"),
        ("when: [{context_over: 9, input: 1}]", "when: [{context_from: 10, input: 1}]"),
        ("when: [{context_over: 9, input: 1}]", "when: [{context_over: 9, context_from: 3, input: 1}]"),
        ("when: [{utc: 22:00-02:00, input: 1}]", "when: [{utc: [00:00-02:00, 22:00-24:00], input: 1}]"),
        ("when: [{utc: 01:00-03:00, input: 1}]", "when: [{utc: [02:00-03:00, 01:00-02:30], input: 1}]"),
        ("when: [{utc: 00:00-24:00, input: 1}]", "when: [{input: 1}]"),
        ("when: [{utc: [12:00-00:00, 23:00-13:00], input: 1}]", "when: [{input: 1}]"),
        ("when: [{days: [mon, tue, wed, thu, fri, sat, sun], input: 1}]", "when: [{input: 1}]"),
        ("when: [{from: 2026-03-13, input: 1}]", "when: [{from: '2026-03-13T01:00+01:00', input: 1}]"),
        ("when: [{multiply: 0.50}]", "when: [{multiply: 5e-1}]"),
        ("when: [{multiply: 2, classes: input}]", "when: [{multiply: 2, classes: [input, input]}]"),
    ],
)
def test_equal(left: str, right: str) -> None:
    """Two ways of writing the same card have one id."""
    assert parse_rate_card(row_text(left)) == parse_rate_card(row_text(right))


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("input: 3", "input: 3.000000000001"),
        ("input: 3", "output: 3"),
        ("input: 3", "input: {price: 3, per: 1000}"),
        ("input: 3", "input: {price: 3, min: 1}"),
        ("input: 3", "input: 3, aliases: a"),
        ("input: 0", ""),
        ("when: [{tier: a, input: 1}]", "when: [{tier: A, input: 1}]"),
        ("when: [{tier: a, input: 1}]", "when: [{region: a, input: 1}]"),
        ("when: [{context_over: 9, input: 1}]", "when: [{context_from: 9, input: 1}]"),
        ("when: [{from: 2026-03-13, input: 1}]", "when: [{until: 2026-03-13, input: 1}]"),
        ("when: [{utc: 22:00-02:00, input: 1}]", "when: [{utc: 02:00-22:00, input: 1}]"),
        ("when: [{multiply: 2}, {multiply: 3}]", "when: [{multiply: 3}, {multiply: 2}]"),
        ("when: [{multiply: 2}]", "when: [{multiply: 2, classes: input}]"),
    ],
)
def test_different(left: str, right: str) -> None:
    """Two cards that could differ for some call have different ids."""
    assert parse_rate_card(row_text(left)).rate_card_id != parse_rate_card(row_text(right)).rate_card_id


def test_document() -> None:
    """A card has a canonical form, its hash, a currency and names, and compiles to the same id."""
    source = "billing:\n  currency: EUR\n  unknown_model: b*\n  rate_card:\n    b*: {}\n    a: {input: 1}\n"

    card = parse_rate_card(source)

    assert card.canonical_json == (
        b'{"currency":"EUR","format":1,"rows":{"a":{"prices":{"input":{"per":1000000,"price":"1"}}},"b*":{}},'
        b'"unknown_model":"b*"}'
    )
    assert (card.currency, [row.name for row in card.rows]) == ("EUR", ["b*", "a"])
    assert RateCard(card.canonical_json).rate_card_id == card.rate_card_id
    assert parse_rate_card(source.encode()) == card
    assert parse_rate_card(source.replace("unknown_model: b*", "unknown_model: reject")) != card


def test_built_in_classes() -> None:
    """The compiled pricing has the same classes as the reader: units and what they fall back to."""
    empty = RateCard(parse_rate_card(row_text("")).canonical_json)
    lines = empty.price(model="m", usage=dict.fromkeys(BUILT_IN_CLASSES, 1), occur_time_nanos=0).lines
    parents = [found.parent for found in BUILT_IN_CLASSES.values() if found.parent]

    assert {line.usage_class: line.per for line in lines} == {
        name: found.per for name, found in BUILT_IN_CLASSES.items()
    }
    for parent in parents:
        card = RateCard(parse_rate_card(row_text(f"{parent}: 1")).canonical_json)
        lines = card.price(model="m", usage=dict.fromkeys(BUILT_IN_CLASSES, 1), occur_time_nanos=0).lines
        priced = {line.usage_class for line in lines if line.priced_as == parent}
        assert priced == {name for name in BUILT_IN_CLASSES if parent in _ancestors(name)}


def _ancestors(name: str) -> list[str]:
    parent = BUILT_IN_CLASSES[name].parent
    return [name, *(_ancestors(parent) if parent else [])]
