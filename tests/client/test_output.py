# SPDX-License-Identifier: Apache-2.0
"""Output is exact for programs and harmless for terminals and spreadsheets."""

import csv
import io

import pytest

from taximeter.cli.measures import measure_columns, measure_values, seconds_text
from taximeter.cli.output import Column, cell_text, csv_text, write_table
from taximeter.money import Money
from taximeter.results import Measures


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", "\0x"])
def test_csv_never_holds_a_formula(text: str) -> None:
    """Text that a spreadsheet would run gets an apostrophe in front; numbers stay numbers."""
    rows = list(
        csv.DictReader(
            io.StringIO(csv_text([Column("a", "A"), Column("b", "B")], [{"a": text, "b": -1}]), newline="")
        )
    )

    assert [{"a": "'" + text, "b": "-1"}] == rows


def test_csv_quotes_what_needs_it() -> None:
    """Commas, quotes and line ends inside a cell survive; what is missing is empty."""
    columns = [Column("a", "A"), Column("b", "B")]
    rows = list(csv.reader(io.StringIO(csv_text(columns, [{"a": 'x,"y"\nz', "b": None}]), newline="")))

    assert rows == [["a", "b"], ['x,"y"\nz', ""]]


def test_tables_do_not_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Escape sequences and markup in the text of others are shown, not obeyed."""
    write_table([Column("note", "note")], [{"note": "\x1b[2J[red]x[/red]"}])
    printed = capsys.readouterr().out

    assert "\x1b" not in printed
    assert "[red]x[/red]" in printed


def test_a_table_in_a_pipe_is_not_cut(capsys: pytest.CaptureFixture[str]) -> None:
    """Where there is no terminal there is no width, and every line is whole."""
    write_table([Column("a", "a"), Column("b", "b")], [{"a": "x" * 120, "b": "y" * 120}])

    assert "x" * 120 + "   " + "y" * 120 in capsys.readouterr().out


def test_a_number_is_never_broken_over_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a terminal that is too narrow lines get longer; amounts stay whole."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "20")
    write_table([Column("a", "a"), Column("b", "b", numeric=True)], [{"a": "x" * 18, "b": "4.839806000001"}])

    assert "4.839806000001" in capsys.readouterr().out


def test_columns_of_zeros_are_left_out_of_tables(capsys: pytest.CaptureFixture[str]) -> None:
    """A table of sums shows the rarer columns only where some row has a value; JSON and CSV have them always."""
    nothing = {"input": 1}
    something = {"input": 1, "reasoning": 7}
    for quantities, shown in ((nothing, False), (something, True)):
        write_table(measure_columns("USD"), [measure_values(Measures(1, quantities, Money("USD", 0), 0))])
        assert shown is ("reasoning" in capsys.readouterr().out)


def test_cells_are_written_for_people() -> None:
    """Integers have groups of three digits, nothing is a dash, truth is a word."""
    assert [cell_text(value) for value in (1_234_567, None, True, False, ["a", "b"], [])] == [
        "1,234,567",
        "-",
        "yes",
        "no",
        "a, b",
        "-",
    ]


def test_negative_amounts_stay_numbers() -> None:
    """What was taken back is a number to a spreadsheet, not a text."""
    columns = [Column("name", "name"), Column("cost", "cost", numeric=True)]

    assert csv_text(columns, [{"name": "-1", "cost": "-0.50"}]) == "name,cost\n'-1,-0.50\n"


def test_measures_sum_the_classes_of_each_column() -> None:
    """Cached tokens are reads and writes together, seconds are exact, every class is in quantities."""
    quantities = {
        "input": 1,
        "input_audio": 2,
        "cache_read": 4,
        "cache_write": 8,
        "cache_write_1h": 16,
        "pages": 32,
    }
    values = measure_values(Measures(3, {**quantities, "sandbox_ms": 128_400}, Money("USD", 5 * 10**11), 1))

    assert tuple(
        values[name]
        for name in ("tokens_in", "tokens_cached", "tokens_out", "sandbox_seconds", "cost", "unpriced_lines")
    ) == (3, 28, 0, "128.4", "0.50", 1)
    assert quantities | {"sandbox_ms": 128_400} == values["quantities"]
    assert {column.key for column in measure_columns("USD")} == set(values) - {"quantities"}


@pytest.mark.parametrize(
    ("duration_ms", "text"), [(0, "0.0"), (1, "0.001"), (512_200, "512.2"), (2**63, "9223372036854775.808")]
)
def test_seconds_are_exact(duration_ms: int, text: str) -> None:
    """Milliseconds become seconds without rounding."""
    assert text == seconds_text(duration_ms)
