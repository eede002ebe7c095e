# SPDX-License-Identifier: Apache-2.0
"""Levels that last, such as bytes stored: readings become byte-hours, exactly, one record per UTC hour.

A level holds from its reading to the next. Whenever a reading is past the end of an hour, that hour's byte-hours are
recorded under an id made of series and hour, so that no hour is ever recorded twice, whatever is retried or lost. A
reading of 0 may be the last, so it does not wait for the end of its hour: what the hour came to is recorded at once,
and what may follow in that hour is a part of its own. What is less than one byte-hour is carried on: however long and
ragged the readings, nothing is rounded away.

The new state is kept before the hours are recorded, with what they are made of, and cleared of it after. So whoever
comes next finishes what a kill interrupted.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Protocol, Self

from taximeter_server.errors import InvalidFieldsError, StoreCorruptError, StoreUnavailableError

HOUR_MS = 3_600_000
LEVEL_BYTES_MAX = 2**53
AGE_MS_MAX = 31 * 24 * HOUR_MS
FUTURE_MS_MAX = 5 * 60 * 1_000
_ATTEMPTS = 20
_SERIES = re.compile(r"[a-z0-9._-]{1,64}")


class LevelStore(Protocol):
    """The part of the document store that keeps the state of each series."""

    def level(self, name: str) -> str | None:
        """Return the state of a series."""

    def replace_level(self, name: str, old: str | None, new: str) -> bool:
        """Put new in the place of old; says whether old was there."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One reading. time_ms: milliseconds since 1970 UTC."""

    tenant: str
    series: str
    level_bytes: int
    time_ms: int
    attributes: Mapping[str, str]

    def check(self, now_ms: int) -> None:
        """Raise InvalidFieldsError for what cannot be a reading."""
        if not _SERIES.fullmatch(self.series):
            raise InvalidFieldsError.of("series", "1 to 64 characters of a-z 0-9 . _ -")
        if not 0 <= self.level_bytes <= LEVEL_BYTES_MAX:
            raise InvalidFieldsError.of("level_bytes", f"0 to {LEVEL_BYTES_MAX}")
        if not now_ms - AGE_MS_MAX <= self.time_ms <= now_ms + FUTURE_MS_MAX:
            raise InvalidFieldsError.of("occur_time", "at most 31 days ago and 5 minutes ahead")


