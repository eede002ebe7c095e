# SPDX-License-Identifier: Apache-2.0
"""Output: tables for people, JSON and CSV for programs."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

CommandT = TypeVar("CommandT", bound=Callable[..., Any])
Row = Mapping[str, Any]

TABLE, JSON, CSV = "table", "json", "csv"
# A pipe has no width; a table that is cut or wrapped there is of no use.
_PIPE_WIDTH = 400
_QUOTED_CHARACTERS = frozenset(',"\r\n')
# With their full-width forms, which some spreadsheets take for the same.
_FORMULA_STARTS = (*"=+-@", *"\uff1d\uff0b\uff0d\uff20", "\t", "\r", "\n", "\0")


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table or CSV file."""

    key: str
    """Key of its value in a row, and its name in CSV."""
    title: str
    """Its heading in a table."""
    numeric: bool = False
    """Whether it is set to the right."""
    optional: bool = False
    """Whether a table leaves it out where it has nothing but zeros."""


def output_option(*formats: str) -> Callable[[CommandT], CommandT]:
    """Adds --output, with --format and -o as other names; the first format is the default."""
    return click.option(
        "--output",
        "--format",
        "-o",
        "output",
        type=click.Choice(formats),
        default=formats[0],
        show_default=True,
        help="Format of the output.",
    )


def write(
    output: str,
    document: Any,
    columns: Sequence[Column],
    rows: Sequence[Row],
    *,
    title: str = "",
    total: Row | None = None,
    empty: str = "Nothing found.",
) -> None:
    """Writes the document as JSON, or the rows as a table or CSV. The total is a last line of the table only."""
    if output == JSON:
        write_json(document)
    elif output == CSV:
        click.echo(csv_text(columns, rows), nl=False)
    else:
        write_table(columns, rows, title=title, total=total, empty=empty)


def write_json(document: Any) -> None:
    """Writes a JSON document. Amounts and times have to be strings already."""
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))


def csv_text(columns: Sequence[Column], rows: Iterable[Row]) -> str:
    """Returns text quoted as RFC 4180 says, with a header line; lines end in LF, as in the server's file."""
    lines = [[column.key for column in columns]]
    lines += [[_column_cell(column, row.get(column.key)) for column in columns] for row in rows]
    return "".join(",".join(_quoted(cell) for cell in line) + "\n" for line in lines)


def _column_cell(column: Column, value: Any) -> str:
    # A negative amount is a text with a minus in front, and no formula.
    return csv_cell(value) if not column.numeric or value is None else str(value)


def csv_cell(value: Any) -> str:
    """Returns the text of a cell; text that a spreadsheet would run as a formula gets a quote in front."""
    if value is None:
        return ""
    if isinstance(value, str) and value.startswith(_FORMULA_STARTS):
        return "'" + value
    return str(value)


def _has_value(row: Row, column: Column) -> bool:
    return row.get(column.key) not in {None, 0, "", "0", "0.0", "0.00"}


def _quoted(cell: str) -> str:
    # Not csv.writer: with LF as its line end it leaves a CR inside a cell unquoted.
    if _QUOTED_CHARACTERS.isdisjoint(cell):
        return cell
    return '"' + cell.replace('"', '""') + '"'


def write_table(
    columns: Sequence[Column],
    rows: Sequence[Row],
    *,
    title: str = "",
    total: Row | None = None,
    empty: str = "Nothing found.",
) -> None:
    """Writes a table, or one sentence when there are no rows."""
    console = output_console()
    if not rows:
        console.print(Text(empty))
        return
    columns = [
        column for column in columns if not column.optional or any(_has_value(row, column) for row in rows)
    ]
    table = Table(
        title=title or None,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE,
        show_footer=total is not None,
    )
    for column in columns:
        table.add_column(
            column.title,
            footer=Text(cell_text(total.get(column.key, ""))) if total is not None else "",
            justify="right" if column.numeric else "left",
            overflow="fold",
        )
    for row in rows:
        table.add_row(*(Text(cell_text(row.get(column.key))) for column in columns))
    # A number that is cut or broken over lines is worse than a line that the terminal wraps.
    natural = console.measure(table, options=console.options.update(max_width=_PIPE_WIDTH)).maximum
    console.width = max(console.width, natural)
    console.print(table)


def write_fields(fields: Mapping[str, Any]) -> None:
    """Writes names and values below each other."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in fields.items():
        table.add_row(name.replace("_", " "), Text(cell_text(value)))
    output_console().print(table)


def cell_text(value: Any) -> str:
    """Returns the text of a value for people: integers in groups of three digits, lists and names with commas."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, (list, tuple)):
        return ", ".join(str(item) for item in value) or "-"
    if isinstance(value, Mapping):
        known = {name: each for name, each in value.items() if each not in (None, [], ())}
        return ", ".join(f"{name.replace('_', ' ')} {cell_text(each)}" for name, each in known.items()) or "-"
    # Text of others must not steer the terminal.
    return "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in str(value)
    )


def time_text(moment: datetime | None) -> str | None:
    """Returns an instant as RFC 3339 in UTC, to the millisecond."""
    if moment is None:
        return None
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def progress_console() -> Console:
    """Returns the console for progress: stderr, silent where that is no terminal."""
    console = Console(stderr=True)
    console.quiet = not console.is_terminal
    return console


def output_console() -> Console:
    """Returns the console for stdout, wide where that is no terminal."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_PIPE_WIDTH)
    return console
