# SPDX-License-Identifier: Apache-2.0
"""Every number of a report, against an oracle that computes it entry by entry."""

import random

import pytest
from reports.conftest import LedgerFixture
from reports.ledger_entries import DAY_US, JUNE_US, Entry, Line, varied_entries
from reports.oracle import Measures, expected_report, sort_key

from taximeter_server.errors import SumOutOfRangeError
from taximeter_server.report_query import ReportFilter, ReportMeasures, ReportQuery

END_US = JUNE_US + 20 * DAY_US
DIMENSIONS = (
    *(
        "tenant_level_1",
        "tenant_level_2",
        "tenant_level_4",
        "rate_card_row",
        "pricing",
        "week",
        "quarter",
        "year",
    ),
    *("tenant", "root_tenant", "model", "provider", "usage_class", "rate_card_id", "tier", "region", "speed"),
    *("hour", "day", "month", "attributes.team", "attributes.a-b.c", "attributes.absent"),
)
TIME_DIMENSIONS = {"hour", "day", "week", "month", "quarter", "year"}
OPERATORS = ("in", "in", "not_in", "prefix", "null", "not_null")


def plain(measures: ReportMeasures) -> Measures:
    """Return measures as the oracle writes them."""
    return measures.calls, dict(measures.quantities), measures.cost_picos, measures.unpriced_lines


def random_query(chance: random.Random) -> tuple[ReportQuery, dict[str, object]]:
    """Return a query, and the same as arguments of the oracle."""
    group_by = tuple(chance.sample(DIMENSIONS, chance.randrange(4)))
    filterable = [name for name in DIMENSIONS if name not in TIME_DIMENSIONS]
    values = {
        "tenant": ("acme", "acme/research", "globex"),
        "root_tenant": ("acme", "acmes"),
        "model": ("", "gpt-5"),
        "tenant_level_2": ("acme/research", ""),
        "pricing": ("priced", "unpriced"),
        "usage_class": ("input", "output", "", "tool_calls"),
        "rate_card_id": ("", "ab" * 32),
    }
    conditions = []
    for name in chance.sample(filterable, chance.choice((0, 0, 1, 2))):
        operator = chance.choice(OPERATORS)
        some = values.get(name, ("x", "y", "", "fast", "eu", "batch", "openai"))
        wanted = () if operator in {"null", "not_null"} else tuple(chance.sample(some, 2))
        if operator == "prefix":
            wanted = tuple(value[: chance.randrange(1, 6)] for value in wanted)
        conditions.append((name, wanted, operator))
    filters = tuple(conditions)
    start_us = JUNE_US + chance.randrange(5 * DAY_US)
    end_us = END_US - chance.randrange(5 * DAY_US)
    tenant = chance.choice(("", "", "acme", "acme/research", "globex"))
    time_zone = chance.choice(("UTC", "Europe/Berlin", "Asia/Kolkata", "America/St_Johns"))
    query = ReportQuery(
        start_us,
        end_us,
        tenant=tenant,
        group_by=group_by,
        filters=tuple(ReportFilter(*condition) for condition in filters),
        time_zone=time_zone,
    )
    arguments = {"start_us": start_us, "end_us": end_us, "tenant": tenant, "group_by": group_by}
    return query, arguments | {"filters": filters, "time_zone": time_zone}


def test_random_queries_equal_the_oracle(ledger: LedgerFixture) -> None:
    """Any query over files and tail together has exactly the groups and sums that its entries have."""
    ledger.record(varied_entries(900, seed=1))
    ledger.archiver().run_once()
    ledger.record(varied_entries(900, seed=2))
    reporter = ledger.reporter()
    chance = random.Random(3)

    for _ in range(60):
        query, arguments = random_query(chance)
        page = reporter.report(query, page_size=10_000)
        expected = expected_report(ledger.entries, **arguments)  # type: ignore[arg-type]
        assert {row.group: plain(row.measures) for row in page.rows} == expected, query
        assert len(page.rows) == len(expected)
        if not TIME_DIMENSIONS.intersection(query.group_by):
            assert [row.group for row in page.rows] == sorted(expected, key=sort_key)
        parts = list(expected.values())
        assert page.total.calls == sum(part[0] for part in parts)
        assert page.total.cost_picos == sum(part[2] for part in parts)
        assert page.total.unpriced_lines == sum(part[3] for part in parts)
        names = {name for part in parts for name in part[1]}
        assert page.total.quantities == {name: sum(part[1].get(name, 0) for part in parts) for name in names}


def test_archiving_changes_no_number(ledger: LedgerFixture) -> None:
    """A report says the same whether its entries are in the streams, in files, or in merged files."""
    queries = [
        ReportQuery(JUNE_US, END_US, group_by=("tenant", "model", "usage_class")),
        ReportQuery(JUNE_US, END_US, group_by=("day", "attributes.team"), time_zone="Europe/Berlin"),
        ReportQuery(JUNE_US, END_US, tenant="acme"),
    ]
    reporter = ledger.reporter()
    archiver = ledger.archiver()
    for seed in range(10):
        ledger.record(varied_entries(60, seed=seed, days=2))
        before = [reporter.report(query).rows for query in queries]
        archiver.run_once()
        assert ledger.engine.ledger_length() == 0
        assert [reporter.report(query).rows for query in queries] == before
    assert ledger.directory.read_manifest().obsolete_files, "ten runs on the same dates merge files"


