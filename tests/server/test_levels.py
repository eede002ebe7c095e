# SPDX-License-Identifier: Apache-2.0
"""Levels over time: exact across gaps, hours and midnight, whatever is retried, killed or lost."""

import itertools
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taximeter_server.errors import InvalidFieldsError
from taximeter_server.levels import AGE_MS_MAX, HOUR_MS, LEVEL_BYTES_MAX, Hour, Levels, Reading

NOW_MS = 20_000 * 24 * HOUR_MS
DAY_MS = 24 * HOUR_MS


class KilledError(BaseException):
    """The process is gone."""


class World:
    """A store that compares and swaps, and records that are kept once by their id; a kill may come before any step."""

    def __init__(self) -> None:
        self.documents: dict[str, str] = {}
        self.records: dict[str, tuple[str, int, int]] = {}
        self.parts: list[tuple[int, int]] = []
        self.attributes: Counter[str] = Counter()
        self.steps_left = 10**9

    def _step(self) -> None:
        self.steps_left -= 1
        if self.steps_left < 0:
            raise KilledError

    def level(self, name: str) -> str | None:
        """Return a document."""
        return self.documents.get(name)

    def replace_level(self, name: str, old: str | None, new: str) -> bool:
        """Compare and swap."""
        self._step()
        if self.documents.get(name) != old:
            return False
        self.documents[name] = new
        return True

    def record(self, tenant: str, record_id: str, time_ms: int, hour: Hour) -> int | None:
        """Record once."""
        self._step()
        if record_id in self.records:
            return None
        self.records[record_id] = (tenant, time_ms, hour.byte_hours)
        self.parts.append((hour.start_ms, hour.end_ms))
        self.attributes[hour.attributes.get("kind", "")] += hour.byte_hours
        return hour.byte_hours * 7

    def levels(self) -> Levels:
        """Return a new service, as after a restart."""
        return Levels(self, self.record, lambda: NOW_MS)

    @property
    def byte_hours(self) -> int:
        """All that was recorded."""
        return sum(byte_hours for _, _, byte_hours in self.records.values())


def reading(time_ms: int, level_bytes: int, **attributes: str) -> Reading:
    """Return a reading of the only series."""
    return Reading("acme", "sessions", level_bytes, time_ms, attributes)


def area_byte_ms(readings: list[tuple[int, int]], until_ms: int) -> int:
    """Return the exact area under the steps up to an instant."""
    ends = [time_ms for time_ms, _ in readings[1:]] + [until_ms]
    return sum(
        level * max(0, min(end, until_ms) - time_ms)
        for (time_ms, level), end in zip(readings, ends, strict=True)
    )


readings_of_a_series = st.lists(
    st.tuples(
        st.integers(1, 30 * HOUR_MS) | st.sampled_from([1, HOUR_MS, DAY_MS, HOUR_MS - 1, HOUR_MS + 1]),
        st.integers(0, LEVEL_BYTES_MAX) | st.integers(0, 3) | st.just(0),
    ),
    min_size=1,
    max_size=12,
)


