# SPDX-License-Identifier: Apache-2.0
"""Every problem of a rate card has a place, a path, a stable reason and a sentence."""

import pytest
from pricing.card_text import card_text, problems_of, reasons_of, row_text


def test_all_at_once() -> None:
    """A file is read to its end, so that nobody corrects it one problem at a time."""
    source = """\
billing:
  curency: USD
  unknown_model: gpt5
  rate_card:
    "gpt-5":
      inptu: 3
      when:
        - {teir: batch, multiply: 0.5}
        - {tier: batch}
"""

    problems = problems_of(source)

    assert [(problem.line, problem.column, problem.field, problem.reason) for problem in problems] == [
        (2, 3, "curency", "UNKNOWN_FIELD"),
        (3, 18, "unknown_model", "UNKNOWN_ROW"),
        (6, 7, "rate_card.gpt-5.inptu", "UNKNOWN_CLASS"),
        (8, 12, "rate_card.gpt-5.when[0].teir", "UNKNOWN_FIELD"),
        (9, 11, "rate_card.gpt-5.when[1]", "EFFECT_MISSING"),
    ]
    assert problems[0].message == 'unknown field "curency"; did you mean "currency"?'
    assert problems[2].message == 'unknown class "inptu"; did you mean "input"?'
    assert '"gpt-5"' in problems[1].message
    assert '"tier"' in problems[3].message


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ("currency: usd", ("currency", "CURRENCY_INVALID")),
        (f"currency: {'X' * 3}", ("currency", "CURRENCY_INVALID")),
        ('currency: ""', ("currency", "CURRENCY_INVALID")),
        ("currency: ~", ("currency", "FIELD_REQUIRED")),
        ("currency: [USD]", ("currency", "WRONG_SHAPE")),
        ("unknown_model: n", ("unknown_model", "UNKNOWN_ROW")),
        ("defaults: {tool_cals: 1}", ("defaults.tool_cals", "UNKNOWN_CLASS")),
        ("defaults: []", ("defaults", "WRONG_SHAPE")),
        ("classes: {a: {}}", ("classes.a.per", "FIELD_REQUIRED")),
        ("classes: {a: {per: 0}}", ("classes.a.per", "INTEGER_INVALID")),
        ("classes: {a: {parent: inptu}}", ("classes.a.parent", "UNKNOWN_CLASS")),
        ("classes: {a: {parent: a}}", ("classes.a", "CLASS_CIRCULAR")),
        ("classes: {a: {per: 1, parent: b}, b: {per: 1, parent: a}}", ("classes.a", "CLASS_CIRCULAR")),
        ("classes: {input: {per: 1}}", ("classes.input", "CLASS_NAME_INVALID")),
        ("classes: {tier: {per: 1}}", ("classes.tier", "CLASS_NAME_INVALID")),
        ("classes: {Gpu: {per: 1}}", ("classes.Gpu", "CLASS_NAME_INVALID")),
        ("<<: {currency: EUR}", ("<<", "UNKNOWN_FIELD")),
    ],
)
def test_card(fields: str, expected: tuple[str, str]) -> None:
    """The parts of a card other than rows are checked."""
    assert reasons_of(card_text(fields)) == [expected]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ("input: {per: 1}", ("input.price", "FIELD_REQUIRED")),
        ("input: {price: 1, per: 0}", ("input.per", "INTEGER_INVALID")),
        ("input: {price: 1, per: 1.5}", ("input.per", "INTEGER_INVALID")),
        ("input: {price: 1, per: 9223372036854775808}", ("input.per", "INTEGER_INVALID")),
        ("input: {price: 1, min: -1}", ("input.min", "INTEGER_INVALID")),
        ("input: {price: 1, pre: 1}", ("input.pre", "UNKNOWN_FIELD")),
        ("aliases: [a b]", ("aliases[0]", "MODEL_NAME_INVALID")),
        ("aliases: [g\u0440t]", ("aliases[0]", "MODEL_NAME_INVALID")),
        ('aliases: ""', ("aliases", "MODEL_NAME_INVALID")),
        ("aliases: [a**b]", ("aliases[0]", "MODEL_NAME_INVALID")),
        ("when: {tier: a}", ("when", "WRONG_SHAPE")),
        ("when: [5]", ("when[0]", "WRONG_SHAPE")),
    ],
)
def test_row(fields: str, expected: tuple[str, str]) -> None:
    """Prices and names of a row are checked."""
    assert reasons_of(row_text(fields)) == [(f"rate_card.m.{expected[0]}", expected[1])]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ("tier: [], input: 1", (".tier", "FIELD_REQUIRED")),
        ('tier: "", input: 1', (".tier", "CONDITION_INVALID")),
        ("tier: {a: 1}, input: 1", (".tier", "WRONG_SHAPE")),
        ("days: mom, input: 1", (".days", "DAY_INVALID")),
        ("days: [mon, Tue], input: 1", (".days[1]", "DAY_INVALID")),
        ("utc: 01:00, input: 1", (".utc", "WINDOW_INVALID")),
        ("utc: 1:00-2:00, input: 1", (".utc", "WINDOW_INVALID")),
        ("utc: 24:00-01:00, input: 1", (".utc", "WINDOW_INVALID")),
        ("utc: 01:00-24:01, input: 1", (".utc", "WINDOW_INVALID")),
        ("utc: 01:00-01:00, input: 1", (".utc", "WINDOW_INVALID")),
        ("from: 2026-02-29, input: 1", (".from", "DATE_INVALID")),
        ("from: 20260228, input: 1", (".from", "DATE_INVALID")),
        ("from: 2026-02-28T00:00:00, input: 1", (".from", "DATE_INVALID")),
        ("from: 2026-02-28T00:00:00.5Z, input: 1", (".from", "DATE_INVALID")),
        ("until: 2026-06-30T23:59:60Z, input: 1", (".until", "DATE_INVALID")),
        ("from: 2026-02-28, until: 2026-02-28, input: 1", (".until", "RANGE_EMPTY")),
        ("context_over: -1, input: 1", (".context_over", "INTEGER_INVALID")),
        ("context_from: 200_000, input: 1", (".context_from", "INTEGER_INVALID")),
        ("multiply: -1", (".multiply", "DECIMAL_NEGATIVE")),
        ("multiply: 50%", (".multiply", "DECIMAL_INVALID")),
        ("input: 1, classes: [input]", (".classes", "EFFECT_MISSING")),
        ("multiply: 1, classes: [inptu]", (".classes[0]", "UNKNOWN_CLASS")),
        ("multiply: 1, classes: []", (".classes", "FIELD_REQUIRED")),
        ("tier: a", ("", "EFFECT_MISSING")),
    ],
)
def test_when(fields: str, expected: tuple[str, str]) -> None:
    """Conditions and effects of an overlay are checked."""
    assert reasons_of(row_text(f"input: 1, when: [{{{fields}}}]")) == [
        (f"rate_card.m.when[0]{expected[0]}", expected[1])
    ]


