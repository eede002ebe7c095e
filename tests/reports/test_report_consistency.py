# SPDX-License-Identifier: Apache-2.0
"""A report holds every record answered before it, each once, whatever the archiver does meanwhile."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reports.conftest import TOKEN_SECRET, LedgerFixture
from reports.ledger_entries import DAY_US, JUNE_US, Entry, varied_entries

from taximeter_server.errors import InvalidFieldsError
from taximeter_server.ledger import StreamId, partition_of
from taximeter_server.report_as_of import AsOf
from taximeter_server.report_query import ReportQuery, ReportRow

ALL_TIME = ReportQuery(JUNE_US, JUNE_US + 20 * DAY_US)


def test_a_record_is_in_the_report_that_follows_it(ledger: LedgerFixture) -> None:
    """Each single record counts in the very next report, while an archiver runs all the time."""
    reporter = ledger.reporter()
    query = replace(ALL_TIME, tenant="acme")
    with running(lambda: ledger.archiver().run_once()):
        for count in range(1, 101):
            ledger.record([Entry(tenant="acme/research")])
            assert reporter.report(query).total.calls == count


def test_reports_during_archiving_count_everything_once(ledger: LedgerFixture) -> None:
    """Between writers and an archiver a report has at least what was there before it and at most what was after."""
    reporter = ledger.reporter()
    archiver = ledger.archiver(round_entries_max=50)
    seeds = iter(range(10**6))

    def write() -> None:
        batch = list(varied_entries(20, seed=next(seeds)))
        ledger.record(batch)

    with running(write), running(archiver.run_once):
        for _ in range(20):
            before = len(ledger.entries)
            page = reporter.report(replace(ALL_TIME, group_by=("tenant",)))
            after = len(ledger.entries) + 20
            at_least = sum(entry.calls for entry in ledger.entries[:before])
            at_most = at_least + 7 * (after - before)
            assert at_least <= page.total.calls <= at_most
    assert reporter.report(ALL_TIME).total.calls == sum(entry.calls for entry in ledger.entries)


def test_pages_see_what_the_first_page_saw(ledger: LedgerFixture) -> None:
    """Records and archiving between two pages change neither the rows nor the total."""
    ledger.record(varied_entries(200, seed=1))
    reporter = ledger.reporter()
    query = replace(ALL_TIME, group_by=("tenant", "model", "usage_class"))
    whole = reporter.report(query, page_size=10_000)
    rows: list[ReportRow] = []
    token = ""
    for seed in range(10**6):
        page = reporter.report(query, page_size=7, page_token=token)
        if seed == 0:
            as_of_time_ms = page.as_of_time_ms
        rows += page.rows
        assert page.as_of_time_ms == as_of_time_ms
        assert page.total == whole.total
        token = page.next_page_token
        if not token:
            break
        assert len(page.rows) == 7
        ledger.record(varied_entries(5, seed=1_000 + seed))
        if seed % 3 == 0:
            ledger.archiver().run_once()

    assert tuple(rows) == whole.rows
    assert reporter.report(query).total != whole.total


def test_entries_of_a_clock_that_was_set_back_are_reported(ledger: LedgerFixture) -> None:
    """Ids ahead of the store's clock, as after it was set back, are in the report; archived or not."""
    ahead_ms = ledger.engine.store_time_ms() + 3_600_000
    entries = [Entry(tenant=tenant) for tenant in ("acme", "globex", "acme")]
    for seq, entry in enumerate(entries):
        ledger.engine.append(entry.tenant, ledger.encode(entry), stream_id=f"{ahead_ms + seq}-5")
    reporter = ledger.reporter()

    for _ in ("tail", "files"):
        assert reporter.report(ALL_TIME).total.calls == 3
        ledger.archiver().run_once()
    ledger.record([Entry()])
    assert reporter.report(ALL_TIME).total.calls == 4


def test_the_same_as_of_is_the_same_for_ever(ledger: LedgerFixture) -> None:
    """What an earlier report saw is seen again whatever was recorded, archived, merged and rolled up since."""
    ledger.record(varied_entries(150, seed=1))
    ledger.archiver().run_once()
    ledger.record(varied_entries(150, seed=2))
    reporter = ledger.reporter()
    query = replace(ALL_TIME, group_by=("tenant", "model", "usage_class", "attributes.team"))
    first = reporter.report(query, page_size=10_000)
    fixed = replace(query, as_of=first.as_of)
    for seed in range(10, 20):
        ledger.record(varied_entries(30, seed=seed))
        ledger.archiver().run_once()
        again = ledger.reporter().report(fixed, page_size=10_000)
        assert (again.rows, again.total, again.as_of) == (first.rows, first.total, first.as_of)
        assert reporter.report(replace(fixed, group_by=("day",))).total.cost_picos == first.total.cost_picos
    assert reporter.report(query).total != first.total


def test_as_of_holds_when_the_clock_is_set_back(ledger: LedgerFixture) -> None:
    """Entries with earlier ids in other partitions, recorded after the report, are not in its as_of."""
    now_ms = ledger.engine.store_time_ms()
    entries = {name: Entry(tenant=name) for name in ("acme", "globex", "initech")}
    ledger.engine.append("acme", ledger.encode(entries["acme"]), stream_id=f"{now_ms - 5_000}-1")
    reporter = ledger.reporter()
    first = reporter.report(ALL_TIME)
    ledger.engine.append("globex", ledger.encode(entries["globex"]), stream_id=f"{now_ms - 9_000}-0")
    ledger.engine.append("acme", ledger.encode(entries["acme"]), stream_id=f"{now_ms - 5_000}-2")
    fixed = replace(ALL_TIME, as_of=first.as_of)

    for _ in ("tail", "files"):
        assert reporter.report(fixed).total.calls == 1
        assert reporter.report(replace(fixed, group_by=("attributes.team",))).total.calls == 1
        assert reporter.report(ALL_TIME).total.calls == 3
        ledger.archiver().run_once()


