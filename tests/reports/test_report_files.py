# SPDX-License-Identifier: Apache-2.0
"""Reports as files: the CSV with its stable columns, and JSON lines."""

import csv
import io
import json
import tracemalloc
from collections import defaultdict
from collections.abc import Iterator
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reports.conftest import LedgerFixture
from reports.ledger_entries import DAY_US, JUNE_US, Entry, Line, varied_entries
from reports.oracle import dollars, expected_report

from taximeter_server.errors import RangeInvalidError
from taximeter_server.report_csv import (
    CHUNK_BYTES_MAX,
    CsvRow,
    csv_chunks,
    decimal_text,
    round_half_even,
    seconds_text,
    text_cell,
)
from taximeter_server.report_json import json_chunks
from taximeter_server.report_query import ReportQuery

QUERY = ReportQuery(JUNE_US, JUNE_US + 20 * DAY_US)
HEADER = (
    "date,tenant,model,tokens_in,tokens_out,tokens_cached,reasoning_tokens,tool_calls,sandbox_seconds,cost_usd,"
    "cache_read,cache_write,cost_exact,rate_card_id"
)


def test_the_rows_of_the_manual(ledger: LedgerFixture) -> None:
    """A day of one tenant and model is one line, its classes folded into the ten columns and the four after them."""
    lines = (
        *(Line("input", 142_500, 2_137_500_000_000), Line("output", 38_200, 2_865_000_000_000)),
        *(Line("cache_read", 12_300, 18_450_000_000), Line("reasoning", 5_400, 405_000_000_000)),
        *(Line("tool_calls", 42, unpriced=True), Line("sandbox_ms", 128_400, unpriced=True)),
    )
    opus = Entry(occur_time_us=JUNE_US + 2 * DAY_US, lines=lines)
    sonnet = Entry(
        occur_time_us=JUNE_US + 2 * DAY_US,
        model="claude-sonnet-4-6",
        rate_card_id="",
        lines=(Line("cache_write", 7),),
    )
    ledger.record([sonnet, opus])

    text = b"".join(csv_chunks(ledger.reporter().csv_rows(QUERY))).decode()

    assert text == (
        f"{HEADER}\n"
        "2026-06-03,acme,claude-opus-4-7,142500,38200,12300,5400,42,128.4,5.425950,12300,0,5.425950000000,"
        f"{'ab' * 32}\n"
        "2026-06-03,acme,claude-sonnet-4-6,0,0,7,0,0,0.0,0.000000,0,7,0.000000000000,\n"
    )


def test_the_csv_equals_the_oracle(ledger: LedgerFixture) -> None:
    """Each line of the CSV has the exact sums of its day, tenant, model and card, in any time zone."""
    ledger.record(varied_entries(800, seed=4))
    ledger.archiver().run_once()
    ledger.record(varied_entries(200, seed=5))
    folded = {
        "tokens_in": ("input", "input_audio"),
        "tokens_out": ("output", "output_image"),
        "tokens_cached": ("cache_read", "cache_read_image", "cache_write", "cache_write_1h"),
        "cache_read": ("cache_read", "cache_read_image"),
        "cache_write": ("cache_write", "cache_write_1h"),
        "reasoning_tokens": ("reasoning",),
        "tool_calls": ("tool_calls",),
    }
    for time_zone in ("UTC", "Asia/Kolkata"):
        expected = expected_report(
            ledger.entries,
            start_us=QUERY.start_time_us,
            end_us=QUERY.end_time_us,
            group_by=("day", "tenant", "model", "rate_card_id"),
            time_zone=time_zone,
        )
        query = ReportQuery(QUERY.start_time_us, QUERY.end_time_us, time_zone=time_zone, group_by=("tier",))
        text = b"".join(csv_chunks(ledger.reporter().csv_rows(query))).decode()
        found = list(csv.DictReader(io.StringIO(text), strict=True))

        assert len(found) == len(expected)
        for row in found:
            values = (row["date"], row["tenant"], row["model"], row["rate_card_id"])
            group = tuple((value.removeprefix("'") or None) for value in values)
            _, quantities, cost_picos, _ = expected[group]
            amounts = defaultdict(int, quantities)
            for column, classes in folded.items():
                assert row[column] == str(sum(amounts[name] for name in classes)), column
            assert Decimal(row["sandbox_seconds"]) == Decimal(amounts["sandbox_ms"]) / 1000
            assert row["cost_usd"] == dollars(cost_picos, 6)
            assert row["cost_exact"] == dollars(cost_picos, 12)
        keys = [
            (row["date"], row["tenant"].removeprefix("'"), row["model"].removeprefix("'")) for row in found
        ]
        assert keys == sorted(keys)


