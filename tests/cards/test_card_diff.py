# SPDX-License-Identifier: Apache-2.0
"""What differs between two cards: each price, under each condition, in per cent."""

from pathlib import Path

import pytest
from cards.conftest import NEW_PRICES

from harness.command_line import CommandLine
from taximeter import CardChange, CardReference, ChangeKind, Meter, NotFoundError
from taximeter_server.percent import change_percent
from taximeter_server.rate_card import parse_rate_card
from taximeter_server.rate_card_diff import CardChange as ServerChange
from taximeter_server.rate_card_diff import diff_cards

NOW_MS = 1_795_340_000_000  # 2026-11-22, a Sunday


def changes(a: str, b: str) -> list[ServerChange]:
    """Return what differs between two cards of these rows."""
    cards = [parse_rate_card(f"billing:\n{text}").canonical_json.decode() for text in (a, b)]
    return diff_cards(*cards, now_ms=NOW_MS)


def prices(a: str, b: str) -> list[tuple[str, str, str]]:
    """Return condition, class and change of each price of the row m that differs."""
    found = changes(f"  rate_card: {{m: {{{a}}}}}", f"  rate_card: {{m: {{{b}}}}}")
    assert {change.kind.value for change in found} <= {"PRICE"}
    return [(change.condition, change.usage_class, change.change_percent) for change in found]


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ("input: 3", "input: 3.0", []),
        ("input: 3", "input: {price: 6, per: 2000000}", []),
        ("input: 3", "input: 4", [("", "input", "33.333333")]),
        ("input: 3, output: 15", "input: 3, output: 13.125", [("", "output", "-12.5")]),
        ("input: 0", "input: 1", [("", "input", "")]),
        ("input: 3, cache_read: 0.3", "input: 3", [("", "cache_read", "900")]),
        ("audio_ms: 1", "audio_ms: {price: 1, per: 3600000, min: 5}", [("", "audio_ms", "0")]),
        (
            "input: 2, when: [{tier: [batch, flex], multiply: 0.5}]",
            "input: 2, when: [{tier: batch, multiply: 0.5}, {tier: flex, multiply: 0.75}]",
            [("tier flex", "input", "50")],
        ),
        (
            "input: 2, when: [{context_over: 200000, input: 4}]",
            "input: 2, when: [{context_over: 200000, input: 5}]",
            [("context from 200,001 tokens", "input", "25")],
        ),
        (
            "input: 2, when: [{utc: ['01:00-04:00'], days: [mon], multiply: 2}]",
            "input: 2, when: [{utc: ['01:00-04:00'], days: [mon], multiply: 3}]",
            [("on mon, utc 01:00-04:00", "input", "50")],
        ),
        (
            "input: 2, when: [{until: 2026-03-13, input: 4}]",
            "input: 2, when: [{until: 2026-03-13, input: 6}]",
            [("until 2026-03-13", "input", "50")],
        ),
        (
            "input: 2",
            "input: 2, when: [{from: 2027-01-01, input: 3}]",
            [("from 2027-01-01", "input", "50")],
        ),
        (
            "input: 2, when: [{tier: batch, multiply: 0.5}, {region: us, multiply: 1.1}]",
            "input: 1, when: [{tier: batch, multiply: 0.5}, {region: us, multiply: 1.1}]",
            [("", "input", "-50"), ("tier batch", "input", "-50"), ("region us", "input", "-50")],
        ),
    ],
)
def test_prices_are_compared_as_they_are_charged(
    a: str, b: str, expected: list[tuple[str, str, str]]
) -> None:
    """Only what changes a bill differs: two ways to write a price do not, a fallback or a multiplier does."""
    assert prices(a, b) == expected


def test_rows_defaults_classes_and_policy_differ_too() -> None:
    """Whatever a card says, a change of it is named once."""
    found = changes(
        "  rate_card: {gone: {input: 1}, same: {aliases: [old, kept], input: 1}}\n  defaults: {tool_calls: 0.0005}",
        "  currency: EUR\n  unknown_model: same\n  classes: {gpu_ms: {per: 1000}}\n  defaults: {tool_calls: 0.001}\n"
        "  rate_card: {same: {aliases: [new, kept], input: 1}, come: {input: 2, when: [{tier: batch, multiply: 0.5}]}}",
    )

    assert [
        (change.kind.value, change.row, change.condition, change.usage_class, change.value_a, change.value_b)
        for change in found
    ] == [
        ("CURRENCY", "", "", "", "USD", "EUR"),
        ("UNKNOWN_MODEL", "", "", "", "reject", "same"),
        ("CLASS", "", "", "gpu_ms", "", "per 1,000"),
        ("DEFAULT", "", "", "tool_calls", "", ""),
        ("ROW_ADDED", "come", "", "input", "", ""),
        ("ROW_ADDED", "come", "tier batch", "input", "", ""),
        ("ROW_REMOVED", "gone", "", "input", "", ""),
        ("ALIAS", "same", "", "", "old", ""),
        ("ALIAS", "same", "", "", "", "new"),
    ]


