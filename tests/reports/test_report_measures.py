# SPDX-License-Identifier: Apache-2.0
"""Order, top and comparison: what they show, and that rows always add up to the total."""

import random
from collections import Counter
from dataclasses import replace

import pytest
from reports.conftest import LedgerFixture
from reports.ledger_entries import DAY_US, JUNE_US, Entry, Line, ListPrice, varied_entries
from reports.oracle import Measures, expected_report, sort_key
from reports.test_report_exact import plain

from taximeter_server.report_query import ReportMeasures, ReportOrder, ReportPage, ReportQuery

ALL_TIME = ReportQuery(JUNE_US, JUNE_US + 20 * DAY_US)


def added(parts: list[ReportMeasures]) -> Measures:
    """Add measures up in plain integers."""
    quantities: Counter[str] = Counter()
    for part in parts:
        quantities.update(part.quantities)
    return (
        sum(part.calls for part in parts),
        dict(quantities),
        sum(part.cost_picos for part in parts),
        sum(part.unpriced_lines for part in parts),
    )


def assert_parts_are_the_total(page: ReportPage) -> None:
    """Fail unless the rows add up to the total, and the compared ones to theirs."""
    assert added([row.measures for row in page.rows]) == plain(page.total)
    if page.compared_total is not None:
        assert added([row.compared for row in page.rows if row.compared]) == plain(page.compared_total)


@pytest.fixture
def filled(ledger: LedgerFixture) -> LedgerFixture:
    """A ledger with files, rollups and a tail."""
    ledger.record(varied_entries(400, seed=1))
    ledger.archiver().run_once()
    ledger.record(varied_entries(200, seed=2))
    return ledger


@pytest.mark.parametrize(
    ("by", "key"),
    [
        ("cost", lambda measures: measures[2]),
        ("calls", lambda measures: measures[0]),
        ("unpriced_lines", lambda measures: measures[3]),
        ("quantities.input", lambda measures: measures[1].get("input", 0)),
    ],
)
@pytest.mark.parametrize("descending", [False, True])
def test_rows_are_in_the_order_asked_for(
    filled: LedgerFixture, by: str, key: object, *, descending: bool
) -> None:
    """Rows are ordered by any measure; equal ones by their groups."""
    group_by = ("tenant", "model", "tier")
    query = replace(ALL_TIME, group_by=group_by, order=(ReportOrder(by, descending),))
    expected = expected_report(
        filled.entries, start_us=query.start_time_us, end_us=query.end_time_us, group_by=group_by
    )
    sign = -1 if descending else 1

    rows = filled.reporter().report(query).rows

    assert [row.group for row in rows] == sorted(
        expected,
        key=lambda group: (sign * key(expected[group]), sort_key(group)),  # type: ignore[operator]
    )


def test_rows_are_ordered_by_dimensions_in_any_order(filled: LedgerFixture) -> None:
    """A dimension of the groups is a key, too; usage without a value is then last when descending."""
    query = replace(
        ALL_TIME,
        group_by=("model", "tier"),
        order=(ReportOrder("tier", descending=True), ReportOrder("model")),
    )

    rows = filled.reporter().report(query).rows

    groups = [row.group for row in rows]
    assert list(dict.fromkeys(tier for _, tier in groups)) == ["priority", "batch", None]
    assert groups == sorted(
        groups, key=lambda group: (["priority", "batch", None].index(group[1]), group[0] or "")
    )


@pytest.mark.parametrize("top", [1, 3, 19, 1_000])
def test_the_rest_is_one_row(filled: LedgerFixture, top: int) -> None:
    """After the top comes what the others add up to; nothing when there are no others."""
    query = replace(
        ALL_TIME, group_by=("tenant", "usage_class"), order=(ReportOrder("cost", descending=True),)
    )
    reporter = filled.reporter()
    every = reporter.report(query)

    page = reporter.report(replace(query, top=top))

    shown, others = every.rows[:top], every.rows[top:]
    assert page.rows[:top] == shown
    assert page.total == every.total
    assert len(page.rows) == len(shown) + (1 if others else 0)
    if others:
        last = page.rows[-1]
        assert (last.is_other, last.group) == (True, (None, None))
        assert plain(last.measures) == added([row.measures for row in others])
    assert_parts_are_the_total(page)
    assert tuple(reporter.rows(replace(query, top=top))) == page.rows


def test_two_intervals_are_compared_in_one_call(filled: LedgerFixture) -> None:
    """Each row has the sums of both intervals, overlapping ones too; a group of only one of them has zeros."""
    reporter = filled.reporter()
    chance = random.Random(4)
    for group_by in ((), ("tenant",), ("model", "usage_class"), ("attributes.team",)):
        start_us = JUNE_US + chance.randrange(8 * DAY_US)
        compared_us = (JUNE_US - DAY_US, JUNE_US + 10 * DAY_US)
        query = replace(ALL_TIME, start_time_us=start_us, group_by=group_by, compared_us=compared_us)

        page = reporter.report(query, page_size=10_000)

        assert_parts_are_the_total(page)
        nothing: Measures = (0, {}, 0, 0)
        intervals = ((start_us, query.end_time_us), compared_us)
        own, compared = (
            expected_report(filled.entries, start_us=start, end_us=end, group_by=group_by)
            for start, end in intervals
        )
        assert {
            row.group: (plain(row.measures), row.compared and plain(row.compared)) for row in page.rows
        } == {group: (own.get(group, nothing), compared.get(group, nothing)) for group in {*own, *compared}}
        assert_parts_are_the_total(reporter.report(replace(query, top=1)))


def test_list_cost_is_beside_the_cost(ledger: LedgerFixture) -> None:
    """What a tenant with its own prices would have paid by the card is a measure of its own, and an order."""
    listed = ListPrice(priced_as="input", billed_quantity=5, amount_picos=7, per=2, cost_picos=900)
    ledger.record(
        [
            Entry(
                tenant="acme", tenant_prices_id="ef" * 32, lines=(Line("input", 5, 75, list_price=listed),)
            ),
            Entry(tenant="globex", lines=(Line("input", 5, 80),)),
        ]
    )
    query = replace(ALL_TIME, group_by=("tenant",), order=(ReportOrder("list_cost", descending=True),))
    reporter = ledger.reporter()
    for _ in ("tail", "files"):
        rows = reporter.report(query).rows
        assert [(row.group[0], row.measures.cost_picos, row.measures.list_cost_picos) for row in rows] == [
            ("acme", 75, 900),
            ("globex", 80, 80),
        ]
        ledger.archiver().run_once()