@dataclass(frozen=True, slots=True)
class Hour:
    """What a level came to in one hour, or in the part of it before or after a reading of 0. Half-open."""

    start_ms: int
    end_ms: int
    byte_hours: int
    attributes: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Level:
    """A series since its last reading. area_byte_ms: of the current hour until then, with what was carried over.

    ended_ms: the last reading of 0 with which something was recorded; of its hour only what came after is still due.
    """

    time_ms: int
    level_bytes: int
    area_byte_ms: int
    attributes: dict[str, str]
    ended_ms: int = 0

    def until(self, time_ms: int, level_bytes: int) -> tuple[list[Hour], int, int]:
        """Return what a reading makes due: hours to record, the area that is left, and the new ended_ms."""
        hours = []
        at_ms, area, ended_ms = self.time_ms, self.area_byte_ms, self.ended_ms
        while (end_ms := at_ms // HOUR_MS * HOUR_MS + HOUR_MS) <= time_ms:
            byte_hours, area = divmod(area + self.level_bytes * (end_ms - at_ms), HOUR_MS)
            hours.append(Hour(max(end_ms - HOUR_MS, ended_ms), end_ms, byte_hours, self.attributes))
            at_ms = end_ms
        area += self.level_bytes * (time_ms - at_ms)
        # An hour of which nothing is due is not divided: whoever has lost this reading records it under the same id.
        if level_bytes == 0 and area >= HOUR_MS:
            byte_hours, area = divmod(area, HOUR_MS)
            start_ms = max(end_ms - HOUR_MS, ended_ms)
            hours.append(Hour(start_ms, time_ms, byte_hours, self.attributes))
            ended_ms = time_ms
        return hours, area, ended_ms


@dataclass(frozen=True, slots=True)
class State:
    """What is kept of a series. unrecorded: the level whose hours until the last reading are being recorded."""

    level: Level
    unrecorded: Level | None = None

    def to_json(self) -> str:
        """Return the form in which it is kept."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, document: str) -> Self:
        """Read what to_json wrote. Raises StoreCorruptError."""
        try:
            values = json.loads(document)
            unrecorded = values["unrecorded"]
            return cls(Level(**values["level"]), Level(**unrecorded) if unrecorded else None)
        except (ValueError, TypeError, KeyError) as error:
            raise StoreCorruptError(f"level document: {error}") from error


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a reading led to. Sums over the hours that it ended."""

    duplicate: bool = False
    byte_hours: int = 0
    cost_picos: int = 0
    unrecorded_ms: int = 0


Record = Callable[[str, str, int, Hour], int | None]
"""(tenant, record id, time in milliseconds, hour) -> cost in pico-units; None when the id had been used before."""


class Levels:
    """All series. record: durable once it returns, and the same id never twice."""

    def __init__(self, store: LevelStore, record: Record, clock: Callable[[], int]) -> None:
        """clock: milliseconds since 1970 UTC."""
        self._store = store
        self._record = record
        self._clock = clock

    def read(self, reading: Reading) -> Outcome:
        """Take a reading. Raises InvalidFieldsError, StoreUnavailableError, and what record raises."""
        reading.check(self._clock())
        name = f"{reading.tenant} {reading.series}"
        for _ in range(_ATTEMPTS):
            document = self._store.level(name)
            if document is None:
                if self._store.replace_level(name, None, State(_first(reading)).to_json()):
                    return Outcome()
                continue
            state = State.from_json(document)
            outcome = self._finish(reading.tenant, reading.series, state)
            is_repeated = reading.time_ms == state.level.time_ms
            if is_repeated and reading.level_bytes != state.level.level_bytes:
                raise InvalidFieldsError.of("level_bytes", "is another than the reading of that time had")
            if reading.time_ms < state.level.time_ms:
                raise InvalidFieldsError.of("occur_time", "is not after the reading before")
            if is_repeated:
                if state.unrecorded is not None:
                    self._store.replace_level(name, document, State(state.level).to_json())
                return replace(outcome, duplicate=True)
            following = State(_following(reading, state.level), unrecorded=state.level)
            if self._store.replace_level(name, document, following.to_json()):
                outcome = self._finish(reading.tenant, reading.series, following)
                self._store.replace_level(name, following.to_json(), State(following.level).to_json())
                return outcome
        raise StoreUnavailableError("other readings of the series came in between: try again")

    def _finish(self, tenant: str, series: str, state: State) -> Outcome:
        """Record the hours between the last two readings; those that are recorded already stay as they are."""
        if state.unrecorded is None:
            return Outcome()
        hours, _, _ = state.unrecorded.until(state.level.time_ms, state.level.level_bytes)
        byte_hours = cost_picos = unrecorded_ms = 0
        for hour in hours:
            if hour.start_ms < self._clock() - AGE_MS_MAX:
                unrecorded_ms += hour.end_ms - hour.start_ms
            elif hour.byte_hours:
                record_id = _record_id(tenant, series, hour)
                cost = self._record(tenant, record_id, hour.end_ms - 1, hour)
                if cost is not None:
                    byte_hours, cost_picos = byte_hours + hour.byte_hours, cost_picos + cost
        return Outcome(byte_hours=byte_hours, cost_picos=cost_picos, unrecorded_ms=unrecorded_ms)


def _first(reading: Reading) -> Level:
    return Level(reading.time_ms, reading.level_bytes, 0, dict(reading.attributes))


def _following(reading: Reading, before: Level) -> Level:
    _, area, ended_ms = before.until(reading.time_ms, reading.level_bytes)
    return Level(reading.time_ms, reading.level_bytes, area, dict(reading.attributes), ended_ms)


def _record_id(tenant: str, series: str, hour: Hour) -> str:
    """Return an id that belongs to this hour of this series alone."""
    name = f"level {tenant} {series} {hour.start_ms}"
    return hashlib.sha256(name.encode()).hexdigest()[:40]
