# SPDX-License-Identifier: Apache-2.0
"""Reports as Parquet and as FOCUS: exact, complete, and readable by those who read such files."""

import csv
import io
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal

import pyarrow.parquet as pq
import pytest
from reports.conftest import LedgerFixture
from reports.ledger_entries import DAY_US, JUNE_US, Entry, Line, ListPrice, varied_entries

from taximeter_server.errors import ReportTooLargeError
from taximeter_server.ledger import KIND_ADJUSTMENT
from taximeter_server.report_csv import CHUNK_BYTES_MAX
from taximeter_server.report_focus import COLUMNS, FocusContext, focus_chunks
from taximeter_server.report_parquet import parquet_chunks
from taximeter_server.report_query import ReportMeasures, ReportOrder, ReportQuery, ReportRow

QUERY = ReportQuery(JUNE_US, JUNE_US + 20 * DAY_US)


def focus(ledger: LedgerFixture, query: ReportQuery) -> list[dict[str, str]]:
    """Return the rows of a FOCUS export."""
    context = FocusContext("ledger-1", "USD", query.time_zone)
    text = b"".join(focus_chunks(ledger.reporter().focus_rows(query), context)).decode()
    return list(csv.DictReader(io.StringIO(text, newline=""), strict=True))


def test_parquet_has_the_rows_of_the_report(ledger: LedgerFixture) -> None:
    """Every group is a row, whose sums are exact decimals that any reader of Parquet adds up to the total."""
    ledger.record(varied_entries(300, seed=1))
    query = replace(
        QUERY, group_by=("tenant", "day", "attributes.team"), order=(ReportOrder("cost", descending=True),)
    )
    reporter = ledger.reporter()
    page = reporter.report(query, page_size=10_000)

    content = b"".join(parquet_chunks(reporter.rows(query), group_by=query.group_by, currency_code="USD"))

    table = pq.read_table(io.BytesIO(content))
    assert table.column_names[:5] == ["tenant", "day", "attributes.team", "calls", "quantities"]
    rows = table.to_pylist()
    assert [tuple(row[name] for name in query.group_by) for row in rows] == [row.group for row in page.rows]
    for row, expected in zip(rows, page.rows, strict=True):
        assert row["cost"] == Decimal(expected.measures.cost_picos).scaleb(-12)
        assert dict(row["quantities"]) == expected.measures.quantities
        assert (row["calls"], row["currency_code"]) == (expected.measures.calls, "USD")
    assert sum(row["cost"] for row in rows) == Decimal(page.total.cost_picos).scaleb(-12)


def test_parquet_of_nothing_is_a_file(ledger: LedgerFixture) -> None:
    """Without rows there is still a file with its columns."""
    content = b"".join(parquet_chunks(ledger.reporter().rows(QUERY), group_by=(), currency_code="USD"))

    assert pq.read_table(io.BytesIO(content)).num_rows == 0


def test_parquet_comes_in_pieces() -> None:
    """Pieces are bounded, and the first come before the last row is there."""
    asked = 0

    def rows() -> Iterator[ReportRow]:
        nonlocal asked
        for number in range(60_000):
            asked = number
            yield ReportRow(
                (f"tenant-{number * 7919 % 60_000}",), ReportMeasures(number, {"input": number}, number, 0)
            )

    pieces = parquet_chunks(rows(), group_by=("tenant",), currency_code="USD")
    first = next(pieces)

    assert asked < 30_000
    content = first + b"".join(pieces)
    assert len(first) <= CHUNK_BYTES_MAX
    assert pq.read_table(io.BytesIO(content)).num_rows == 60_000


@pytest.fixture
def priced(ledger: LedgerFixture) -> LedgerFixture:
    """A ledger with a discount, an unpriced line, an adjustment, and text that a spreadsheet would run."""
    listed = ListPrice(priced_as="input", billed_quantity=1_000_000, amount_picos=30 * 10**12, per=1_000_000,
                       cost_picos=30 * 10**12)  # fmt: skip
    ledger.record(
        [
            Entry(
                tenant="acme/research",
                provider="anthropic",
                region="eu",
                tier="batch",
                occur_time_us=JUNE_US + DAY_US // 2,
                tenant_prices_id="ef" * 32,
                attributes={"team": "core"},
                lines=(
                    Line("input", 1_000_000, 15 * 10**12, list_price=listed),
                    Line("cache_write_1h", 500, 0, unpriced=True),
                    Line("sandbox_ms", 128_400, 7),
                ),
            ),
            Entry(tenant="acme", model="=HYPERLINK(1)", lines=(Line("storage_byte_hours", 5 * 10**9, 3),)),
            Entry(kind=KIND_ADJUSTMENT, adjusted_record_id="x", calls=0, lines=(Line("input", 0, -5),)),
        ]
    )
    return ledger


