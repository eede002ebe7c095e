# SPDX-License-Identifier: Apache-2.0
"""A record is counted once, wherever the clocks of server and store have gone meanwhile."""

import pytest
from native.conftest import NOON_MS, ClockedEngine
from native.records import new_id, outcome, uuid_v7

DAY_MS = 86_400_000
GENERATION_DAYS = 40
GENERATION_END_MS = (NOON_MS // DAY_MS // GENERATION_DAYS + 1) * GENERATION_DAYS * DAY_MS
STEPS_DAYS = [-1, 1, 6, 20, 33, 35, 39, 40]


def entries(clocked: ClockedEngine) -> int:
    """Return how many entries the ledger has."""
    return int(clocked.client.xlen("{tx:6}:ledger"))


@pytest.mark.parametrize("step_days", STEPS_DAYS)
def test_retry_after_a_step_of_the_clock_is_a_duplicate(step_days: int, clocked: ClockedEngine) -> None:
    """A retry up to 40 days later by the clock, or a day earlier, is found, whatever kind its id is of."""
    dateless, dated = new_id(), uuid_v7(NOON_MS)
    assert [outcome(clocked.engine, record_id) for record_id in (dateless, dated)] == ["new", "new"]
    clocked.set_clock(NOON_MS + step_days * DAY_MS)
    again = [outcome(clocked.engine, record_id) for record_id in (dateless, dated)]
    conflict = outcome(clocked.engine, dateless, tokens=11)
    clocked.set_clock(NOON_MS)
    back = [outcome(clocked.engine, record_id) for record_id in (dateless, dated)]

    # Ids that carry a date are refused once it is too old, and never counted twice.
    assert again == ["duplicate", "duplicate" if step_days < 40 else "RECORD_ID_TIME"]
    assert (conflict, back, entries(clocked)) == ("RECORD_ID_CONFLICT", ["duplicate", "duplicate"], 2)


@pytest.mark.parametrize("step_days", STEPS_DAYS)
def test_record_made_while_the_clock_was_wrong_is_found_when_it_is_right(
    step_days: int, clocked: ClockedEngine
) -> None:
    """A record taken while the clock was off is found by its retry once the clock has been set right."""
    record_id = new_id()
    clocked.set_clock(NOON_MS + step_days * DAY_MS)
    first = outcome(clocked.engine, record_id)
    clocked.set_clock(NOON_MS)

    assert (first, outcome(clocked.engine, record_id), entries(clocked)) == ("new", "duplicate", 1)


@pytest.mark.parametrize("offset_ms", [-250, 0, 250, -DAY_MS, DAY_MS])
def test_retry_over_the_end_of_a_generation_is_a_duplicate(offset_ms: int, clocked: ClockedEngine) -> None:
    """Ids without a date live in generations of 40 days, and are found from the next and from the one before."""
    record_id = new_id()
    clocked.set_clock(GENERATION_END_MS + offset_ms)
    first = outcome(clocked.engine, record_id)
    generation = GENERATION_END_MS // DAY_MS // GENERATION_DAYS - (offset_ms < 0)
    (mark,) = clocked.keys("*:dedup:*")
    assert mark.split(":")[3] == f"g{generation}"
    for other_ms in (-DAY_MS, -250, 0, 250, DAY_MS, 39 * DAY_MS):
        clocked.set_clock(GENERATION_END_MS + other_ms)
        assert outcome(clocked.engine, record_id) == "duplicate"

    assert (first, entries(clocked), clocked.keys("*:dedup:*")) == ("new", 1, {mark})


def test_retry_after_midnight_keeps_its_first_day(clocked: ClockedEngine) -> None:
    """A record without an occur_time keeps the day of its first receipt when it is sent again the next day."""
    midnight_ms = (NOON_MS // DAY_MS + 1) * DAY_MS
    clocked.set_clock(midnight_ms - 250)
    record_id = new_id()
    first = outcome(clocked.engine, record_id)
    ((_, fields),) = clocked.client.xrange("{tx:6}:ledger")
    clocked.set_clock(midnight_ms + 250)

    assert (first, outcome(clocked.engine, record_id)) == ("new", "duplicate")
    ((_, again),) = clocked.client.xrange("{tx:6}:ledger")
    assert again == fields


def watermark_days(clocked: ClockedEngine) -> set[int]:
    """Return the days to which the marks of the partitions have been dropped, once all say so."""
    names = [f"{{tx:{number}}}:dedup_watermark" for number in range(64)]
    while None in (values := clocked.client.mget(names)):
        pass
    return {int(value.split()[0]) for value in values}


def test_marks_outlive_steps_of_the_clock(clocked: ClockedEngine) -> None:
    """However often the clock jumps ahead, a day of marks goes at most for each day that the store has lived."""
    dateless, dated = new_id(), uuid_v7(NOON_MS)
    assert [outcome(clocked.engine, record_id) for record_id in (dateless, dated)] == ["new", "new"]
    first_day = NOON_MS // DAY_MS - 40
    assert watermark_days(clocked) == {first_day}
    for _ in range(5):
        clocked.set_clock(NOON_MS + 40 * DAY_MS)
        clocked.restart_engine()
        assert outcome(clocked.engine, dateless) == "duplicate"
        clocked.set_clock(NOON_MS)
        clocked.restart_engine()
        assert outcome(clocked.engine, dated) == "duplicate"

    assert watermark_days(clocked) <= {first_day, first_day + 1}
    assert entries(clocked) == 2


@pytest.mark.parametrize("kind", ["dated", "dateless"])
def test_old_marks_are_dropped_when_their_last_day_is_40_days_back(kind: str, clocked: ClockedEngine) -> None:
    """Marks stay for 40 days after the last day of their bucket, and are dropped then, and only then."""
    outcome(clocked.engine, uuid_v7(NOON_MS) if kind == "dated" else new_id())
    watermark_days(clocked)
    marks = clocked.keys("*:dedup:*")
    last_day = NOON_MS // DAY_MS if kind == "dated" else GENERATION_END_MS // DAY_MS - 1
    for number in range(64):
        # As if the sweep had gone on day by day.
        clocked.client.set(f"{{tx:{number}}}:dedup_watermark", f"{last_day - 1} {NOON_MS // 1000}")
    found = []
    for day in (last_day + 40, last_day + 41, last_day + 42):
        clocked.set_clock(day * DAY_MS)
        clocked.restart_engine()
        while watermark_days(clocked) != {day - 40}:
            pass
        found.append(clocked.keys("*:dedup:*") == marks)

    assert found == [True, False, False]
    assert clocked.keys("*:dedup:*") == set()
