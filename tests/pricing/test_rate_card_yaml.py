# SPDX-License-Identifier: Apache-2.0
"""A file costs no more than reading it once, whatever is in it."""

import pytest
from pricing.card_text import cpu_seconds, problems_of, reasons_of, row_text

from taximeter_server._native import RateCard
from taximeter_server.rate_card import parse_rate_card


def test_alias_bomb() -> None:
    """Aliases are never followed."""
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    lines += [f"{name}: &{name} [{', '.join([f'*{chr(ord(name) - 1)}'] * 9)}]" for name in "bcdefghi"]
    source = "\n".join(lines)

    assert ("b[0]", "YAML_ALIAS") in reasons_of(source)
    assert cpu_seconds(lambda: problems_of(source)) < 0.05


@pytest.mark.parametrize(
    ("source", "reason", "line", "column"),
    [
        (row_text("input: &a 1"), "YAML_ALIAS", 3, 16),
        (row_text("input: 1, output: *a"), "YAML_ALIAS", 3, 27),
        (row_text("input: !!float 1"), "YAML_TAG", 3, 16),
        ("billing: !!python/object/apply:os.system [true]\n", "YAML_TAG", 1, 10),
        ("billing: {rate_card: {}}\n---\nbilling: {}\n", "YAML_DOCUMENTS", 2, 1),
        ("billing:\n\trate_card: {}\n", "YAML_TAB", 2, 1),
        ("billing:\n  rate_card:\t{}\n", "YAML_TAB", 2, 13),
        ("billing:\n  rate_card: {}\x00\n", "YAML_CHARACTER", 2, 16),
        ("# \ud800\n", "YAML_CHARACTER", 1, 3),
        ("billing: {}\n# \u2028\n", "YAML_CHARACTER", 2, 3),
        (row_text("input: 1").encode("utf-16"), "YAML_ENCODING", 1, 1),
        (row_text("input: 1").encode("utf-16-le"), "YAML_CHARACTER", 1, 2),
        (b"# ok\n# caf\xe9\n", "YAML_ENCODING", 2, 6),
        ("[" * 33 + "]" * 33, "YAML_DEPTH", 1, 33),
        ("[" * 1_000_000, "YAML_DEPTH", 1, 256),
        ("{a: " * 40, "YAML_DEPTH", 1, 129),
        ("billing: {a: [}\n", "YAML_SYNTAX", 1, 15),
        ('billing: "\n', "YAML_SYNTAX", 1, 10),
        ("billing: {? [a] : 1}\n", "YAML_KEY", 1, 13),
        ("#" * 1_048_577, "YAML_SIZE", 0, 1),
        ("é" * 524_289, "YAML_SIZE", 0, 1),
        (b"#" * 1_048_577, "YAML_SIZE", 0, 1),
    ],
)
def test_refused(source: str | bytes, reason: str, line: int, column: int) -> None:
    """What rate cards do not need of YAML is refused where it stands."""
    assert (reason, line, column) in [
        (problem.reason, problem.line, problem.column) for problem in problems_of(source)
    ]


def test_byte_order_mark() -> None:
    """A byte order mark says nothing that UTF-8 needs, and does no harm."""
    plain = parse_rate_card(row_text("input: 1"))

    assert parse_rate_card("\ufeff" + row_text("input: 1")) == plain
    assert parse_rate_card(b"\xef\xbb\xbf" + row_text("input: 1").encode()) == plain


def test_largest_size() -> None:
    """A file of exactly 1 MiB is read."""
    source = row_text("input: 1")

    assert parse_rate_card(source + "#" * (1_048_576 - len(source))) == parse_rate_card(source)


def test_duplicate_keys() -> None:
    """A key that stands twice is named, with the line of the first."""
    source = "billing:\n  rate_card:\n    m: {input: 1, input: 1}\n    n: {}\n    m: {}\n"

    assert [(problem.field, problem.line, problem.reason) for problem in problems_of(source)] == [
        ("rate_card.m.input", 3, "YAML_DUPLICATE_KEY"),
        ("rate_card.m", 5, "YAML_DUPLICATE_KEY"),
    ]
    assert "line 3" in problems_of(source)[1].message


def test_depth() -> None:
    """Thirty-two levels are still read, though no card has them."""
    assert "YAML_DEPTH" not in [problem.reason for problem in problems_of("[" * 32 + "]" * 32)]


def test_rules() -> None:
    """Ten thousand rows are read; one more rule, row or entry of when, is refused."""
    rows = "billing:\n  rate_card:\n" + "".join(f"    m{number}: {{input: 1}}\n" for number in range(9_999))

    card = parse_rate_card(rows + "    last: {input: 1}\n")

    assert len(card.rows) == 10_000
    RateCard(card.canonical_json)
    assert reasons_of(rows + "    a: {}\n    b: {}\n") == [("rate_card", "YAML_RULES")]
    entries = "input: 1, when: [{tier: a, multiply: 2}, {tier: b, multiply: 2}]"
    assert reasons_of(rows + f"    a: {{{entries}}}\n") == [("rate_card.a.when", "YAML_RULES")]


def test_flat_keys() -> None:
    """A mapping of a hundred thousand keys is given up after ten thousand."""
    source = "".join(f"k{number}: 1\n" for number in range(100_000))

    assert reasons_of(source) == [("", "YAML_RULES")]


def test_problems_end() -> None:
    """At most a hundred problems are listed."""
    assert len(problems_of(row_text(", ".join(f"x{number}: 1" for number in range(500))))) == 100


def test_echo() -> None:
    """A message repeats at most 32 printable characters of the file."""
    (problem,) = problems_of(row_text(f'"{"y" * 100}\u202eevil": 1'))

    assert "y" * 33 not in problem.message + problem.field
    assert (problem.message + problem.field).isascii()
