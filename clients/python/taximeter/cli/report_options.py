# SPDX-License-Identifier: Apache-2.0
"""Options of reports: conditions, order, bounds and comparison."""

import functools
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, TypeVar

import click

from taximeter.cli.app import App
from taximeter.cli.parameters import COUNT, InstantType, PairType
from taximeter.period import Period, parse_period
from taximeter.report_query import Filter, FilterOperator, Order, ReportQuery

CommandT = TypeVar("CommandT", bound=Callable[..., Any])
PREVIOUS_PERIOD, PREVIOUS_YEAR = "previous-period", "previous-year"


def query_options(command: CommandT) -> CommandT:
    """Adds --filter, --exclude, --prefix, --order-by, --top, --compare-to, --as-of and --as-of-time.

    The command takes `make_query`, which makes the query from its period, tenant and groups.
    """
    pair = PairType()

    @click.option(
        "--filter",
        "filters",
        type=pair,
        multiple=True,
        help="Only usage with this value, such as model=gpt-5; model= is usage without one. Repeatable.",
    )
    @click.option("--exclude", type=pair, multiple=True, help="No usage with this value. Repeatable.")
    @click.option("--prefix", type=pair, multiple=True, help="Only values that begin so. Repeatable.")
    @click.option(
        "--order-by",
        "order_by",
        multiple=True,
        help="A dimension, calls, cost, list_cost, unpriced_lines, credits or quantities.CLASS; -cost is "
        "largest first. Repeatable.",
    )
    @click.option("--top", type=COUNT, default=0, help="Only so many rows; the others become one last row.")
    @click.option("--compare-to", help=f"{PREVIOUS_PERIOD}, {PREVIOUS_YEAR}, or a period as in --period.")
    @click.option("--as-of", default="", help="as_of of an earlier report: see exactly what that one saw.")
    @click.option("--as-of-time", type=InstantType(), help="See what had been recorded by then.")
    @click.pass_context
    @functools.wraps(command)
    def with_query(ctx: click.Context, /, **values: Any) -> Any:
        conditions = {
            FilterOperator.IN: values.pop("filters"),
            FilterOperator.NOT_IN: values.pop("exclude"),
            FilterOperator.PREFIX: values.pop("prefix"),
        }
        order = tuple(Order(text.removeprefix("-"), text.startswith("-")) for text in values.pop("order_by"))
        top, compare_to = values.pop("top"), values.pop("compare_to")
        as_of, as_of_time = values.pop("as_of"), values.pop("as_of_time")

        def make_query(period: Period, tenant: str, group_by: Iterable[str]) -> ReportQuery:
            return ReportQuery(
                start_time=period.start_time,
                end_time=period.end_time,
                tenant=tenant,
                group_by=tuple(group_by),
                filters=_filters(conditions),
                time_zone=period.time_zone.key,
                order=order,
                top=top,
                as_of=as_of,
                as_of_time=as_of_time,
                compare_to=_compare_to(ctx, period, compare_to),
            )

        return ctx.invoke(command, make_query=make_query, **values)

    return with_query  # type: ignore[return-value]


def _filters(conditions: dict[FilterOperator, tuple[tuple[str, str], ...]]) -> tuple[Filter, ...]:
    """Makes one condition of all values of a dimension: any of them passes, or none of them does."""
    merged: dict[tuple[str, FilterOperator], list[str]] = {}
    for operator, pairs in conditions.items():
        for dimension, value in pairs:
            merged.setdefault((dimension, operator), []).append(value)
    return tuple(
        Filter(dimension, tuple(values), operator) for (dimension, operator), values in merged.items()
    )


def _compare_to(ctx: click.Context, period: Period, text: str | None) -> tuple[datetime, datetime] | None:
    if text is None:
        return None
    if text in {PREVIOUS_PERIOD, PREVIOUS_YEAR}:
        other = period.before() if text == PREVIOUS_PERIOD else period.a_year_before()
    else:
        try:
            other = parse_period(text, period.time_zone, ctx.ensure_object(App).clock())
        except ValueError as error:
            message = f"{error}, {PREVIOUS_PERIOD}, {PREVIOUS_YEAR}."
            raise click.BadParameter(message, ctx, param_hint="--compare-to") from error
    return other.start_time, other.end_time