def test_focus_has_one_row_per_price(priced: LedgerFixture) -> None:
    """Cost, list cost, quantities with their units, the period of the charge and what the price was for."""
    rows = focus(priced, replace(QUERY, group_by=("attributes.team",)))

    assert len(rows) == 5
    (first,) = (row for row in rows if row["Tags"] and row["SkuMeter"] == "Input Tokens")
    assert {name: first[name] for name in first if first[name]} == {
        "BilledCost": "15.000000000000",
        "BillingAccountId": "ledger-1",
        "BillingAccountName": "Taximeter",
        "BillingAccountType": "Ledger",
        "BillingCurrency": "USD",
        "BillingPeriodEnd": "2026-07-01T00:00:00Z",
        "BillingPeriodStart": "2026-06-01T00:00:00Z",
        "ChargeCategory": "Usage",
        "ChargeDescription": "input of claude-opus-4-7",
        "ChargeFrequency": "Usage-Based",
        "ChargePeriodEnd": "2026-06-02T00:00:00Z",
        "ChargePeriodStart": "2026-06-01T00:00:00Z",
        "ConsumedQuantity": "1000000",
        "ConsumedUnit": "Tokens",
        "ContractedCost": "15.000000000000",
        "ContractedUnitPrice": "15.000000000000",
        "EffectiveCost": "15.000000000000",
        "InvoiceIssuerName": "Taximeter",
        "ListCost": "30.000000000000",
        "ListUnitPrice": "30.000000000000",
        "PricingCategory": "Standard",
        "PricingCurrency": "USD",
        "PricingQuantity": "1",
        "PricingUnit": "1000000 Tokens",
        "ProviderName": "anthropic",
        "PublisherName": "anthropic",
        "RegionId": "eu",
        "RegionName": "eu",
        "ServiceCategory": "AI and Machine Learning",
        "ServiceName": "anthropic",
        "ServiceSubcategory": "Generative AI",
        "SkuId": "anthropic/claude-opus-4-7",
        "SkuMeter": "Input Tokens",
        "SkuPriceDetails": '{"x_ModelId":"claude-opus-4-7","x_TokenDirection":"Input",'
        '"x_TokenCacheAction":"Uncached","x_Reasoning":false,"x_ServiceTier":"batch"}',
        "SkuPriceId": f"{'ab' * 32}/claude-opus-4-7/input/15000000000000/1000000",
        "SubAccountId": "acme/research",
        "SubAccountName": "acme/research",
        "SubAccountType": "Tenant",
        "Tags": '{"team":"core"}',
        "x_Unpriced": "false",
    }
    assert tuple(first) == COLUMNS


def test_focus_tells_units_corrections_and_what_has_no_price(priced: LedgerFixture) -> None:
    """Seconds and gigabyte-hours are exact decimals, a correction says so, and no price is not a price of zero."""
    rows = {(row["SkuMeter"], row["ChargeClass"]): row for row in focus(priced, QUERY)}

    shown = {
        key: (row["ConsumedQuantity"], row["ConsumedUnit"], row["BilledCost"], row["x_Unpriced"])
        for key, row in rows.items()
    }
    assert shown == {
        ("Input Tokens", ""): ("1000000", "Tokens", "15.000000000000", "false"),
        ("Input Tokens", "Correction"): ("0", "Tokens", "-0.000000000005", "false"),
        ("Cache Write Tokens, 1 Hour", ""): ("500", "Tokens", "0.000000000000", "true"),
        ("Sandbox Ms", ""): ("128.400", "Seconds", "0.000000000007", "false"),
        ("Storage Byte Hours", ""): ("5.000000000", "GB-Hours", "0.000000000003", "false"),
    }
    unpriced = rows["Cache Write Tokens, 1 Hour", ""]
    assert (unpriced["SkuPriceId"], unpriced["ContractedUnitPrice"], unpriced["ListUnitPrice"]) == (
        "",
        "",
        "",
    )
    assert rows["Storage Byte Hours", ""]["SkuId"] == "'=HYPERLINK(1)"


def test_focus_adds_up_to_the_report(ledger: LedgerFixture) -> None:
    """The billed and list costs of all rows are those of the report, in any zone, from files as from the tail."""
    ledger.record(varied_entries(400, seed=2))
    reporter = ledger.reporter()
    for time_zone in ("UTC", "Asia/Kolkata"):
        query = replace(QUERY, time_zone=time_zone)
        total = reporter.report(query).total
        before = focus(ledger, query)
        assert sum(Decimal(row["BilledCost"]) for row in before) == Decimal(total.cost_picos).scaleb(-12)
        assert sum(Decimal(row["ListCost"]) for row in before) == Decimal(total.list_cost_picos).scaleb(-12)
        details = [json.loads(row["SkuPriceDetails"]) for row in before if row["SkuPriceDetails"]]
        assert all(name.startswith("x_") for detail in details for name in detail)
        ledger.archiver().run_once()
        assert focus(ledger, query) == before


def test_more_groups_than_memory_holds(ledger: LedgerFixture) -> None:
    """A page of more groups than fit is refused by name; a file of them is written."""
    count = 15_000
    ledger.record(
        Entry(attributes={"run": f"run-{number:0120}"}, record_id=f"{number:020}") for number in range(count)
    )
    query = ReportQuery(JUNE_US, JUNE_US + DAY_US, group_by=("attributes.run",))
    with pytest.raises(ReportTooLargeError):
        ledger.reporter(memory_limit_bytes=8 * 2**20).report(query)

    reporter = ledger.reporter(memory_limit_bytes=14 * 2**20)
    assert sum(1 for _ in reporter.rows(query)) == count
    # Several files share the memory, and it suffices for each of them in its turn.
    with ThreadPoolExecutor(4) as threads:
        counts = threads.map(lambda _: sum(1 for _ in reporter.rows(query)), range(4))
        assert list(counts) == [count] * 4


@pytest.mark.parametrize("by", ["cost", "quantities.input", "calls"])
def test_an_ordered_file_has_the_rows_of_the_report(ledger: LedgerFixture, by: str) -> None:
    """Order and top are those of the pages, however many classes a group has; the rest is one row."""
    ledger.record(varied_entries(300, seed=6))
    query = replace(
        QUERY, group_by=("model", "day"), order=(ReportOrder(by, descending=True), ReportOrder("day"))
    )
    reporter = ledger.reporter()
    for top in (0, 1, 7, 10_000):
        asked = replace(query, top=top)
        assert tuple(reporter.rows(asked)) == reporter.report(asked, page_size=10_000).rows