def at_times(steps: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Turn distances into times."""
    time_ms, result = NOW_MS - AGE_MS_MAX, []
    for distance_ms, level_bytes in steps:
        time_ms += distance_ms
        result.append((time_ms, level_bytes))
    return result


@given(readings_of_a_series)
def test_the_area_is_exact_to_the_byte_hour(steps: list[tuple[int, int]]) -> None:
    """What was recorded is the area up to the last full hour or end, less than one byte-hour rounded down in all."""
    world, readings = World(), at_times(steps)
    for time_ms, level_bytes in readings:
        world.levels().read(reading(time_ms, level_bytes))

    ends_ms = [time_ms for time_ms, level_bytes in readings if not level_bytes]
    until_ms = max(readings[-1][0] // HOUR_MS * HOUR_MS, *ends_ms, 0)
    assert world.byte_hours == int(Fraction(area_byte_ms(readings, until_ms), HOUR_MS))


@given(readings_of_a_series, st.integers(0, 60))
def test_a_kill_anywhere_changes_nothing(steps: list[tuple[int, int]], step: int) -> None:
    """A reading that was cut off and is sent again leads to the very records of one that was not."""
    calm, killed, readings = World(), World(), at_times(steps)
    killed.steps_left = step
    for time_ms, level_bytes in readings:
        calm.levels().read(reading(time_ms, level_bytes))
        try:
            killed.levels().read(reading(time_ms, level_bytes))
        except KilledError:
            killed.steps_left = 10**9
            killed.levels().read(reading(time_ms, level_bytes))

    assert killed.records == calm.records


@given(readings_of_a_series, st.integers(0, 11))
def test_a_store_that_lost_a_reading_charges_no_hour_twice(steps: list[tuple[int, int]], lost: int) -> None:
    """After the state went back, hours that were recorded stay as they are, and none is recorded again."""
    world, readings = World(), at_times(steps)
    for number, (time_ms, level_bytes) in enumerate(readings):
        before = dict(world.documents)
        world.levels().read(reading(time_ms, level_bytes))
        if number == lost:
            world.documents = before

    parts = sorted(world.parts)
    assert all(end_ms <= start_ms for (_, end_ms), (start_ms, _) in itertools.pairwise(parts))


def test_a_level_that_ends_is_recorded_though_nobody_reads_on() -> None:
    """What an hour came to is not lost when its last reading is 0; what follows in the hour is recorded beside it."""
    world = World()
    start_ms = NOW_MS - DAY_MS
    for minutes, level_bytes in ((0, 60_000), (20, 0), (30, 90), (50, 0), (55, 0)):
        world.levels().read(reading(start_ms + minutes * 60_000, level_bytes))

    assert world.parts == [
        (start_ms, start_ms + 20 * 60_000),
        (start_ms + 20 * 60_000, start_ms + 50 * 60_000),
    ]
    assert [byte_hours for _, _, byte_hours in world.records.values()] == [20_000, 30]


def test_each_hour_is_in_its_own_day() -> None:
    """A level over midnight is divided at midnight, each record in the hour that it is of."""
    world = World()
    midnight_ms = NOW_MS - 5 * DAY_MS
    world.levels().read(reading(midnight_ms - HOUR_MS // 2, 1_000))
    outcome = world.levels().read(reading(midnight_ms + HOUR_MS, 0))

    assert sorted((time_ms, byte_hours) for _, time_ms, byte_hours in world.records.values()) == [
        (midnight_ms - 1, 500),
        (midnight_ms + HOUR_MS - 1, 1_000),
    ]
    assert (outcome.byte_hours, outcome.cost_picos, outcome.unrecorded_ms) == (1_500, 10_500, 0)


def test_readings_are_in_order_and_idempotent() -> None:
    """The same reading again is a duplicate; an earlier one, or another level at that time, is refused."""
    world = World()
    start_ms = NOW_MS - DAY_MS
    world.levels().read(reading(start_ms, 10))
    world.levels().read(reading(start_ms + 2 * HOUR_MS, 20))
    assert world.levels().read(reading(start_ms + 2 * HOUR_MS, 20)).duplicate
    for time_ms, level in ((start_ms + HOUR_MS, 20), (start_ms + 2 * HOUR_MS, 21)):
        with pytest.raises(InvalidFieldsError):
            world.levels().read(reading(time_ms, level))
    assert world.byte_hours == 20


def test_a_long_gap_says_what_it_lost() -> None:
    """Hours too long ago to be recorded are told, the others are recorded."""
    world = World()
    now_ms = NOW_MS - 10 * DAY_MS
    levels = Levels(world, world.record, lambda: now_ms)
    levels.read(reading(now_ms - AGE_MS_MAX, 5))
    outcome = world.levels().read(reading(NOW_MS, 0))

    assert outcome.unrecorded_ms == 10 * DAY_MS
    assert outcome.byte_hours == 5 * 31 * 24


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        (Reading("acme", "", 1, NOW_MS, {}), "series"),
        (Reading("acme", "A b", 1, NOW_MS, {}), "series"),
        (Reading("acme", "s" * 65, 1, NOW_MS, {}), "series"),
        (Reading("acme", "s", -1, NOW_MS, {}), "level_bytes"),
        (Reading("acme", "s", LEVEL_BYTES_MAX + 1, NOW_MS, {}), "level_bytes"),
        (Reading("acme", "s", 1, NOW_MS + HOUR_MS, {}), "occur_time"),
        (Reading("acme", "s", 1, NOW_MS - AGE_MS_MAX - 1, {}), "occur_time"),
    ],
)
def test_what_is_no_reading_names_the_field(wrong: Reading, field: str) -> None:
    """A bad reading changes nothing."""
    world = World()
    with pytest.raises(InvalidFieldsError) as caught:
        world.levels().read(wrong)
    assert (caught.value.violations[0].field, world.documents) == (field, {})


def test_attributes_are_those_of_the_level() -> None:
    """An hour belongs to the attributes of the level that it ended with."""
    world = World()
    start_ms = NOW_MS - DAY_MS
    for hours, kind in ((0, "hot"), (2, "cold"), (5, "hot")):
        world.levels().read(reading(start_ms + hours * HOUR_MS, 1, kind=kind))

    assert world.attributes == {"hot": 2, "cold": 3}
