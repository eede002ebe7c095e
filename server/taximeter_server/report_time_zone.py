# SPDX-License-Identifier: Apache-2.0
"""Time zones as integers: from which instant on which offset holds.

The database's own time-zone functions are not used: they come with time-zone data of their own, and a report must
agree with everything else on this machine that knows the zone.
"""

import functools
import zoneinfo
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

_SECOND_US = 1_000_000
# Shorter than any two changes of a zone that were ever apart.
_STEP_S = 3 * 3600
# What fits int64 nanoseconds, so all that can be in the ledger, with room for the offsets.
_TIME_S_MAX = 9_200_000_000


@dataclass(frozen=True, slots=True)
class OffsetChange:
    """From start_time_us on, local time is UTC plus offset_s."""

    start_time_us: int
    offset_s: int


@functools.cache
def _known_time_zones() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones())


def is_time_zone(name: str) -> bool:
    """Return whether name is an IANA time zone that this machine knows."""
    return name in _known_time_zones()


@functools.lru_cache(maxsize=256)
def offset_changes(name: str, start_time_us: int, end_time_us: int) -> tuple[OffsetChange, ...]:
    """Return the offsets that hold in the half-open interval, the first from its start on."""
    zone = zoneinfo.ZoneInfo(name)
    first_s = _clamp(start_time_us // _SECOND_US)
    last_s = _clamp(-(-end_time_us // _SECOND_US))
    changes = [OffsetChange(start_time_us, _offset_s(zone, first_s))]
    low_s = first_s
    while low_s < last_s:
        high_s = min(low_s + _STEP_S, last_s)
        offset_s = _offset_s(zone, high_s)
        if offset_s != changes[-1].offset_s:
            changes.append(OffsetChange(_find_change_s(zone, low_s, high_s) * _SECOND_US, offset_s))
        low_s = high_s
    return tuple(changes)


def _find_change_s(zone: zoneinfo.ZoneInfo, low_s: int, high_s: int) -> int:
    """Return the first second with the offset of high_s; low_s has another."""
    wanted_s = _offset_s(zone, high_s)
    while high_s - low_s > 1:
        middle_s = (low_s + high_s) // 2
        if _offset_s(zone, middle_s) == wanted_s:
            high_s = middle_s
        else:
            low_s = middle_s
    return high_s


def _offset_s(zone: zoneinfo.ZoneInfo, time_s: int) -> int:
    instant = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=time_s)
    offset = instant.astimezone(zone).utcoffset()
    if offset is None:
        raise ValueError(f"{zone.key} has no offset at {time_s}")
    return offset // timedelta(seconds=1)


def _clamp(time_s: int) -> int:
    return max(0, min(time_s, _TIME_S_MAX))
