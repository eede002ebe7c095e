# SPDX-License-Identifier: Apache-2.0
"""A page as a message says what the same page says as values."""

import random
from dataclasses import replace

import pyarrow as pa
import pytest
from reports.conftest import LedgerFixture
from reports.ledger_entries import DAY_US, JUNE_US, Entry, Line, varied_entries

from taximeter.v1 import metering_service_pb2 as pb
from taximeter.v1 import money_pb2
from taximeter_server.errors import SumOutOfRangeError
from taximeter_server.report_columns import ReportColumnsPage
from taximeter_server.report_query import MEASURES, ReportMeasures, ReportOrder, ReportQuery
from taximeter_server.rpc.convert_report import to_response

END_US = JUNE_US + 20 * DAY_US
PICOS_PER_UNIT = 10**12
MOST = 2**63 - 1


def picos(money: money_pb2.Money) -> int:
    """Return an amount, of which nothing but the sum may be lost."""
    assert money.currency_code == "EUR"
    assert money.units * money.picos >= 0
    assert abs(money.picos) < PICOS_PER_UNIT
    return money.units * PICOS_PER_UNIT + money.picos


def measures_of(message: pb.ReportMeasures) -> ReportMeasures:
    """Return a message with all measures as values."""
    return ReportMeasures(
        message.calls,
        dict(message.quantities),
        picos(message.cost),
        message.unpriced_lines,
        picos(message.adjustment_cost),
        message.adjusted_unpriced_lines,
        picos(message.list_cost),
        message.credit_microcredits,
        message.overdrawn_microcredits,
    )


@pytest.mark.parametrize("is_compared", [False, True])
def test_a_message_says_what_the_values_say(ledger: LedgerFixture, *, is_compared: bool) -> None:
    """Whatever is grouped by, absent values, rows of all others and the total included, page by page."""
    ledger.record(varied_entries(400, seed=1))
    reporter, chance = ledger.reporter(), random.Random(2)
    dimensions = [
        "tenant",
        "model",
        "usage_class",
        "attributes.team",
        *(() if is_compared else ("day", "hour")),
    ]
    for top in (0, 0, 3):
        query = ReportQuery(
            JUNE_US,
            END_US,
            group_by=tuple(chance.sample(dimensions, 2)),
            compared_us=(JUNE_US - DAY_US, JUNE_US + DAY_US) if is_compared else None,
            order=(ReportOrder("cost", descending=True),),
            top=top,
        )
        values = reporter.report(query, page_size=7)
        query = replace(query, as_of=values.as_of)
        message = to_response(reporter.page(query, page_size=7), query, "EUR")

        for row, expected in zip(message.rows, values.rows, strict=True):
            group = [value.value if value.HasField("value") else None for value in row.group]
            assert tuple(group) == expected.group
            assert tuple(value.dimension for value in row.group) == query.group_by
            assert measures_of(row.measures) == expected.measures
            assert row.HasField("compared") == is_compared
            assert not is_compared or measures_of(row.compared) == expected.compared
            assert row.is_other == expected.is_other
        assert measures_of(message.total) == values.total
        assert message.HasField("compared_total") == is_compared
        assert not is_compared or measures_of(message.compared_total) == values.compared_total
        assert bool(message.next_page_token) == bool(values.next_page_token)
        assert message.as_of == values.as_of


@pytest.mark.parametrize("measure", MEASURES)
def test_only_the_measures_asked_for_are_answered(ledger: LedgerFixture, measure: str) -> None:
    """All others are left at their defaults, in rows and total."""
    ledger.record(varied_entries(50, seed=1))
    query = ReportQuery(JUNE_US, END_US, measures=(measure,))
    fields = {
        "cost": {"cost", "adjustment_cost"},
        "unpriced_lines": {"unpriced_lines", "adjusted_unpriced_lines"},
        "credits": {"credit_microcredits", "overdrawn_microcredits"},
    }.get(measure, {measure})

    message = to_response(ledger.reporter().page(query), query, "EUR")

    for measures in (message.rows[0].measures, message.total):
        assert {field.name for field, _ in measures.ListFields()} <= fields


def test_costs_above_64_bits_are_whole_in_a_message(ledger: LedgerFixture) -> None:
    """An amount has two fields, so that sums beyond 64 bits lose nothing, negative ones neither."""
    ledger.record([Entry(model="a", lines=(Line("output", 1, MOST),)) for _ in range(3)])
    ledger.record([Entry(model="b", lines=(Line("output", 1, -MOST),)) for _ in range(5)])
    query = ReportQuery(JUNE_US, END_US, group_by=("model",))

    message = to_response(ledger.reporter().page(query), query, "EUR")

    assert [picos(row.measures.cost) for row in message.rows] == [3 * MOST, -5 * MOST]
    assert picos(message.total.cost) == -2 * MOST
    assert message.rows[0].measures.quantities == {"output": 3}


@pytest.mark.parametrize(
    ("column", "value", "fits"),
    [
        ("credits", MOST, True),
        ("credits", MOST + 1, False),
        ("overdrawn", -MOST - 2, False),
        ("cost_picos", MOST * PICOS_PER_UNIT, True),
        ("cost_picos", (MOST + 1) * PICOS_PER_UNIT, False),
        ("list_cost_picos", -(MOST + 1) * PICOS_PER_UNIT, False),
    ],
)
def test_a_sum_that_does_not_fit_its_field_is_refused(
    ledger: LedgerFixture, column: str, value: int, *, fits: bool
) -> None:
    """No ledger of a test gets so far: the sum is put into the page."""
    ledger.record([Entry()])
    query = ReportQuery(JUNE_US, END_US)
    page = ledger.reporter().page(query)
    table = page.rows.table
    wide = table.set_column(table.column_names.index(column), column, pa.array([value], pa.decimal128(38, 0)))
    page = replace(page, rows=replace(page.rows, table=wide))
    assert isinstance(page, ReportColumnsPage)

    if fits:
        assert to_response(page, query, "EUR").rows
    else:
        with pytest.raises(SumOutOfRangeError):
            to_response(page, query, "EUR")