def test_costs_above_64_bits_are_exact(ledger: LedgerFixture) -> None:
    """Three entries of nearly 2^63 pico-dollars sum up beyond 64 bits without losing one."""
    most = 2**63 - 1
    ledger.record([Entry(lines=(Line("output", 10**10, most),)) for _ in range(3)])
    ledger.archiver().run_once()
    ledger.record([Entry(lines=(Line("output", 10**10, most),))])

    page = ledger.reporter().report(ReportQuery(JUNE_US, END_US, group_by=("model",)))

    assert page.rows[0].measures.cost_picos == 4 * most
    assert page.total.cost_picos == 4 * most


def test_quantities_above_64_bits_are_refused_where_the_answer_has_64(ledger: LedgerFixture) -> None:
    """A report refuses a quantity that its field cannot hold; rows for export carry it."""
    most = 2**63 - 1
    ledger.record([Entry(lines=(Line("storage_byte_hours", most),)) for _ in range(2)])
    reporter = ledger.reporter()
    query = ReportQuery(JUNE_US, END_US)

    with pytest.raises(SumOutOfRangeError):
        reporter.report(query)
    assert next(reporter.rows(query)).measures.quantities == {"storage_byte_hours": 2 * most}


def test_the_total_is_refused_when_only_it_is_too_large(ledger: LedgerFixture) -> None:
    """Groups that fit do not hide a total that does not."""
    most = 2**63 - 1
    ledger.record([Entry(tenant=name, lines=(Line("storage_byte_hours", most),)) for name in ("a", "b")])

    with pytest.raises(SumOutOfRangeError):
        ledger.reporter().report(ReportQuery(JUNE_US, END_US, group_by=("tenant",)))


def test_an_empty_ledger_reports_nothing(ledger: LedgerFixture) -> None:
    """Without usage there are no rows and the total is zero, with and without groups."""
    for group_by in ((), ("model",)):
        page = ledger.reporter().report(ReportQuery(JUNE_US, END_US, group_by=group_by))
        assert page.rows == ()
        assert page.total == ReportMeasures(0, {}, 0, 0)


def test_entries_without_lines_count_as_calls(ledger: LedgerFixture) -> None:
    """A record without any usage is still a call, in the group without a usage class."""
    ledger.record([Entry(lines=(), calls=3), Entry(calls=4)])

    page = ledger.reporter().report(ReportQuery(JUNE_US, END_US, group_by=("usage_class",)))

    assert [(row.group, row.measures.calls) for row in page.rows] == [((None,), 3), (("input",), 4)]


def test_an_entry_counts_once_in_each_group_in_which_it_has_usage(ledger: LedgerFixture) -> None:
    """Calls follow entries, not lines: once by model, once by class, once under a filter of several classes."""
    ledger.record([Entry(calls=5, lines=(Line("input", 1), Line("output", 2), Line("reasoning", 3)))])
    reporter = ledger.reporter()
    classes = ReportFilter("usage_class", ("output", "reasoning"))

    def calls(*group_by: str, filters: tuple[ReportFilter, ...] = ()) -> list[int]:
        rows = reporter.report(ReportQuery(JUNE_US, END_US, group_by=group_by, filters=filters)).rows
        return [row.measures.calls for row in rows]

    assert calls("model") == [5]
    assert calls("usage_class") == [5, 5, 5]
    assert calls("model", filters=(classes,)) == [5]
    assert calls("usage_class", filters=(classes,)) == [5, 5]
    assert calls(filters=(ReportFilter("usage_class", ("output",)),)) == [5]


def test_bounds_are_half_open_to_the_microsecond(ledger: LedgerFixture) -> None:
    """The first microsecond of an interval is in it, its end is not."""
    times_us = (JUNE_US - 1, JUNE_US, JUNE_US + DAY_US - 1, JUNE_US + DAY_US)
    ledger.record([Entry(occur_time_us=time_us, occur_time_rest_nanos=999) for time_us in times_us])
    reporter = ledger.reporter()

    for _ in ("tail", "files"):
        assert reporter.report(ReportQuery(JUNE_US, JUNE_US + DAY_US)).total.calls == 2
        ledger.archiver().run_once()


def test_a_tenant_is_matched_by_whole_segments(ledger: LedgerFixture) -> None:
    """Acme reports acme and what is below it, never acmes, acme-x or other/acme."""
    for tenant in (
        "acme",
        "acme/research",
        "acme/research/alice",
        "acmes",
        "acme-x/y",
        "other/acme",
        "acme.b",
    ):
        ledger.record([Entry(tenant=tenant)])
    reporter = ledger.reporter()

    def tenants(tenant: str, readable: tuple[str, ...] | None = None) -> list[str | None]:
        query = ReportQuery(JUNE_US, END_US, tenant=tenant, group_by=("tenant",), readable_tenants=readable)
        return [row.group[0] for row in reporter.report(query).rows]

    for _ in ("tail", "files"):
        assert tenants("acme") == ["acme", "acme/research", "acme/research/alice"]
        assert tenants("acme/research") == ["acme/research", "acme/research/alice"]
        assert tenants("acme/rese") == []
        assert tenants("", ("acme/research", "other")) == [
            "acme/research",
            "acme/research/alice",
            "other/acme",
        ]
        assert tenants("acme", ("acme/research",)) == ["acme/research", "acme/research/alice"]
        assert tenants("acmes", ("acme",)) == []
        assert tenants("", ()) == []
        ledger.archiver().run_once()