def test_the_same_ledger_gives_the_same_bytes(ledger: LedgerFixture) -> None:
    """A CSV is byte for byte the same before and after archiving."""
    ledger.record(varied_entries(300, seed=6))
    reporter = ledger.reporter()
    before = b"".join(csv_chunks(reporter.csv_rows(QUERY)))
    ledger.archiver().run_once()

    assert b"".join(csv_chunks(reporter.csv_rows(QUERY))) == before


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("acme", "acme"),
        ("", ""),
        ("=1+1", "'=1+1"),
        ("+1", "'+1"),
        ("-dash", "'-dash"),
        ("@sum", "'@sum"),
        ("\tx", "'\tx"),
        ("\rx", '"\'\rx"'),
        ("\0x", "'\0x"),
        ("\nx", '"\'\nx"'),
        ("\uff1d1+1", "'\uff1d1+1"),
        ('a"b', '"a""b"'),
        ("a,b", '"a,b"'),
        ("a\nb", '"a\nb"'),
        ('=HYPERLINK("x")', '"\'=HYPERLINK(""x"")"'),
        ("a=b", "a=b"),
    ],
)
def test_text_cells(text: str, cell: str) -> None:
    """Cells are quoted where needed, and what a spreadsheet would evaluate begins with an apostrophe."""
    assert text_cell(text) == cell


@given(st.text())
def test_text_cells_are_read_back(text: str) -> None:
    """A CSV reader gives back the text, but for the apostrophe, and never one that begins a formula."""
    if "\0" in text:
        text = text.replace("\0", "")
    (cells,) = csv.reader(io.StringIO(f"first,{text_cell(text)},last\n", newline=""), strict=True)

    assert cells[0] == "first"
    assert cells[1] in (text, "'" + text)
    assert not cells[1].startswith(("=", "+", "-", "@", "\t", "\r"))
    assert cells[2] == "last"


@given(st.integers(-(2**100), 2**100))
def test_costs_are_rounded_half_to_even(cost_picos: int) -> None:
    """Rounding and writing agree with decimal arithmetic for any amount."""
    assert decimal_text(round_half_even(cost_picos, 10**6), 6).removeprefix("-") == dollars(
        cost_picos, 6
    ).removeprefix("-")
    assert decimal_text(cost_picos, 12) == dollars(cost_picos, 12)


@pytest.mark.parametrize(
    ("picos", "text"), [(500_000, "0"), (500_001, "1"), (1_500_000, "2"), (2_500_000, "2")]
)
def test_half_a_micro_dollar_goes_to_the_even_neighbour(picos: int, text: str) -> None:
    """0.5 goes to 0, 1.5 to 2, 2.5 to 2."""
    assert str(round_half_even(picos, 10**6)) == text


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [(0, "0.0"), (1, "0.001"), (128_400, "128.4"), (61_430, "61.43"), (5_000, "5.0")],
)
def test_seconds(milliseconds: int, text: str) -> None:
    """Seconds are exact, with at least one decimal and no more than needed."""
    assert seconds_text(milliseconds) == text


def test_chunks_are_bounded_and_flat() -> None:
    """However long the file, pieces are at most 64 KiB and memory does not grow with it."""
    row = CsvRow("2026-06-03", "acme", "m" * 100, "ab" * 32, *range(8))

    def rows() -> Iterator[CsvRow]:
        for _ in range(50_000):
            yield row

    tracemalloc.start()
    sizes = [len(chunk) for chunk in csv_chunks(rows())]
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert sum(sizes) == len(HEADER) + 1 + 50_000 * (len(",".join(row.cells())) + 1)
    assert set(sizes[:-1]) == {CHUNK_BYTES_MAX}
    assert 0 < sizes[-1] <= CHUNK_BYTES_MAX
    assert peak_bytes < 1_000_000


def test_json_lines(ledger: LedgerFixture) -> None:
    """Each line is one row, with 64-bit numbers and amounts as exact text."""
    ledger.record(
        [Entry(model="gpt-5", lines=(Line("input", 2**63 - 1, 1), Line("output", 1, 0, unpriced=True)))]
    )
    ledger.record([Entry(model="", lines=())])
    query = ReportQuery(JUNE_US, JUNE_US + DAY_US, group_by=("model", "day"))

    rows = ledger.reporter().rows(query)
    found = [
        json.loads(line)
        for line in b"".join(json_chunks(rows, group_by=query.group_by, currency_code="USD")).splitlines()
    ]

    zero = "0.000000000000"
    assert found == [
        {
            "group": {"model": None, "day": "2026-06-01"},
            "calls": "1",
            "quantities": {},
            "cost": zero,
            "currency_code": "USD",
            "unpriced_lines": "0",
            "adjustment_cost": zero,
            "list_cost": zero,
            "adjusted_unpriced_lines": "0",
            "credit_microcredits": "0",
            "overdrawn_microcredits": "0",
        },
        {
            "group": {"model": "gpt-5", "day": "2026-06-01"},
            "calls": "1",
            "quantities": {"input": str(2**63 - 1), "output": "1"},
            "cost": "0.000000000001",
            "currency_code": "USD",
            "unpriced_lines": "1",
            "adjustment_cost": zero,
            "list_cost": "0.000000000001",
            "adjusted_unpriced_lines": "0",
            "credit_microcredits": "0",
            "overdrawn_microcredits": "0",
        },
    ]


def test_errors_of_the_query_come_before_the_first_row(ledger: LedgerFixture) -> None:
    """An export that cannot be answered fails when it is asked for, not in the middle of the file."""
    reporter = ledger.reporter()
    for ask in (reporter.rows, reporter.csv_rows):
        with pytest.raises(RangeInvalidError):
            ask(ReportQuery(JUNE_US, JUNE_US))
