# SPDX-License-Identifier: Apache-2.0
"""What files of the ledger have, and which of them are written again."""

import pyarrow.parquet as pq
from reports.conftest import LedgerFixture
from reports.ledger_entries import JUNE_US, Entry, Line, ListPrice, void_of

from taximeter_server.ledger_manifest import Manifest, RollupFile
from taximeter_server.ledger_rollup import FORMAT, ROLLUP_COUNT_MAX, plan_rollup
from taximeter_server.report_query import ReportQuery

USAGE = Entry(record_id="usage", provider="openai", attributes={"team": "x"})
QUERY = ReportQuery(JUNE_US, JUNE_US + 1, group_by=("tenant", "entry_kind"))
LISTS = {"list_priced_as", "list_billed_quantity", "list_amount_picos", "list_per", "list_cost_picos"}


def columns_of(ledger: LedgerFixture) -> set[str]:
    """Archive what was recorded, and return the columns of the one file."""
    ledger.archiver().run_once()
    (file,) = ledger.directory.read_manifest().files
    return set(pq.read_schema(ledger.directory.absolute(file.path)).names)


def test_a_file_lacks_what_its_rows_would_say_by_saying_nothing(ledger: LedgerFixture) -> None:
    """Columns without a value in any row, and list prices that were charged, are left out: reports say the same."""
    ledger.record([USAGE])
    before = ledger.reporter().report(QUERY)

    assert columns_of(ledger) == {
        *("stream_ms", "stream_seq", "partition", "tenant", "record_id", "occur_time_us", "receive_time_ms"),
        *("calls", "entry_calls", "model", "provider", "attributes", "quality"),
        *("rate_card_id", "rate_card_version", "rate_card_row", "usage_class", "priced_as"),
        *("quantity", "billed_quantity", "amount_picos", "per", "cost_picos"),
    }
    assert ledger.reporter().report(QUERY).rows == before.rows
    assert before.rows[0].measures.list_cost_picos == before.rows[0].measures.cost_picos > 0


def test_a_column_is_there_for_all_rows_where_one_says_something(ledger: LedgerFixture) -> None:
    """One row with prices of its own, without a price, or of a correction brings its columns for all."""
    own = ListPrice(priced_as="input", billed_quantity=9, amount_picos=7, per=2, cost_picos=32)
    others = [
        Entry(record_id="own", tenant_prices_id="ef" * 32, lines=(Line("input", 5, 75, list_price=own),)),
        Entry(record_id="none", lines=(Line("custom", 5, unpriced=True),)),
        void_of(USAGE),
    ]
    ledger.record([USAGE, *others])
    before = ledger.reporter().report(QUERY)

    named = {"tenant_prices_version", "tenant_prices_id", "unpriced", "kind", "adjusted_record_id"}
    assert named | LISTS <= columns_of(ledger)
    assert ledger.reporter().report(QUERY).rows == before.rows


def test_list_prices_are_all_there_or_none(ledger: LedgerFixture) -> None:
    """Where one list price differs the other columns of list prices are there, too, though they say the same."""
    own = ListPrice(priced_as="input", billed_quantity=5, amount_picos=15_000_000_000_000, per=1_000_000)
    ledger.record([Entry(tenant_prices_id="ef" * 32, lines=(Line("input", 5, 75, list_price=own),))])

    assert columns_of(ledger) >= LISTS


def test_files_that_lack_columns_are_merged_with_such_that_have_them(ledger: LedgerFixture) -> None:
    """Rows that lay in files without a column say after a merge what they said before."""
    archiver = ledger.archiver()
    for number in range(7):
        ledger.record([Entry(record_id=f"usage-{number}", lines=(Line("input", 1, 3), Line("output", 2, 5)))])
        archiver.run_once()
    own = ListPrice(priced_as="input", billed_quantity=9, amount_picos=7, per=2, cost_picos=32)
    ledger.record(
        [Entry(tenant_prices_id="ef" * 32, lines=(Line("input", 5, 75, list_price=own),)), void_of(USAGE)]
    )
    before = ledger.reporter().report(QUERY)

    assert archiver.run_once().merged_file_count == 8

    assert ledger.reporter().report(QUERY).rows == before.rows
    assert before.total.list_cost_picos == 7 * 8 + 32 - 15_000_000


def rollup(number: int, row_count: int) -> RollupFile:
    """Return a rollup of one date, which got something just now."""
    path = f"rollups/date=2026-06-01/{number:012d}.parquet"
    return RollupFile(path, row_count, 1, 1, stream_ms_max=5, generation=number, format=FORMAT)


def test_a_large_rollup_is_not_written_again_for_small_ones() -> None:
    """While a date may get more, only rollups of about one size are summed again."""
    large = rollup(0, 600_000)
    small = tuple(rollup(number, 3_000) for number in range(1, ROLLUP_COUNT_MAX + 1))

    assert plan_rollup(Manifest(rollups=(large, *small[1:])), now_ms=6) is None
    plan = plan_rollup(Manifest(rollups=(large, *small)), now_ms=6)

    assert plan is not None
    assert plan.rollups == small
