# SPDX-License-Identifier: Apache-2.0
"""Adjustments in reports: in the cost, told apart, and counted as nothing else."""

from dataclasses import replace

import pyarrow.parquet as pq
from reports.conftest import LedgerFixture
from reports.ledger_entries import DAY_US, JUNE_US, Entry, Line

from taximeter_server.ledger import KIND_ADJUSTMENT, SCHEMA
from taximeter_server.report_query import ReportMeasures, ReportQuery

USAGE = Entry(calls=2, lines=(Line("input", 1_000, 90), Line("output", 10, 0, unpriced=True)))
ADJUSTMENT = replace(
    USAGE,
    record_id="adjustment-of-usage",
    adjusted_record_id=USAGE.record_id,
    kind=KIND_ADJUSTMENT,
    calls=0,
    rate_card_id="cd" * 32,
    lines=(Line("input", 0, -30), Line("output", 0, 7, prices_unpriced=True)),
)
QUERY = ReportQuery(JUNE_US, JUNE_US + DAY_US)


def test_the_cost_includes_adjustments_and_nothing_else_does(ledger: LedgerFixture) -> None:
    """An adjustment moves the cost, up or down, and says how many lines it priced; calls and quantities stay."""
    ledger.record([USAGE, ADJUSTMENT])

    page = ledger.reporter().report(QUERY)

    expected = ReportMeasures(2, {"input": 1_000, "output": 10}, 67, 1, -23, 1, 67)
    assert [row.measures for row in page.rows] == [expected]
    assert page.total == expected


def test_adjustments_are_told_apart_by_a_dimension(ledger: LedgerFixture) -> None:
    """entry_kind groups and filters: what was charged when it happened, and what was corrected since."""
    ledger.record([USAGE, ADJUSTMENT])
    reporter = ledger.reporter()

    page = reporter.report(replace(QUERY, group_by=("entry_kind", "usage_class")))

    assert [(row.group, row.measures) for row in page.rows] == [
        (("adjustment", "input"), ReportMeasures(0, {}, -30, 0, -30, 0, -30)),
        (("adjustment", "output"), ReportMeasures(0, {}, 7, 0, 7, 1, 7)),
        (("usage", "input"), ReportMeasures(2, {"input": 1_000}, 90, 0, list_cost_picos=90)),
        (("usage", "output"), ReportMeasures(2, {"output": 10}, 0, 1)),
    ]


def test_adjustments_reach_the_files(ledger: LedgerFixture) -> None:
    """Archived or not, a report says the same; the CSV has the adjustment as a line of the card it prices by."""
    ledger.record([USAGE, ADJUSTMENT])
    reporter = ledger.reporter()
    before = reporter.report(QUERY)
    lines = [row.cells() for row in reporter.csv_rows(QUERY)]
    ledger.archiver().run_once()

    assert reporter.report(QUERY).total == before.total
    assert [row.cells() for row in reporter.csv_rows(QUERY)] == lines
    assert [(cells[3], cells[12], cells[13]) for cells in lines] == [
        ("1000", "0.000000000090", "ab" * 32),
        ("0", "-0.000000000023", "cd" * 32),
    ]


def test_files_of_an_older_server_are_read(ledger: LedgerFixture) -> None:
    """A file without the newer columns counts as usage, alone, beside newer files and merged with them."""
    newer = SCHEMA.names[SCHEMA.get_field_index("unpriced") + 1 :]
    for count in range(1, 10):
        ledger.record([replace(USAGE, record_id=f"usage-{count}")])
        ledger.archiver().run_once()
        if count == 1:
            (file,) = ledger.directory.read_manifest().files
            path = ledger.directory.path / file.path
            table = pq.read_table(path)
            pq.write_table(table.select([name for name in table.column_names if name not in newer]), path)
            manifest = ledger.directory.read_manifest()
            resized = replace(manifest.files[0], size_bytes=path.stat().st_size)
            ledger.directory.replace_manifest(replace(manifest, files=(resized,)))
        expected = ReportMeasures(
            2 * count,
            {"input": 1_000 * count, "output": 10 * count},
            90 * count,
            count,
            list_cost_picos=90 * count,
        )
        assert ledger.reporter().report(QUERY).total == expected

    assert len(ledger.directory.read_manifest().files) < 9, "nothing was merged"
