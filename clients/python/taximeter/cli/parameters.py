# SPDX-License-Identifier: Apache-2.0
"""Types of parameters: amounts, days, instants, time zones, quantities; and the options of periods."""

import functools
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any, ClassVar, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import click

from taximeter.cli.app import App
from taximeter.money import PICOS_MAX, parse_picos
from taximeter.period import PERIOD_NAMES, Period, parse_day, parse_period

INT64_MAX = 2**63 - 1
COUNT = click.IntRange(0, INT64_MAX)
"""A number from 0 that fits a field of the API."""
_YEAR_MIN, _YEAR_MAX = 1970, 9998
_DURATION_MAX = 100_000

CommandT = TypeVar("CommandT", bound=Callable[..., Any])


class AmountType(click.ParamType[int]):
    """An amount in units of the currency, read exactly into pico-units."""

    name = "amount"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Reads the amount."""
        if isinstance(value, int):
            return value
        try:
            picos = parse_picos(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if not 0 <= picos <= PICOS_MAX:
            self.fail(f"{value} is not between 0 and {PICOS_MAX // 10**12}", param, ctx)
        return picos


class DayType(click.ParamType[date]):
    """A day."""

    name = "YYYY-MM-DD"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> date:
        """Reads the day."""
        if isinstance(value, date):
            return value
        try:
            return parse_day(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class InstantType(click.ParamType[datetime]):
    """An instant; without a time zone it is in UTC."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Reads the instant."""
        if isinstance(value, datetime):
            return value
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is no time such as 2026-06-03T14:00:00Z", param, ctx)
        if not _YEAR_MIN <= moment.year <= _YEAR_MAX:
            self.fail(f"{value!r} is not between the years {_YEAR_MIN} and {_YEAR_MAX}", param, ctx)
        return moment.replace(tzinfo=UTC) if moment.utcoffset() is None else moment


class DurationType(click.ParamType[timedelta]):
    """A whole number of minutes, hours or days."""

    name = "duration"
    _units: ClassVar[dict[str, timedelta]] = {
        "m": timedelta(minutes=1),
        "h": timedelta(hours=1),
        "d": timedelta(days=1),
    }

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Reads the duration."""
        if isinstance(value, timedelta):
            return value
        count, unit = value[:-1], self._units.get(value[-1:])
        if unit is None or not (count.isascii() and count.isdecimal() and 0 < int(count) <= _DURATION_MAX):
            self.fail(f"{value!r} is no duration such as 90m, 2h or 3d", param, ctx)
        return int(count) * unit


class TimeZoneType(click.ParamType[ZoneInfo]):
    """An IANA time zone."""

    name = "zone"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> ZoneInfo:
        """Finds the zone."""
        if isinstance(value, ZoneInfo):
            return value
        try:
            return ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            self.fail(f"{value!r} is no time zone such as UTC or Europe/Berlin", param, ctx)


class SecondsType(click.ParamType[int]):
    """Seconds with up to three digits after the point, read exactly into milliseconds."""

    name = "seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Reads the seconds."""
        if isinstance(value, int):
            return value
        try:
            picos = parse_picos(value)
        except ValueError:
            self.fail(f"{value!r} is no number of seconds such as 128.4", param, ctx)
        seconds_ms, rest = divmod(picos, 10**9)
        if rest or not 0 <= seconds_ms <= INT64_MAX:
            self.fail(f"{value} is not a whole number of milliseconds from 0", param, ctx)
        return seconds_ms


class PairType(click.ParamType[tuple[str, str]]):
    """A name and a value, such as input_audio=1200."""

    name = "name=value"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """Splits at the first equals sign."""
        if isinstance(value, tuple):
            return value
        name, separator, text = value.partition("=")
        if not separator or not name:
            self.fail(f"{value!r} is not NAME=VALUE", param, ctx)
        return name, text


def period_options(default: str | None = "current-month") -> Callable[[CommandT], CommandT]:
    """Adds --period, --from, --to and --tz; the command takes the `period` that they mean."""

    def decorate(command: CommandT) -> CommandT:
        @click.option(
            "--period",
            "period_text",
            metavar="PERIOD",
            help=f"{', '.join(PERIOD_NAMES)}, a month (2026-06) or a day (2026-06-03)."
            + (f" Default: {default}." if default else ""),
        )
        @click.option("--from", "first", type=DayType(), help="First day, instead of --period.")
        @click.option("--to", "last", type=DayType(), help="Last day, included in the result.")
        @click.option("--tz", type=TimeZoneType(), default="UTC", help="Zone of the days. Default: UTC.")
        @click.pass_context
        @functools.wraps(command)
        def with_period(ctx: click.Context, /, **values: Any) -> Any:
            chosen = (values.pop("period_text"), values.pop("first"), values.pop("last"), values.pop("tz"))
            return ctx.invoke(command, period=_choose(ctx, chosen, default), **values)

        return with_period  # type: ignore[return-value]

    return decorate


def _choose(
    ctx: click.Context, chosen: tuple[str | None, date | None, date | None, ZoneInfo], default: str | None
) -> Period:
    text, first, last, zone = chosen
    if (first is None) != (last is None):
        raise click.UsageError("--from and --to go together.", ctx)
    if first is not None and last is not None:
        if text is not None:
            raise click.UsageError("--period and --from/--to exclude each other.", ctx)
        if last < first:
            raise click.UsageError("--to is before --from.", ctx)
        return Period(first, last, zone)
    text = text or default
    if text is None:
        raise click.UsageError("Give --from and --to, or --period.", ctx)
    try:
        return parse_period(text, zone, ctx.ensure_object(App).clock())
    except ValueError as error:
        raise click.BadParameter(f"{error}.", ctx, param_hint="--period") from error
