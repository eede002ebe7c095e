# SPDX-License-Identifier: Apache-2.0
"""What a report must say, computed entry by entry in plain Python: no database, no SQL, nothing of the server's."""

import datetime as dt
import zoneinfo
from collections import defaultdict
from collections.abc import Iterable, Sequence
from decimal import ROUND_HALF_EVEN, Context, Decimal

from reports.ledger_entries import Entry, Line

from taximeter_server.ledger import KIND_ADJUSTMENT

Group = tuple[str | None, ...]
# In the order calls, quantities by class, cost in pico-units, unpriced lines.
Measures = tuple[int, dict[str, int], int, int]

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def expected_report(
    entries: Iterable[Entry],
    *,
    start_us: int,
    end_us: int,
    tenant: str = "",
    group_by: Sequence[str] = (),
    filters: Sequence[tuple[str, Sequence[str], str]] = (),
    time_zone: str = "UTC",
) -> dict[Group, Measures]:
    """Return the measures by group."""
    zone = zoneinfo.ZoneInfo(time_zone)
    entry_groups: dict[Group, list[int]] = defaultdict(list)
    line_groups: dict[Group, list[Line]] = defaultdict(list)
    for entry in entries:
        path = entry.tenant.split("/")
        wanted = tenant.split("/") if tenant else []
        if not start_us <= entry.occur_time_us < end_us or path[: len(wanted)] != wanted:
            continue
        groups_of_entry = set()
        for line in entry.lines or (None,):
            if all(_passes(_value(entry, line, name, zone), values, how) for name, values, how in filters):
                group = tuple(_value(entry, line, name, zone) for name in group_by)
                groups_of_entry.add(group)
                line_groups[group] += [line] if line else []
        for group in groups_of_entry:
            entry_groups[group].append(entry.calls)
    return {group: _measures(calls, line_groups[group]) for group, calls in entry_groups.items()}


def _passes(value: str | None, values: Sequence[str], operator: str) -> bool:
    return {
        "in": (value or "") in values,
        "not_in": (value or "") not in values,
        "prefix": value is not None and value.startswith(tuple(values)),
        "null": value is None,
        "not_null": value is not None,
    }[operator]


def _measures(calls: Sequence[int], lines: Sequence[Line]) -> Measures:
    quantities: dict[str, int] = defaultdict(int)
    for line in lines:
        quantities[line.usage_class] += line.quantity
    return (
        sum(calls),
        {name: quantity for name, quantity in quantities.items() if quantity},
        sum(line.cost_picos for line in lines),
        sum(line.unpriced for line in lines),
    )


def _value(entry: Entry, line: Line | None, name: str, zone: dt.tzinfo) -> str | None:
    local = (_EPOCH + dt.timedelta(microseconds=entry.occur_time_us)).astimezone(zone)
    if name.startswith("attributes."):
        return entry.attributes.get(name.removeprefix("attributes.")) or None
    if name == "usage_class":
        return line.usage_class if line else None
    if name == "pricing":
        is_taken_back = line is not None and line.prices_unpriced and entry.kind > KIND_ADJUSTMENT
        return "unpriced" if line and (line.unpriced or is_taken_back) else "priced"
    if name.startswith("tenant_level_"):
        level, path = int(name[-1]), entry.tenant.split("/")
        return "/".join(path[:level]) if len(path) >= level else None
    offset = local.utcoffset() or dt.timedelta()
    special = {
        "root_tenant": entry.tenant.split("/")[0],
        "rate_card_row": entry.model or None,
        "week": (local.date() - dt.timedelta(days=local.weekday())).isoformat(),
        "quarter": f"{local.year}-Q{(local.month + 2) // 3}",
        "year": str(local.year),
        # With the offset that held then, not the one at the start of the hour: a change of half an hour is within one.
        "hour": local.replace(tzinfo=dt.timezone(offset), minute=0, second=0, microsecond=0).isoformat(),
        "day": local.date().isoformat(),
        "month": local.date().isoformat()[:7],
    }
    return special[name] if name in special else getattr(entry, name) or None


def sort_key(group: Group) -> tuple[tuple[bool, str], ...]:
    """Order groups without time dimensions as a report does: a missing value first."""
    return tuple((value is not None, value or "") for value in group)


def dollars(cost_picos: int, decimals: int) -> str:
    """Return the amount rounded half to even, by decimal arithmetic wide enough to be exact before."""
    exact = Decimal(cost_picos).scaleb(-12, Context(prec=60))
    return f"{exact.quantize(Decimal(1).scaleb(-decimals), ROUND_HALF_EVEN, Context(prec=60)):f}"
