# SPDX-License-Identifier: Apache-2.0
"""Limits as options of commands, and as fields of what they show."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from taximeter.cli.output import Column
from taximeter.cli.parameters import COUNT, INT64_MAX, AmountType
from taximeter.money import decimal_string, parse_picos
from taximeter.results import LimitKind
from taximeter.settings import Limits

_KINDS = {
    kind.value.lower(): kind
    for kind in (LimitKind.REQUESTS_PER_MINUTE, LimitKind.TOKENS_PER_DAY, LimitKind.COST_PER_DAY)
}
_FIELDS = ("requests_per_minute", "tokens_per_day", "cost_per_day_picos")

LIMIT_COLUMNS = (
    Column("requests_per_minute", "requests/min", numeric=True),
    Column("tokens_per_day", "tokens/day", numeric=True),
    Column("cost_per_day", "cost/day", numeric=True),
)
"""Columns of what limit_fields() returns."""

CommandT = TypeVar("CommandT", bound=Callable[..., Any])


def limit_options(command: CommandT) -> CommandT:
    """Adds an option per limit, and --shadow; the command takes what taken_limits() takes out again."""
    options = (
        click.option("--requests-per-minute", type=COUNT, help="Requests in any 60 seconds."),
        click.option("--tokens-per-day", type=COUNT, help="Input, output and reasoning tokens per UTC day."),
        click.option(
            "--cost-per-day",
            "cost_per_day_picos",
            type=AmountType(),
            help="Cost per UTC day in the currency of the rate card, such as 12.50.",
        ),
        click.option(
            "--shadow",
            "shadow",
            multiple=True,
            type=click.Choice([*_KINDS, "all"]),
            help="A limit that is only watched: shown and counted, but it denies nothing. May be repeated.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def taken_limits(options: dict[str, Any]) -> Limits:
    """Takes the limits out of a command's options."""
    names = options.pop("shadow")
    shadow = _KINDS.values() if "all" in names else [kind for name, kind in _KINDS.items() if name in names]
    return Limits(**{field: options.pop(field) for field in _FIELDS}, shadow=tuple(shadow))


def limits_of_fields(fields: Mapping[Any, Any]) -> Limits:
    """Returns limits written as texts, as in a file; shadow is a list, or names with blanks between.

    Raises ValueError.
    """
    cost = fields.get("cost_per_day")
    found = fields.get("shadow", "")
    names = found.split() if isinstance(found, str) else list(found) if isinstance(found, list) else [found]
    unknown = [str(name) for name in names if name not in _KINDS]
    if unknown:
        message = f"has a limit in shadow that is none of {', '.join(_KINDS)}: {unknown[0]}"
        raise ValueError(message)
    return Limits(
        requests_per_minute=count_of_field(fields, "requests_per_minute"),
        tokens_per_day=count_of_field(fields, "tokens_per_day"),
        cost_per_day_picos=None if cost is None else parse_picos(str(cost)),
        shadow=tuple(kind for name, kind in _KINDS.items() if name in names),
    )


def count_of_field(fields: Mapping[Any, Any], name: str) -> int | None:
    """Returns a count written as text, None where there is none. Raises ValueError."""
    text = fields.get(name)
    if text is None:
        return None
    if not (isinstance(text, str) and text.isascii() and text.isdecimal()):
        message = f"has a {name} that is no whole number"
        raise ValueError(message)
    return min(int(text), INT64_MAX)


def limit_fields(limits: Limits) -> Mapping[str, Any]:
    """Returns limits as fields of a document; what is not set is None."""
    cost_picos = limits.cost_per_day_picos
    return {
        "requests_per_minute": limits.requests_per_minute,
        "tokens_per_day": limits.tokens_per_day,
        "cost_per_day": None if cost_picos is None else decimal_string(cost_picos, 2),
        "shadow": [kind.value.lower() for kind in limits.shadow],
    }
