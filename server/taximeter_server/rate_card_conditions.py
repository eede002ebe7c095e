# SPDX-License-Identifier: Apache-2.0
"""Entries of ``when`` in canonical form: what they ask for and do in words, and circumstances that fit them."""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from taximeter_server.rate_card_values import DAYS, MINUTES_PER_DAY, parse_window

When = Mapping[str, Any]
"""One entry of ``when`` as it stands in a card's canonical form."""

_CHOICES = ("tier", "region", "speed")
_TIMES = ("utc", "days", "from", "until")
_DAY_SECONDS = 86_400
_MINUTE_SECONDS = 60
_ANCHORS_MAX = 20
"""Instants around which a fitting time is looked for; a row with more dates than this is searched in part."""


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What a call can be like. when: conditions that all hold, each choice with one value."""

    when: tuple[tuple[str, Any], ...] = ()

    @property
    def text(self) -> str:
        """The conditions in words, "" for none."""
        return condition_text(dict(self.when))

    @property
    def context_tokens(self) -> int:
        """Tokens of the prompt that the conditions ask for, 0 for any."""
        return int(dict(self.when).get("context_from", 0))

    def choice(self, name: str) -> str:
        """Return the tier, region or speed, "" for none in particular."""
        return str(dict(self.when).get(name, ""))


def condition_text(when: When) -> str:
    """Return the conditions of an entry in words, such as ``tier batch or flex, region us``; "" for none."""
    parts = []
    for name in _CHOICES:
        if name in when:
            values = [when[name]] if isinstance(when[name], str) else when[name]
            parts.append(f"{name} {' or '.join(values)}")
    if "context_from" in when:
        parts.append(f"context from {when['context_from']:,} tokens")
    if "days" in when:
        parts.append(f"on {' '.join(when['days'])}")
    if "utc" in when:
        parts.append(f"utc {' '.join(when['utc'])}")
    parts += [f"{name} {_instant_text(when[name])}" for name in ("from", "until") if name in when]
    return ", ".join(parts)


def effect_text(when: When) -> str:
    """Return what an entry does in words, such as ``input 6, output 22.5`` or ``x 0.5``."""
    parts = [f"{name} {price_text(price)}" for name, price in when.get("prices", {}).items()]
    if "multiply" in when:
        classes = f" ({', '.join(when['classes'])})" if "classes" in when else ""
        parts.append(f"x {when['multiply']}{classes}")
    return ", ".join(parts)


def price_text(price: Mapping[str, Any]) -> str:
    """Return a canonical price in words, such as ``0.111 per 3,600,000, at least 10,000``."""
    minimum = f", at least {price['min']:,}" if "min" in price else ""
    return f"{price['price']} per {price['per']:,}{minimum}"


def _instant_text(instant: str) -> str:
    return instant.removesuffix("T00:00:00Z")


def distinct_circumstances(entries: Iterable[When]) -> list[Circumstances]:
    """Return none in particular, and what each entry asks for; an entry with several values asks for each."""
    found: dict[Circumstances, None] = {Circumstances(): None}
    for when in entries:
        rest = tuple((name, _frozen(when[name])) for name in ("context_from", *_TIMES) if name in when)
        choices = [[(name, value) for value in when[name]] for name in _CHOICES if name in when]
        for chosen in itertools.product(*choices):
            found[Circumstances((*chosen, *rest))] = None
    return list(found)


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


class FittingTimes:
    """Finds, for a row, instants at which the times of some conditions hold and those of other entries do not."""

    def __init__(self, entries: Sequence[When], now_s: int) -> None:
        """entries: of the row. now_s: seconds since 1970 UTC; an instant near it is preferred."""
        times = [_times(when.items()) for when in entries]
        self._times = [time for time in dict.fromkeys(times) if time]
        anchors = [now_s]
        for time in self._times:
            values = dict(time)
            anchors += [_second(values[name]) - before for name, before in _DATES if name in values]
        minutes = {0}
        for time in self._times:
            for window in dict(time).get("utc", ()):
                minutes |= set(parse_window(window) or ())
        self._instants = [now_s]
        if self._times:
            self._instants += sorted(
                set(_around(anchors[:_ANCHORS_MAX], minutes)), key=lambda instant_s: abs(instant_s - now_s)
            )

    def find(self, circumstances: Circumstances) -> int | None:
        """Return seconds since 1970 UTC; None when the times of circumstances never hold."""
        wanted = _times(circumstances.when)
        others = [time for time in self._times if time != wanted]
        best: tuple[int, int] | None = None
        for instant_s in self._instants:
            if not _holds(wanted, instant_s):
                continue
            disturbing = sum(_holds(time, instant_s) for time in others)
            if best is None or disturbing < best[0]:
                best = (disturbing, instant_s)
            if disturbing == 0:
                break
        return None if best is None else best[1]


_DATES = (("from", 0), ("until", 1))


def _times(conditions: Iterable[tuple[str, Any]]) -> tuple[tuple[str, Any], ...]:
    return tuple((name, _frozen(value)) for name, value in conditions if name in _TIMES)


def _around(anchors: Iterable[int], minutes: Iterable[int]) -> Iterator[int]:
    """Yield the anchors, and the given minutes of the days of the week before and after each."""
    for anchor_s in anchors:
        yield anchor_s
        midnight_s = anchor_s - anchor_s % _DAY_SECONDS
        for day in range(-len(DAYS), len(DAYS) + 1):
            for minute in minutes:
                yield midnight_s + day * _DAY_SECONDS + minute * _MINUTE_SECONDS


def _holds(time: Iterable[tuple[str, Any]], instant_s: int) -> bool:
    values = dict(time)
    days, second_of_day = divmod(instant_s, _DAY_SECONDS)
    minute = second_of_day // _MINUTE_SECONDS
    windows = [parse_window(text) or (0, MINUTES_PER_DAY) for text in values.get("utc", ())]
    return (
        ("from" not in values or instant_s >= _second(values["from"]))
        and ("until" not in values or instant_s < _second(values["until"]))
        # 1970-01-01 was a Thursday.
        and ("days" not in values or DAYS[(days + 3) % 7] in values["days"])
        and (not windows or any(start <= minute < end for start, end in windows))
    )


def _second(instant: str) -> int:
    moment = datetime.fromisoformat(instant).astimezone(UTC)
    return int((moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds())
