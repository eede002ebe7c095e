# SPDX-License-Identifier: Apache-2.0
"""The CSV of a report: stable columns, exact numbers, safe to open in a spreadsheet.

* The first ten columns never change; those after them may only grow in number.
* Quoted as RFC 4180 says, but lines end in LF alone: readers of CSV take both, and tools that split lines would
  carry a CR into the last column.
* A text cell that a spreadsheet would take for a formula begins with an apostrophe. Numbers are never text.
* cost_usd is rounded once, half to even, to 6 decimals, from the exact sum in cost_exact: sum cost_exact.
* sandbox_seconds is exact, with 1 to 3 decimals, as in 128.4.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

COLUMNS = (
    "date",
    "tenant",
    "model",
    "tokens_in",
    "tokens_out",
    "tokens_cached",
    "reasoning_tokens",
    "tool_calls",
    "sandbox_seconds",
    "cost_usd",
    "cache_read",
    "cache_write",
    "cost_exact",
    "rate_card_id",
)

CHUNK_BYTES_MAX = 65_536

_PICO_DIGITS = 12
_COST_DIGITS = 6
# With their full-width forms, which some spreadsheets take for the same.
_FORMULA_STARTS = (*"=+-@", *"\uff1d\uff0b\uff0d\uff20", "\t", "\r", "\n", "\0")
_QUOTED_CHARACTERS = frozenset('",\r\n')


@dataclass(frozen=True, slots=True)
class CsvRow:
    """Usage of one day, tenant, model and rate card. Counts are tokens or calls, sandbox_ms milliseconds."""

    date: str
    tenant: str
    model: str
    rate_card_id: str
    tokens_in: int
    tokens_out: int
    reasoning_tokens: int
    tool_calls: int
    sandbox_ms: int
    cache_read: int
    cache_write: int
    cost_picos: int

    @classmethod
    def of(cls, group: Sequence[str | None], sums: Sequence[int]) -> "CsvRow":
        """Make a row of date, tenant, model, rate_card_id and the sums in the order of the fields."""
        date, tenant, model, rate_card_id = (value or "" for value in group)
        return cls(date, tenant, model, rate_card_id, *sums)

    def cells(self) -> tuple[str, ...]:
        """Return the cells in the order of COLUMNS, ready to be joined."""
        return (
            self.date,
            text_cell(self.tenant),
            text_cell(self.model),
            str(self.tokens_in),
            str(self.tokens_out),
            str(self.cache_read + self.cache_write),
            str(self.reasoning_tokens),
            str(self.tool_calls),
            seconds_text(self.sandbox_ms),
            decimal_text(round_half_even(self.cost_picos, 10 ** (_PICO_DIGITS - _COST_DIGITS)), _COST_DIGITS),
            str(self.cache_read),
            str(self.cache_write),
            decimal_text(self.cost_picos, _PICO_DIGITS),
            text_cell(self.rate_card_id),
        )


def csv_chunks(rows: Iterable[CsvRow]) -> Iterator[bytes]:
    """Yield the file, header first, in pieces of at most CHUNK_BYTES_MAX bytes."""
    return chunks(_lines(rows))


def chunks(lines: Iterable[str]) -> Iterator[bytes]:
    """Join lines to pieces of at most CHUNK_BYTES_MAX bytes."""
    pending = bytearray()
    for line in lines:
        pending += line.encode()
        while len(pending) >= CHUNK_BYTES_MAX:
            yield bytes(pending[:CHUNK_BYTES_MAX])
            del pending[:CHUNK_BYTES_MAX]
    if pending:
        yield bytes(pending)


def _lines(rows: Iterable[CsvRow]) -> Iterator[str]:
    yield ",".join(COLUMNS) + "\n"
    for row in rows:
        yield ",".join(row.cells()) + "\n"


def text_cell(text: str) -> str:
    """Return text as a cell that no spreadsheet evaluates."""
    safe = "'" + text if text.startswith(_FORMULA_STARTS) else text
    if _QUOTED_CHARACTERS.isdisjoint(safe):
        return safe
    return '"' + safe.replace('"', '""') + '"'


def seconds_text(milliseconds: int) -> str:
    """Return exact seconds with 1 to 3 decimals."""
    whole, decimals = decimal_text(milliseconds, 3).split(".")
    return f"{whole}.{decimals.rstrip('0') or '0'}"


def decimal_text(scaled: int, digits: int) -> str:
    """Return scaled / 10^digits with exactly that many decimals."""
    whole, fraction = divmod(abs(scaled), 10**digits)
    return f"{'-' if scaled < 0 else ''}{whole}.{fraction:0{digits}}"


def round_half_even(value: int, divisor: int) -> int:
    """Return value / divisor, rounded half to even. divisor is above 0."""
    quotient, remainder = divmod(value, divisor)
    if 2 * remainder > divisor or (2 * remainder == divisor and quotient % 2 == 1):
        return quotient + 1
    return quotient
