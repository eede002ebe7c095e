# SPDX-License-Identifier: Apache-2.0
"""When the archiver lets the server record first."""

import threading

from reports.conftest import LedgerFixture
from reports.ledger_entries import Entry

from taximeter_server.archiver_pace import BURST_PER_SECOND, WAITING_COUNT_MAX, ArchiverPace


class Load:
    """What a server has recorded, and when it was asked."""

    def __init__(self) -> None:
        self.count = 0
        self.seconds = 0.0
        self.pace = ArchiverPace(lambda: self.count, lambda: self.seconds)

    def record(self, *, per_second: int, seconds: float) -> None:
        """Let time pass."""
        self.count += int(per_second * seconds)
        self.seconds += seconds


def test_a_burst_goes_first() -> None:
    """The archiver waits while more is recorded than it could keep up with, and goes on at its end."""
    load = Load()
    load.record(per_second=BURST_PER_SECOND, seconds=2)
    assert not load.pace.gives_way()

    load.record(per_second=3 * BURST_PER_SECOND, seconds=2)
    assert load.pace.gives_way()
    # Asked again at once, it has no new rate.
    assert load.pace.gives_way()

    load.record(per_second=0, seconds=2)
    assert not load.pace.gives_way()


def test_only_now_counts() -> None:
    """What came before the archiver began to look is no burst, nor hides one."""
    load = Load()
    load.record(per_second=3 * BURST_PER_SECOND, seconds=2)
    load.pace.look()
    load.record(per_second=0, seconds=1)
    assert not load.pace.gives_way()

    load.record(per_second=0, seconds=60)
    load.pace.look()
    load.record(per_second=3 * BURST_PER_SECOND, seconds=1)
    assert load.pace.gives_way()


def test_what_waits_is_bounded() -> None:
    """In a burst that does not end the archiver works once enough has gathered, until all of it is archived."""
    load = Load()
    waiting_rounds = 0
    load.record(per_second=2 * BURST_PER_SECOND, seconds=2)
    while load.pace.gives_way():
        waiting_rounds += 1
        load.record(per_second=2 * BURST_PER_SECOND, seconds=2)

    assert waiting_rounds == WAITING_COUNT_MAX // (4 * BURST_PER_SECOND)
    load.record(per_second=2 * BURST_PER_SECOND, seconds=2)
    assert not load.pace.gives_way()
    load.pace.note_archived()
    assert load.pace.gives_way()


def test_a_run_ends_when_a_burst_begins(ledger: LedgerFixture) -> None:
    """Rounds go on only while the server is not busy; what is left is archived by the next run."""
    ledger.record([Entry() for _ in range(5)])
    load = Load()
    archiver = ledger.archiver(round_entries_max=2, pace=load.pace)
    load.record(per_second=3 * BURST_PER_SECOND, seconds=1)

    result = archiver.run_once()
    assert (result.entry_count, result.has_more) == (0, True)

    load.record(per_second=0, seconds=1)
    result = archiver.run_once()
    assert (result.entry_count, result.has_more) == (5, False)


def test_a_loop_waits_for_the_end_of_a_burst(ledger: LedgerFixture) -> None:
    """While the server is busy nothing is archived, however often the loop looks, and everything afterwards."""
    ledger.record([Entry() for _ in range(3)])
    load = Load()
    lengths: list[int] = []
    stop = threading.Event()

    def recorded_count() -> int:
        lengths.append(ledger.engine.ledger_length())
        if lengths[-1] == 0:
            stop.set()
        load.record(per_second=3 * BURST_PER_SECOND if len(lengths) < 5 else 0, seconds=1)
        return load.count

    archiver = ledger.archiver(pace=ArchiverPace(recorded_count, lambda: load.seconds))
    failures: list[Exception] = []
    # Of its own, because its priority is lowered for good.
    loop = threading.Thread(target=archiver.run, args=(stop, failures.append), kwargs={"interval_ms": 1})
    loop.start()
    loop.join(60)

    assert not failures
    assert lengths == [3] * 6 + [0]