def test_the_order_of_overlays_matters_where_it_changes_a_price() -> None:
    """A multiplier before a replacement is no multiplier: exchanging two entries is a change of price."""
    first, second = "{tier: batch, multiply: 0.5}", "{tier: batch, output: 8}"

    assert prices(f"output: 4, when: [{first}, {second}]", f"output: 4, when: [{second}, {first}]") == [
        ("tier batch", "output", "-50")
    ]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [(0, 5, ""), (3, 4, "33.333333"), (8, 7, "-12.5"), (7, 7, "0"), (10**30, 10**30 + 1, "0")],
)
def test_per_cents_are_exact_or_rounded_half_even(before: int, after: int, expected: str) -> None:
    """Six decimals at most, and none for a change from nothing."""
    assert change_percent(before, after) == expected


def test_cards_are_named_in_every_way(meter: Meter) -> None:
    """By id, version, instant or as YAML: the same card differs in nothing, whatever it is called."""
    entry = meter.list_rate_cards()[0]
    names = [
        CardReference(rate_card_id=entry.rate_card_id[:12]),
        CardReference(version=entry.version),
        CardReference(at_time=entry.effective_time),
        CardReference(yaml=NEW_PRICES),
    ]

    found = [meter.diff_rate_cards(name, CardReference(version=2)) for name in names]

    assert [diff.changes for diff in found] == [()] * 4
    assert [diff.card_a.version for diff in found] == [2, 2, 2, 0]
    assert {diff.card_a.rate_card_id for diff in found} == {entry.rate_card_id}
    with pytest.raises(NotFoundError):
        meter.diff_rate_cards(CardReference(version=99))


def test_the_command_line_shows_a_table_and_json(taximeter: CommandLine, card_file: Path) -> None:
    """People get the change in per cent with a sign, programs exact decimals."""
    table = taximeter("rate-card", "diff", "v1", str(card_file)).stdout
    document = taximeter.json("rate-card", "diff", "v1", str(card_file))

    assert "-66.666667" in table
    assert "row added" in table
    assert document["card_b"]["version"] is None
    (price,) = (
        change
        for change in document["changes"]
        if (change["row"], change["usage_class"]) == ("gpt-5", "input")
    )
    assert price == {
        "kind": "PRICE",
        "row": "gpt-5",
        "condition": None,
        "usage_class": "input",
        "price_a": {"unit_price": "5", "per": 1_000_000, "priced_as": "input", "min_quantity": 0},
        "price_b": {"unit_price": "1.25", "per": 1_000_000, "priced_as": "input", "min_quantity": 0},
        "change_percent": "-75",
        "value_a": None,
        "value_b": None,
    }
    assert "Nothing differs" in taximeter("rate-card", "diff", "v2", str(card_file)).stdout


def test_a_file_that_is_no_card_shows_all_its_problems(taximeter: CommandLine, tmp_path: Path) -> None:
    """As validate does, with lines; what names no card at all is a wrong command line."""
    bad = tmp_path / "bad.yaml"
    bad.write_text("billing:\n  rate_card:\n    m: {inptu: 1, output: -1}\n")

    shown = taximeter("rate-card", "diff", str(bad), status=1).stdout

    assert "UNKNOWN_CLASS" in shown
    assert "DECIMAL_NEGATIVE" in shown
    assert "none of" in taximeter("rate-card", "diff", "nonsense", status=2).stderr
    assert "CARD_UNKNOWN" in taximeter("rate-card", "diff", "0123456789ab", status=1).stderr


def test_kinds_of_the_client_are_those_of_the_server(meter: Meter) -> None:
    """The client knows every kind of change, and a row that is gone has its price before."""
    found = meter.diff_rate_cards(CardReference(version=1), CardReference(version=2)).changes
    removed = [change for change in found if change.row == "gpt-4o"]

    assert all(isinstance(change, CardChange) for change in found)
    assert {change.kind for change in removed} == {ChangeKind.ROW_REMOVED}
    assert all(change.price_a is not None and change.price_b is None for change in removed)
