# SPDX-License-Identifier: Apache-2.0
"""Reading rate cards: what is accepted, what is not, and that every problem is named with its place."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from taximeter_server._native import RateCard
from taximeter_server.rate_card import RateCardInvalidError, RateCardProblem, parse_rate_card
from taximeter_server.usage_class import BUILT_IN_CLASSES

DECIMAL_RULE = "decimal of at most 20 digits and 12 decimals"


def _row(fields: str) -> str:
    return f"billing:\n  rate_card:\n    m: {{{fields}}}\n"


def _card(fields: str) -> str:
    return f"billing: {{rate_card: {{m: {{input: 1}}}}, {fields}}}\n"


def _problems(source: str | bytes) -> tuple[RateCardProblem, ...]:
    with pytest.raises(RateCardInvalidError) as caught:
        parse_rate_card(source)
    return caught.value.problems


def _found(source: str | bytes) -> list[tuple[str, str]]:
    return [(problem.field, problem.reason) for problem in _problems(source)]


def _cpu_seconds(action: Callable[[], object]) -> float:
    """Return the least CPU time of several runs: what the work costs when nothing else disturbs it."""
    costs = []
    for _ in range(5):
        start = time.process_time()
        action()
        costs.append(time.process_time() - start)
    return min(costs)


class TestNumbers:
    """Prices are exact decimals, whatever YAML would make of them."""

    @pytest.mark.parametrize(
        ("written", "canonical"),
        [
            ("3", "3"),
            ("3.00", "3"),
            ("3e0", "3"),
            ("0.3E1", "3"),
            ('"3.000"', "3"),
            ("'3'", "3"),
            ("1.10", "1.1"),
            ("0", "0"),
            ("0.000", "0"),
            (".5", "0.5"),
            ("1e3", "1000"),
            ("25e-1", "2.5"),
            ("1e-12", "0.000000000001"),
            ("0.000000000001", "0.000000000001"),
            ("1234567.123456789012", "1234567.123456789012"),
            ("9223372.036854775807", "9223372.036854775807"),
        ],
    )
    def test_accepted(self, written: str, canonical: str) -> None:
        """A decimal within the limits is kept exactly, in one canonical way of writing it."""
        card = json.loads(parse_rate_card(_row(f"input: {written}")).canonical_json)

        assert card["rows"]["m"]["prices"]["input"] == {"price": canonical, "per": 1_000_000}

    @pytest.mark.parametrize(
        "written",
        [
            "1e999999",
            "1e-999999",
            "NaN",
            ".nan",
            "Infinity",
            "-.inf",
            "-0",
            "-0.0",
            "+3",
            "1_000",
            "1,5",
            '" 1 "',
            '"1\\n"',
            "١٢",
            "\uff11",
            "0x10",
            "0o10",
            "010",
            "00",
            "1.",
            ".",
            "e3",
            "1e",
            "on",
            "yes",
            "1:30",
            "12:30:00",
            "2026-01-01",
            "0.0000000000001",
            "1.0000000000000",
            "1e-13",
            "123456789012345678901",
            "1e20",
            "$3",
            "9" * 60,
        ],
    )
    def test_refused(self, written: str) -> None:
        """Everything else is refused, in less than a millisecond, with the rule."""
        source = _row(f"input: {written if ',' not in written else f'{written!r}'}")

        (problem,) = _problems(source)

        assert (problem.field, problem.reason) == ("rate_card.m.input", "DECIMAL_INVALID")
        assert problem.message == f"price: {DECIMAL_RULE}"
        assert (problem.line, problem.column) == (3, 16)
        assert _cpu_seconds(lambda: _problems(source)) < 0.001

    @pytest.mark.parametrize("quote", ["", '"'])
    @pytest.mark.parametrize("as_bytes", [False, True])
    def test_million_digits(self, quote: str, as_bytes: bool) -> None:  # noqa: FBT001 - a parameter of the test
        """A number of a million digits is refused before anything reads it."""
        text = _row(f"input: {quote}{'7' * 1_000_000}{quote}")
        source = text.encode() if as_bytes else text

        (problem,) = _problems(source)

        assert problem.reason == "DECIMAL_INVALID"
        assert problem.line == 3
        assert DECIMAL_RULE in problem.message
        assert _cpu_seconds(lambda: _problems(source)) < 0.001

    @pytest.mark.parametrize("written", ["-1", "-0.5", '"-1e-12"'])
    def test_negative(self, written: str) -> None:
        """A price below zero is refused."""
        assert _found(_row(f"input: {written}")) == [("rate_card.m.input", "DECIMAL_NEGATIVE")]

    def test_range(self) -> None:
        """A price that 64 bits of picos cannot hold is refused, also after all multipliers."""
        assert _found(_row("input: 9223372.036854775808")) == [("rate_card.m.input", "PRICE_RANGE")]
        multiplied = "input: 5000000, when: [{tier: a, multiply: 2}, {tier: b, multiply: 0.1}]"
        assert _found(_row(multiplied)) == [("rate_card.m", "PRICE_RANGE")]

    @pytest.mark.parametrize("written", ["", "~", "null", "[1]", "{}"])
    def test_missing(self, written: str) -> None:
        """A price that is not there is not a price of zero."""
        assert len(_problems(_row(f"input: {written}"))) == 1


class TestHostileFiles:
    """A file costs no more than reading it once, whatever is in it."""

    def test_alias_bomb(self) -> None:
        """Aliases are never followed."""
        lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
        lines += [f"{name}: &{name} [{', '.join([f'*{chr(ord(name) - 1)}'] * 9)}]" for name in "bcdefghi"]
        source = "\n".join(lines)

        assert ("b[0]", "YAML_ALIAS") in _found(source)
        assert _cpu_seconds(lambda: _problems(source)) < 0.05

    @pytest.mark.parametrize(
        ("source", "reason", "line", "column"),
        [
            (_row("input: &a 1"), "YAML_ALIAS", 3, 16),
            (_row("input: 1, output: *a"), "YAML_ALIAS", 3, 27),
            (_row("input: !!float 1"), "YAML_TAG", 3, 16),
            ("billing: !!python/object/apply:os.system [true]\n", "YAML_TAG", 1, 10),
            ("billing: {rate_card: {}}\n---\nbilling: {}\n", "YAML_DOCUMENTS", 2, 1),
            ("billing:\n\trate_card: {}\n", "YAML_TAB", 2, 1),
            ("billing:\n  rate_card:\t{}\n", "YAML_TAB", 2, 13),
            ("billing:\n  rate_card: {}\x00\n", "YAML_CHARACTER", 2, 16),
            ("# \ud800\n", "YAML_CHARACTER", 1, 3),
            ("billing: {}\n# \u2028\n", "YAML_CHARACTER", 2, 3),
            (_row("input: 1").encode("utf-16"), "YAML_ENCODING", 1, 1),
            (_row("input: 1").encode("utf-16-le"), "YAML_CHARACTER", 1, 2),
            (b"# ok\n# caf\xe9\n", "YAML_ENCODING", 2, 6),
            ("[" * 33 + "]" * 33, "YAML_DEPTH", 1, 33),
            ("[" * 1_000_000, "YAML_DEPTH", 1, 33),
            ("{a: " * 40, "YAML_DEPTH", 1, 129),
            ("billing: {a: [}\n", "YAML_SYNTAX", 1, 15),
            ('billing: "\n', "YAML_SYNTAX", 2, 1),
            ("billing: {? [a] : 1}\n", "YAML_KEY", 1, 13),
            ("#" * 1_048_577, "YAML_SIZE", 0, 1),
            ("é" * 524_289, "YAML_SIZE", 0, 1),
            (b"#" * 1_048_577, "YAML_SIZE", 0, 1),
        ],
    )
    def test_refused(self, source: str | bytes, reason: str, line: int, column: int) -> None:
        """What rate cards do not need of YAML is refused where it stands."""
        assert (reason, line, column) in [
            (problem.reason, problem.line, problem.column) for problem in _problems(source)
        ]

    def test_byte_order_mark(self) -> None:
        """A byte order mark says nothing that UTF-8 needs, and does no harm."""
        plain = parse_rate_card(_row("input: 1"))

        assert parse_rate_card("\ufeff" + _row("input: 1")) == plain
        assert parse_rate_card(b"\xef\xbb\xbf" + _row("input: 1").encode()) == plain

    def test_largest_size(self) -> None:
        """A file of exactly 1 MiB is read."""
        source = _row("input: 1")

        assert parse_rate_card(source + "#" * (1_048_576 - len(source))) == parse_rate_card(source)

    def test_duplicate_keys(self) -> None:
        """A key that stands twice is named, with the line of the first."""
        source = "billing:\n  rate_card:\n    m: {input: 1, input: 1}\n    n: {}\n    m: {}\n"

        assert [(problem.field, problem.line, problem.reason) for problem in _problems(source)] == [
            ("rate_card.m.input", 3, "YAML_DUPLICATE_KEY"),
            ("rate_card.m", 5, "YAML_DUPLICATE_KEY"),
        ]
        assert "line 3" in _problems(source)[1].message

    def test_depth(self) -> None:
        """Thirty-two levels are still read, though no card has them."""
        assert "YAML_DEPTH" not in [problem.reason for problem in _problems("[" * 32 + "]" * 32)]

    def test_rules(self) -> None:
        """Ten thousand rows are read; one more rule, row or entry of when, is refused."""
        rows = "billing:\n  rate_card:\n" + "".join(
            f"    m{number}: {{input: 1}}\n" for number in range(9_999)
        )

        card = parse_rate_card(rows + "    last: {input: 1}\n")

        assert len(card.row_names) == 10_000
        RateCard(card.canonical_json)
        assert _found(rows + "    a: {}\n    b: {}\n") == [("rate_card", "YAML_RULES")]
        entries = "input: 1, when: [{tier: a, multiply: 2}, {tier: b, multiply: 2}]"
        assert _found(rows + f"    a: {{{entries}}}\n") == [("rate_card.a.when", "YAML_RULES")]

    def test_flat_keys(self) -> None:
        """A mapping of a hundred thousand keys is given up after ten thousand."""
        source = "".join(f"k{number}: 1\n" for number in range(100_000))

        assert _found(source) == [("", "YAML_RULES")]

    def test_problems_end(self) -> None:
        """At most a hundred problems are listed."""
        assert len(_problems(_row(", ".join(f"x{number}: 1" for number in range(500))))) == 100

    def test_echo(self) -> None:
        """A message repeats at most 32 printable characters of the file."""
        (problem,) = _problems(_row(f'"{"y" * 100}\u202eevil": 1'))

        assert "y" * 33 not in problem.message + problem.field
        assert (problem.message + problem.field).isascii()


class TestProblems:
    """Every problem has a place, a path, a stable reason and a sentence."""

    def test_all_at_once(self) -> None:
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

        problems = _problems(source)

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
    def test_card(self, fields: str, expected: tuple[str, str]) -> None:
        """The parts of a card other than rows are checked."""
        assert _found(_card(fields)) == [expected]

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
    def test_row(self, fields: str, expected: tuple[str, str]) -> None:
        """Prices and names of a row are checked."""
        assert _found(_row(fields)) == [(f"rate_card.m.{expected[0]}", expected[1])]

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
    def test_when(self, fields: str, expected: tuple[str, str]) -> None:
        """Conditions and effects of an overlay are checked."""
        assert _found(_row(f"input: 1, when: [{{{fields}}}]")) == [
            (f"rate_card.m.when[0]{expected[0]}", expected[1])
        ]

    def test_names_belong_to_one_row(self) -> None:
        """Two rows that answer to one name are refused."""
        source = "billing:\n  rate_card:\n    a: {aliases: [b, c]}\n    b: {}\n    d: {aliases: c}\n"

        assert _found(source) == [
            ("rate_card.a.aliases[0]", "MODEL_NAME_DUPLICATE"),
            ("rate_card.d.aliases", "MODEL_NAME_DUPLICATE"),
        ]

    def test_descending_tiers(self) -> None:
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

        (problem,) = _problems(source)

        assert (problem.line, problem.field, problem.reason) == (7, "rate_card.m.when[1]", "TIERS_INVALID")
        assert problem.message.startswith("tiers: the entry in line 6")
        assert "line 7" in problem.message

    @pytest.mark.parametrize("source", ["", "# nothing\n", "{}", "other: 1\n"])
    def test_no_card(self, source: str) -> None:
        """A file without a card says that billing is required."""
        assert ("billing", "FIELD_REQUIRED") in _found(source)
        assert ("rate_card", "FIELD_REQUIRED") in _found("billing: {currency: USD}\n")


class TestMeaning:
    """What a file means is its id."""

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
    def test_equal(self, left: str, right: str) -> None:
        """Two ways of writing the same card have one id."""
        assert parse_rate_card(_row(left)) == parse_rate_card(_row(right))

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
    def test_different(self, left: str, right: str) -> None:
        """Two cards that could differ for some call have different ids."""
        assert parse_rate_card(_row(left)).rate_card_id != parse_rate_card(_row(right)).rate_card_id

    def test_document(self) -> None:
        """A card has a canonical form, its hash, a currency and names, and compiles to the same id."""
        source = (
            "billing:\n  currency: EUR\n  unknown_model: b*\n  rate_card:\n    b*: {}\n    a: {input: 1}\n"
        )

        card = parse_rate_card(source)

        assert card.canonical_json == (
            b'{"currency":"EUR","format":1,"rows":{"a":{"prices":{"input":{"per":1000000,"price":"1"}}},"b*":{}},'
            b'"unknown_model":"b*"}'
        )
        assert (card.currency, card.row_names) == ("EUR", ("b*", "a"))
        assert RateCard(card.canonical_json).rate_card_id == card.rate_card_id
        assert parse_rate_card(source.encode()) == card
        assert parse_rate_card(source.replace("unknown_model: b*", "unknown_model: reject")) != card

    def test_built_in_classes(self) -> None:
        """The compiled pricing has the same classes as the reader: units and what they fall back to."""
        empty = RateCard(parse_rate_card(_row("")).canonical_json)
        lines: Any = empty.price(model="m", usage=dict.fromkeys(BUILT_IN_CLASSES, 1), occur_time_nanos=0)[
            "lines"
        ]
        parents = [found.parent for found in BUILT_IN_CLASSES.values() if found.parent]

        assert {line["usage_class"]: line["per"] for line in lines} == {
            name: found.per for name, found in BUILT_IN_CLASSES.items()
        }
        for parent in parents:
            card = RateCard(parse_rate_card(_row(f"{parent}: 1")).canonical_json)
            lines = card.price(model="m", usage=dict.fromkeys(BUILT_IN_CLASSES, 1), occur_time_nanos=0)[
                "lines"
            ]
            priced = {line["usage_class"] for line in lines if line["priced_as"] == parent}
            assert priced == {name for name in BUILT_IN_CLASSES if parent in _ancestors(name)}


def _ancestors(name: str) -> list[str]:
    parent = BUILT_IN_CLASSES[name].parent
    return [name, *(_ancestors(parent) if parent else [])]