def test_as_of_an_instant(ledger: LedgerFixture) -> None:
    """An instant that is over holds what had been recorded by then; one to come is refused."""
    now_ms = ledger.engine.store_time_ms()
    for number, tenant in enumerate(("acme", "globex", "acme")):
        entry = ledger.encode(Entry(tenant=tenant))
        ledger.engine.append(tenant, entry, stream_id=f"{now_ms - 9_000 + number}-0")
    reporter = ledger.reporter()
    for _ in ("tail", "files"):
        counts = [
            reporter.report(replace(ALL_TIME, as_of_time_ms=now_ms - 9_001 + number)).total.calls
            for number in range(5)
        ]
        assert counts == [0, 1, 2, 3, 3]
        ledger.archiver().run_once()
    with pytest.raises(InvalidFieldsError) as caught:
        reporter.report(replace(ALL_TIME, as_of_time_ms=now_ms + 3_600_000))
    assert caught.value.violations[0].field == "query.as_of_time"


def test_an_as_of_is_not_for_other_tenants_or_ledgers(
    ledger: LedgerFixture, make_ledger: Callable[[], LedgerFixture]
) -> None:
    """An as_of that did not look where the query looks is refused, and so is one that no report made."""
    ledger.record([Entry(tenant="acme"), Entry(tenant="globex")])
    ledger.archiver().run_once()
    reporter = ledger.reporter()
    of_acme = reporter.report(replace(ALL_TIME, tenant="acme")).as_of
    assert reporter.report(replace(ALL_TIME, tenant="acme/research", as_of=of_acme)).total.calls == 0
    for query in (
        replace(ALL_TIME, as_of=of_acme),
        replace(ALL_TIME, as_of="x"),
        replace(ALL_TIME, as_of="Ä"),
    ):
        with pytest.raises(InvalidFieldsError) as caught:
            reporter.report(query)
        assert caught.value.violations[0].field == "query.as_of"
    newer = reporter.report(ALL_TIME).as_of
    with pytest.raises(InvalidFieldsError, match="restored or replaced"):
        make_ledger().reporter().report(replace(ALL_TIME, as_of=newer))


@given(
    st.integers(0, 2**60),
    st.integers(-1, 2**60),
    st.dictionaries(
        st.integers(0, 63), st.tuples(st.integers(0, 2**60), st.integers(0, 2**64 - 1)), max_size=64
    ),
)
def test_as_of_is_read_as_written(
    time_ms: int, generation: int, positions: dict[int, tuple[int, int]]
) -> None:
    """Any positions survive their short form; a changed text is no as_of."""
    as_of = AsOf(time_ms, generation, {number: StreamId(*one) for number, one in positions.items()})
    text = as_of.encode(TOKEN_SECRET)

    assert AsOf.decode(text, TOKEN_SECRET) == as_of
    with pytest.raises(ValueError, match="not signed"):
        AsOf.decode(text, b"another secret of 16+")


def test_a_tenants_report_reads_only_its_partition(
    ledger: LedgerFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a tenant in the query no other partition's stream is read."""
    read: set[int] = set()
    real_read = ledger.engine.read_tail

    def watching_read(spans: Sequence[tuple[int, str, str]], **wanted: Any) -> tuple[bytes, list[str], bool]:
        read.update(partition for partition, _, _ in spans)
        return real_read(spans, **wanted)

    monkeypatch.setattr(ledger.engine, "read_tail", watching_read)
    reporter = ledger.reporter()
    reporter.report(replace(ALL_TIME, tenant="acme/research"))
    assert read == {partition_of("acme")}
    reporter.report(replace(ALL_TIME, readable_tenants=("globex/a", "initech")))
    assert read == {partition_of(name) for name in ("acme", "globex", "initech")}
    reporter.report(ALL_TIME)
    assert read == set(range(64))


def test_a_long_tail_is_read_in_parts(ledger: LedgerFixture) -> None:
    """A stream longer than one answer of the engine is read to its end."""
    ledger.record([Entry() for _ in range(10_001)])

    assert ledger.reporter().report(ALL_TIME).total.calls == 10_001
    assert ledger.archiver().run_once().entry_count == 10_001
    assert ledger.reporter().report(ALL_TIME).total.calls == 10_001


def test_reports_at_the_same_time_do_not_mix(ledger: LedgerFixture) -> None:
    """Reports of different tenants in parallel threads each have their own numbers."""
    for tenant, calls in (("acme", 3), ("globex", 5), ("initech", 7)):
        ledger.record([Entry(tenant=tenant, calls=calls)])
    reporter = ledger.reporter()
    wrong: list[object] = []

    def ask(tenant: str, calls: int) -> None:
        for _ in range(20):
            total = reporter.report(replace(ALL_TIME, tenant=tenant)).total
            if total.calls != calls:
                wrong.append((tenant, total))

    threads = [
        threading.Thread(target=ask, args=arguments)
        for arguments in (("acme", 3), ("globex", 5), ("initech", 7), ("absent", 0))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


class running:  # noqa: N801 (reads as the verb it is in a with statement)
    """Repeats an action in a thread for as long as the block lasts; its failure fails the test."""

    def __init__(self, action: Callable[[], object]) -> None:
        self._action = action
        self._stop = threading.Event()
        self._errors: list[BaseException] = []
        self._thread = threading.Thread(target=self._repeat)

    def _repeat(self) -> None:
        try:
            while not self._stop.wait(0.01):
                self._action()
        except BaseException as error:  # noqa: BLE001 (told to the test below)
            self._errors.append(error)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        assert self._errors == []
