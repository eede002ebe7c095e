# SPDX-License-Identifier: Apache-2.0
"""Queries that cannot be answered, page sizes and page tokens."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reports.conftest import LedgerFixture
from reports.ledger_entries import DAY_US, JUNE_US, Entry

from taximeter_server.errors import InvalidFieldsError, PageTokenError, RangeInvalidError
from taximeter_server.page_token import PageToken
from taximeter_server.report_as_of import AsOf
from taximeter_server.report_query import ReportFilter, ReportOrder, ReportQuery

QUERY = ReportQuery(JUNE_US, JUNE_US + DAY_US)
SECRET = b"0123456789abcdef"


@pytest.mark.parametrize(
    ("start_us", "end_us"),
    [(JUNE_US, JUNE_US), (JUNE_US + 1, JUNE_US), (JUNE_US, JUNE_US + 400 * DAY_US + 1), (0, JUNE_US)],
)
def test_an_interval_that_is_empty_reversed_or_too_long_is_refused(start_us: int, end_us: int) -> None:
    """An interval is longer than nothing and at most 400 days."""
    with pytest.raises(RangeInvalidError) as caught:
        ReportQuery(start_us, end_us).check()
    assert caught.value.violations[0].field == "query.end_time"


def test_the_longest_interval_is_answered(ledger: LedgerFixture) -> None:
    """400 days to the microsecond are a valid interval, anywhere in the calendar."""
    reporter = ledger.reporter()
    for start_us in (JUNE_US, -62_135_596_800_000_000, 253_402_300_800_000_000 - 400 * DAY_US):
        query = ReportQuery(start_us, start_us + 400 * DAY_US, group_by=("hour",), time_zone="Pacific/Apia")
        assert reporter.report(query).rows == ()


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"tenant": "Acme"}, "query.tenant"),
        ({"tenant": "acme/"}, "query.tenant"),
        ({"tenant": "a/b/c/d/e"}, "query.tenant"),
        ({"tenant": "acme/../globex"}, "query.tenant"),
        ({"tenant": "' OR 1=1"}, "query.tenant"),
        ({"tenant": "acme\n"}, "query.tenant"),
        ({"tenant": "a" * 65}, "query.tenant"),
        ({"time_zone": ""}, "query.time_zone"),
        ({"time_zone": "Europe"}, "query.time_zone"),
        ({"time_zone": "../../etc/passwd"}, "query.time_zone"),
        ({"time_zone": "Mars/Olympus"}, "query.time_zone"),
        ({"time_zone": "right/UTC"}, "query.time_zone"),
        ({"group_by": ("models",)}, "query.group_by[0]"),
        ({"group_by": ("model", "attributes.")}, "query.group_by[1]"),
        ({"group_by": ("attributes.a b",)}, "query.group_by[0]"),
        ({"group_by": ("attributes.x'] FROM tail --",)}, "query.group_by[0]"),
        ({"group_by": ("attributes." + "k" * 65,)}, "query.group_by[0]"),
        ({"group_by": ("attributes.key\n",)}, "query.group_by[0]"),
        ({"group_by": ("model", "tenant", "model")}, "query.group_by[2]"),
        ({"group_by": tuple(f"attributes.k{index}" for index in range(9))}, "query.group_by"),
        ({"filters": (ReportFilter("day", ("2026-06-01",)),)}, "query.filters[0].dimension"),
        ({"filters": (ReportFilter("1=1 OR model", ("x",)),)}, "query.filters[0].dimension"),
        ({"filters": (ReportFilter("model", ("x",)), ReportFilter("tier", ()))}, "query.filters[1].values"),
        ({"filters": (ReportFilter("model", ("x",) * 1001),)}, "query.filters[0].values"),
        ({"filters": (ReportFilter("model", ("x",)),) * 17}, "query.filters"),
        ({"filters": (ReportFilter("model", (), "not_in"),)}, "query.filters[0].values"),
        ({"filters": (ReportFilter("model", ("x",), "null"),)}, "query.filters[0].values"),
        ({"filters": (ReportFilter("week", ("2026-06-01",)),)}, "query.filters[0].dimension"),
        ({"group_by": ("tenant_level_5",)}, "query.group_by[0]"),
        ({"order": (ReportOrder("model"),)}, "query.order[0].by"),
        ({"order": (ReportOrder("cost"), ReportOrder("quantities."))}, "query.order[1].by"),
        ({"order": (ReportOrder("1; DROP TABLE tail"),)}, "query.order[0].by"),
        ({"order": (ReportOrder("cost"),) * 9}, "query.order"),
        ({"top": -1}, "query.top"),
        ({"top": 10_001}, "query.top"),
        ({"compared_us": (JUNE_US, JUNE_US)}, "query.compare_to.end_time"),
        ({"compared_us": (JUNE_US, JUNE_US + 3_653 * DAY_US)}, "query.compare_to.end_time"),
        ({"compared_us": (JUNE_US, JUNE_US + 1), "group_by": ("model", "day")}, "query.group_by[1]"),
        ({"as_of": "x", "as_of_time_ms": 5}, "query.as_of_time"),
    ],
)
def test_a_query_names_the_field_that_is_wrong(changes: dict[str, object], field: str) -> None:
    """Whatever cannot be answered is refused with the path of its field, before anything is read."""
    with pytest.raises(InvalidFieldsError) as caught:
        replace(QUERY, **changes).check()  # type: ignore[arg-type]
    assert caught.value.violations[0].field == field


def test_a_query_names_all_fields_that_are_wrong() -> None:
    """Who mends a query need not send it once per mistake."""
    query = replace(
        QUERY,
        end_time_us=JUNE_US,
        tenant="Acme",
        group_by=("models", "model", "model"),
        filters=(ReportFilter("day", ()), ReportFilter("model", ("x",), "null")),
        order=(ReportOrder("nothing"),),
        time_zone="Mars/Olympus",
        top=-1,
    )
    with pytest.raises(InvalidFieldsError) as caught:
        query.check()
    assert [violation.field for violation in caught.value.violations] == [
        "query.tenant",
        "query.end_time",
        "query.group_by[0]",
        "query.group_by[2]",
        "query.filters[0].dimension",
        "query.filters[0].values",
        "query.filters[1].values",
        "query.time_zone",
        "query.order[0].by",
        "query.top",
    ]


def test_the_largest_query_is_answered(ledger: LedgerFixture) -> None:
    """Eight dimensions, sixteen filters and a thousand values each are within bounds."""
    ledger.record([Entry(attributes={"k0": "v999"})])
    values = ("", *(f"v{index}" for index in range(999)))
    filters = tuple(ReportFilter(f"attributes.x{index}", values) for index in range(16))
    group_by = tuple(f"attributes.k{index}" for index in range(8))

    page = ledger.reporter().report(replace(QUERY, group_by=group_by, filters=filters))

    assert [row.group for row in page.rows] == [("v999", *[None] * 7)]


def test_page_sizes(ledger: LedgerFixture) -> None:
    """0 means 1,000, more than 10,000 is lowered, less than 0 is refused."""
    ledger.record([Entry(attributes={"n": f"{number:05}"}) for number in range(10_001)])
    reporter = ledger.reporter()
    query = replace(QUERY, group_by=("attributes.n",))

    assert len(reporter.report(query).rows) == 1_000
    page = reporter.report(query, page_size=10**9)
    assert len(page.rows) == 10_000
    last = reporter.report(query, page_size=10_000, page_token=page.next_page_token)
    assert [row.group for row in last.rows] == [("10000",)]
    assert last.next_page_token == ""
    assert reporter.report(query, page_size=10_000).total.calls == 10_001
    with pytest.raises(InvalidFieldsError) as caught:
        reporter.report(query, page_size=-1)
    assert caught.value.violations[0].field == "page_size"


def test_a_full_last_page_has_no_token(ledger: LedgerFixture) -> None:
    """When the rows end with the page there is no further page."""
    ledger.record([Entry(model=name) for name in ("a", "b")])

    assert ledger.reporter().report(replace(QUERY, group_by=("model",)), page_size=2).next_page_token == ""


@pytest.mark.parametrize(
    "changes",
    [
        {"tenant": "acme"},
        {"end_time_us": QUERY.end_time_us + 1},
        {"group_by": ("tenant",)},
        {"filters": (ReportFilter("tier", ("",)),)},
        {"time_zone": "Europe/Berlin"},
        {"readable_tenants": ("acme",)},
        {"order": (ReportOrder("cost"),)},
        {"top": 5},
        {"compared_us": (JUNE_US, JUNE_US + 1)},
        {"measures": ("cost",)},
        {"as_of_time_ms": 5},
    ],
)
def test_a_page_token_is_bound_to_its_query(ledger: LedgerFixture, changes: dict[str, object]) -> None:
    """A token does not open another query, nor the same one for somebody who may read less."""
    ledger.record([Entry(model=name) for name in ("a", "b")])
    query = replace(QUERY, group_by=("model",))
    reporter = ledger.reporter()
    token = reporter.report(query, page_size=1).next_page_token
    assert reporter.report(query, page_size=5, page_token=token).rows[0].group == ("b",)

    with pytest.raises(PageTokenError):
        reporter.report(replace(query, **changes), page_token=token)  # type: ignore[arg-type]


@given(st.integers(0, 2**60), st.integers(0, 2**63), st.integers(0, 10**6), st.integers(1, 255))
def test_a_changed_page_token_is_refused(as_of_time_ms: int, offset: int, position: int, change: int) -> None:
    """A token is read back as made, and not at all after any byte of it was changed."""
    token = PageToken(AsOf.at(as_of_time_ms), offset)
    text = token.encode(SECRET, b"query")
    assert PageToken.decode(text, SECRET, b"query") == token

    changed = bytearray(text.encode())
    changed[position % len(changed)] ^= change
    with pytest.raises(PageTokenError):
        PageToken.decode(changed.decode("latin-1"), SECRET, b"query")
    with pytest.raises(PageTokenError):
        PageToken.decode(text, b"another secret of 16+", b"query")


@given(st.text() | st.text("ABCabc012-_=", max_size=60))
def test_a_made_up_page_token_is_refused(text: str) -> None:
    """Text that is no token is refused as one."""
    with pytest.raises(PageTokenError):
        PageToken.decode(text, SECRET, b"query")
