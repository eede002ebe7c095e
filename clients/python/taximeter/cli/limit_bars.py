# SPDX-License-Identifier: Apache-2.0
"""Limits as bars: what is used, what is held, what is left."""

from collections.abc import Iterable

from rich.table import Table
from rich.text import Text

from taximeter.credits import credits_text
from taximeter.money import decimal_string
from taximeter.results import LimitKind, LimitStatus

_BAR_COLUMNS = 40
_ALMOST_FULL_PERCENT, _FULL_PERCENT = 80, 100


def limit_bars(tenant: str, limits: Iterable[LimitStatus]) -> Table:
    """Returns one row per limit."""
    table = Table(title=tenant, box=None, pad_edge=False)
    for name in ("tenant", "limit", "used, held, left", "%", "used", "held", "of"):
        table.add_column(name, justify="left" if name in {"tenant", "limit", "used, held, left"} else "right")
    for limit in limits:
        percent = _share(limit.used + limit.held, limit.maximum, _FULL_PERCENT)
        table.add_row(
            limit.tenant,
            limit.kind.value.lower() + (" (shadow)" if limit.shadow else ""),
            _bar(limit, percent),
            str(percent),
            *(str(shown_quantity(limit.kind, value)) for value in (limit.used, limit.held, limit.maximum)),
        )
    return table


def shown_quantity(kind: LimitKind, value: int) -> int | str:
    """Returns a quantity of a kind of limit for people: costs and credits as exact decimals."""
    if kind is LimitKind.CREDITS:
        return credits_text(value)
    return decimal_string(value, 2) if kind is LimitKind.COST_PER_DAY else value


def _bar(limit: LimitStatus, percent: int) -> Text:
    used = min(_share(limit.used, limit.maximum, _BAR_COLUMNS), _BAR_COLUMNS)
    taken = min(_share(limit.used + limit.held, limit.maximum, _BAR_COLUMNS), _BAR_COLUMNS)
    colour = "red" if percent >= _FULL_PERCENT else "yellow" if percent >= _ALMOST_FULL_PERCENT else "green"
    bar = Text("█" * used, style=colour)
    bar.append("▒" * (taken - used), style=colour)
    bar.append("·" * (_BAR_COLUMNS - taken), style="dim")
    return bar


def _share(part: int, whole: int, parts: int) -> int:
    """Returns how many of so many parts; a limit of 0 is full."""
    return part * parts // whole if whole else parts