def test_names_belong_to_one_row() -> None:
    """Two rows that answer to one name are refused."""
    source = "billing:\n  rate_card:\n    a: {aliases: [b, c]}\n    b: {}\n    d: {aliases: c}\n"

    assert reasons_of(source) == [
        ("rate_card.a.aliases[0]", "MODEL_NAME_DUPLICATE"),
        ("rate_card.d.aliases", "MODEL_NAME_DUPLICATE"),
    ]


def test_descending_tiers() -> None:
    """A context tier that a later one always hides is refused with both lines."""
    source = """\
billing:
  rate_card:
    m:
      input: 1
      when:
        - {context_over: 200, input: 2}
        - {context_from: 201, input: 3}
        - {context_over: 100, tier: batch, input: 4}
        - {context_over: 50, output: 4}
"""

    (problem,) = problems_of(source)

    assert (problem.line, problem.field, problem.reason) == (7, "rate_card.m.when[1]", "TIERS_INVALID")
    assert problem.message.startswith("tiers: the entry in line 6")
    assert "line 7" in problem.message


@pytest.mark.parametrize("source", ["", "# nothing\n", "{}", "other: 1\n"])
def test_no_card(source: str) -> None:
    """A file without a card says that billing is required."""
    assert ("billing", "FIELD_REQUIRED") in reasons_of(source)
    assert ("rate_card", "FIELD_REQUIRED") in reasons_of("billing: {currency: USD}\n")
