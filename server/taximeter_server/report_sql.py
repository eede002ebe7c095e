# SPDX-License-Identifier: Apache-2.0
"""The statements of a report. Every value is a parameter; only names of columns and integers of ours are text.

All sums are of 64-bit integers into 128-bit ones, which no ledger can overflow: exact, in any order.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from taximeter_server.ledger import KIND_USAGE
from taximeter_server.ledger_rollup import SUM_COLUMNS
from taximeter_server.report_conditions import conditions
from taximeter_server.report_dimensions import (
    ATTRIBUTE_PREFIX,
    LINE_DIMENSIONS,
    PRICING_SQL,
    Dimension,
    Parameters,
    dimension,
)
from taximeter_server.report_focus import GROUP_BY as FOCUS_GROUP_BY
from taximeter_server.report_focus import SUMS as FOCUS_SUMS
from taximeter_server.report_query import IN, QUANTITY_PREFIX, ReportQuery
from taximeter_server.report_snapshot import Interval, Snapshot
from taximeter_server.report_sources import Needs, sources
from taximeter_server.report_time_zone import offset_changes

_INPUT = ("input", "input_audio", "input_image", "input_video")
_OUTPUT = ("output", "output_audio", "output_image")
_CACHE_READ = ("cache_read", "cache_read_audio", "cache_read_image")
_CACHE_WRITE = ("cache_write", "cache_write_1h")

CSV_GROUP_BY = ("day", "tenant", "model", "rate_card_id")
CSV_CLASSES = {
    "tokens_in": _INPUT,
    "tokens_out": _OUTPUT,
    "reasoning_tokens": ("reasoning",),
    "tool_calls": ("tool_calls",),
    "sandbox_ms": ("sandbox_ms",),
    "cache_read": _CACHE_READ,
    "cache_write": _CACHE_WRITE,
}
"""Usage classes whose quantities each number of the CSV sums."""

SUMS = {
    "calls": "sum(counted_calls)",
    "cost_picos": "sum(cost_picos)",
    "unpriced_lines": "sum(lines) FILTER (unpriced)",
    "adjustment_picos": f"sum(cost_picos) FILTER (kind <> {KIND_USAGE})",
    "adjusted_unpriced_lines": "sum(lines) FILTER (prices_unpriced)",
    "list_cost_picos": "sum(list_cost_picos)",
    "credits": "sum(credits)",
    "overdrawn": "sum(overdrawn)",
}
"""The sums of ReportMeasures after its quantities, in its order: how they are made of rows."""
_SUMMED_COLUMNS = (
    *("quantity", "billed_quantity", "cost_picos", "list_cost_picos", "unpriced", "kind", "prices_unpriced"),
    *("credits", "overdrawn"),
)
_ORDER_COLUMNS = {"cost": "cost_picos", "list_cost": "list_cost_picos"}
COMPARED = "compared_"
"""Before the names of columns that are about the interval compared to."""


@dataclass(frozen=True, slots=True)
class Statement:
    """sql with its parameters; dimensions write the values of columns d0, d1 and so on."""

    sql: str
    parameters: dict[str, object]
    dimensions: tuple[Dimension, ...]


def groups_statement(query: ReportQuery, snapshot: Snapshot) -> Statement:
    """Fill the temporary table groups: position from 1, d0 and so on, is_other, quantities, SUMS.

    When the query compares, quantities and SUMS follow once more with COMPARED before their names. Quantities are lists
    in no order.
    """
    parameters = Parameters()
    dimensions, summed = _summed_rows(query, snapshot, query.group_by, parameters)
    keys = [f"d{index}" for index in range(len(dimensions))]
    selected = "".join(f"{key}, " for key in keys)
    per_class = _sum_up(summed, (*keys, "period", "usage_class"), ("quantity", *SUMS))
    periods = [("", 0), (COMPARED, 1)][: len(query.intervals_us)]
    measures = ", ".join(
        _measures(prefix, f"period = {number}" if len(periods) > 1 else "true") for prefix, number in periods
    )
    group_by = f"GROUP BY {', '.join(keys)}" if keys else ""
    sql = f"""
        CREATE OR REPLACE TEMP TABLE groups AS
        WITH per_class AS ({per_class}), grouped AS (
            SELECT {selected} false AS is_other, {measures} FROM per_class {group_by} HAVING count(*) > 0
        )
        SELECT row_number() OVER ({_order(query, keys, parameters)}) AS position, * FROM grouped
    """  # noqa: S608 (see the head of the file)
    return Statement(sql, parameters.values, dimensions)


def lines_statement(query: ReportQuery, snapshot: Snapshot) -> Statement:
    """Fill the temporary table groups in the order of its rows: d0 and so on, usage_class, quantity, SUMS.

    One row per class of a group: as it holds no lists, what does not fit into memory goes to disk. Rows of one group
    are neighbours, whatever the query orders by.
    """
    parameters = Parameters()
    dimensions, summed = _summed_rows(query, snapshot, query.group_by, parameters)
    groups = [f"d{index}" for index in range(len(dimensions))]
    keys = [*groups, "usage_class"]
    names = ("quantity", *SUMS)
    per_class = _sum_up(summed, keys, names)
    terms = _order_of_lines(query, groups, parameters)
    ordered = "".join(f", {term} AS o{index}" for index, (term, _) in enumerate(terms))
    order = [f"o{index} {direction}" for index, (_, direction) in enumerate(terms)]
    order += [f"{key} ASC NULLS FIRST" for key in keys]
    sql = f"""
        CREATE OR REPLACE TEMP TABLE groups AS
        WITH per_class AS ({per_class})
        SELECT {", ".join((*keys, *names))} FROM (SELECT *{ordered} FROM per_class) ORDER BY {", ".join(order)}
    """  # noqa: S608
    return Statement(sql, parameters.values, dimensions)


def rest_statement(dimensions: Sequence[Dimension]) -> str:
    """Sum the rows of lines_statement from $first on by class, in its columns; their dimensions are null."""
    nulls = "".join("NULL, " for _ in dimensions)
    sums = ", ".join(f"sum({name})" for name in ("quantity", *SUMS))
    return f"SELECT {nulls} usage_class, {sums} FROM groups WHERE rowid >= $first GROUP BY usage_class"  # noqa: S608


def total_quantities(prefix: str, kept: str = "") -> str:
    """Return the expression for the quantities of all rows of groups together, or of those that are kept."""
    return (
        "(SELECT list(struct_pack(usage_class := usage_class, quantity := quantity) ORDER BY usage_class)"  # noqa: S608
        " FROM (SELECT part.usage_class, sum(part.quantity) AS quantity"
        f" FROM (SELECT unnest({prefix}quantities) AS part FROM groups {kept}) GROUP BY 1))"
    )


def other_statements(query: ReportQuery) -> Iterator[str]:
    """Put one row in the place of all rows of groups after the query's top; its group has no values."""
    columns = []
    for prefix in ("", COMPARED)[: len(query.intervals_us)]:
        kept = f"WHERE position > {query.top}"
        columns.append(f"{total_quantities(prefix, kept)} AS {prefix}quantities")
        columns += [f"sum({prefix}{name}) AS {prefix}{name}" for name in SUMS]
    yield (
        f"INSERT INTO groups BY NAME SELECT {query.top + 1} AS position, true AS is_other, {', '.join(columns)}"  # noqa: S608
        f" FROM groups WHERE position > {query.top} HAVING count(*) > 0"
    )
    yield f"DELETE FROM groups WHERE position > {query.top} AND NOT is_other"  # noqa: S608


def csv_statement(query: ReportQuery, snapshot: Snapshot) -> Statement:
    """Fill the temporary table groups in the order of its rows: d0 to d3 (CSV_GROUP_BY), CSV_CLASSES, cost_picos."""
    parameters = Parameters()
    dimensions, summed = _summed_rows(query, snapshot, CSV_GROUP_BY, parameters)
    sums = "".join(
        f"coalesce(sum(quantity) FILTER (usage_class IN ({parameters.add_all(classes)})), 0) AS {name}, "
        for name, classes in CSV_CLASSES.items()
    )
    everything = " UNION ALL ".join(summed)
    sql = f"""
        CREATE OR REPLACE TEMP TABLE groups AS
        SELECT d0, d1, d2, d3, {sums} sum(cost_picos) AS cost_picos
        FROM ({everything}) GROUP BY d0, d1, d2, d3 ORDER BY d0, d1, d2 ASC NULLS FIRST, d3 ASC NULLS FIRST
    """  # noqa: S608
    return Statement(sql, parameters.values, dimensions)


def focus_statement(query: ReportQuery, snapshot: Snapshot) -> Statement:
    """Fill the temporary table groups in the order of its rows: d0 and so on (focus_group_by), report_focus.SUMS."""
    parameters = Parameters()
    dimensions, summed = _summed_rows(query, snapshot, focus_group_by(query), parameters)
    keys = ", ".join(f"d{index}" for index in range(len(dimensions)))
    order = ", ".join(f"d{index} ASC NULLS FIRST" for index in range(len(dimensions)))
    sums = ", ".join(f"sum({name}) AS {name}" for name in FOCUS_SUMS)
    sql = f"""
        CREATE OR REPLACE TEMP TABLE groups AS
        SELECT {keys}, {sums} FROM ({" UNION ALL ".join(summed)}) GROUP BY {keys} ORDER BY {order}
    """  # noqa: S608
    return Statement(sql, parameters.values, dimensions)


def needed_columns(query: ReportQuery, group_by: Sequence[str]) -> list[str]:
    """Return the columns of ledger rows that a statement needs that groups by these dimensions."""
    return _needs(query, group_by).names()


def focus_group_by(query: ReportQuery) -> tuple[str, ...]:
    """Return what a FOCUS export of a query groups by."""
    return (*FOCUS_GROUP_BY, *(name for name in query.group_by if name.startswith(ATTRIBUTE_PREFIX)))


def _measures(prefix: str, condition: str) -> str:
    # Not ordered: to sort many short lists takes the database longer than the groups themselves.
    quantities = (
        "list(struct_pack(usage_class := usage_class, quantity := quantity))"
        f" FILTER ({condition} AND quantity <> 0) AS {prefix}quantities"
    )
    sums = (f"coalesce(sum({name}) FILTER ({condition}), 0) AS {prefix}{name}" for name in SUMS)
    return ", ".join((quantities, *sums))


def _order(query: ReportQuery, keys: Sequence[str], parameters: Parameters) -> str:
    def measured(by: str) -> str:
        if by.startswith(QUANTITY_PREFIX):
            wanted = parameters.add(by.removeprefix(QUANTITY_PREFIX))
            part = f"list_filter(quantities, lambda part: part.usage_class = {wanted})[1]"
            return f"coalesce({part}.quantity, 0)"
        return _ORDER_COLUMNS.get(by, by)

    terms = [f"{column} {direction}" for column, direction in _order_terms(query, keys, measured)]
    terms += [f"{key} ASC NULLS FIRST" for key in keys]
    return f"ORDER BY {', '.join(terms)}" if terms else ""


def _order_of_lines(query: ReportQuery, keys: Sequence[str], parameters: Parameters) -> list[tuple[str, str]]:
    """Return what the groups of lines are ordered by, each with its direction."""
    group = f"OVER (PARTITION BY {', '.join(keys)})" if keys else "OVER ()"

    def measured(by: str) -> str:
        if by.startswith(QUANTITY_PREFIX):
            wanted = parameters.add(by.removeprefix(QUANTITY_PREFIX))
            return f"coalesce(sum(quantity) FILTER (usage_class = {wanted}) {group}, 0)"
        return f"sum({_ORDER_COLUMNS.get(by, by)}) {group}"

    return _order_terms(query, keys, measured)


def _order_terms(
    query: ReportQuery, keys: Sequence[str], measured: Callable[[str], str]
) -> list[tuple[str, str]]:
    names = dict(zip(query.group_by, keys, strict=True))
    return [
        (names.get(key.by) or measured(key.by), "DESC NULLS LAST" if key.descending else "ASC NULLS FIRST")
        for key in query.order
    ]


def _summed_rows(
    query: ReportQuery, snapshot: Snapshot, group_by: Sequence[str], parameters: Parameters
) -> tuple[tuple[Dimension, ...], list[str]]:
    """Return the dimensions and statements for sums by them, period and usage class, one per source of rows."""
    needs = _needs(query, group_by)
    dimensions = tuple(dimension(name, needs.offsets, parameters) for name in group_by)
    columns = "".join(f"{one.sql} AS d{index}, " for index, one in enumerate(dimensions))
    keys = "".join(f"d{index}, " for index in range(len(dimensions)))
    counted_calls = _counted_calls(query, group_by)
    kept = conditions(query, parameters)
    sums = ", ".join(f"coalesce({sql}, 0)::HUGEINT AS {name}" for name, sql in SUMS.items())
    parts = []
    for period, interval_us in enumerate(query.intervals_us):
        for source in sources(Interval(*interval_us), needs, snapshot, parameters):
            within = " OR ".join(
                f"(occur_time_us >= {parameters.add(part.start_us)}"
                f" AND occur_time_us < {parameters.add(part.end_us)})"
                for part in source.intervals
            )
            where = " AND ".join((f"({within})", *kept))
            parts.append(
                f"SELECT {keys} {period} AS period, usage_class, sum(quantity)::HUGEINT AS quantity,"  # noqa: S608
                f" sum(billed_quantity)::HUGEINT AS billed_quantity, {sums}"
                f" FROM (SELECT {columns} usage_class, {', '.join(_SUMMED_COLUMNS)}, lines,"
                f" {counted_calls} AS counted_calls"
                f" FROM ({source.relation}) WHERE {where}) GROUP BY {keys} usage_class"
            )
    return dimensions, parts


def _needs(query: ReportQuery, group_by: Sequence[str]) -> Needs:
    counted_calls = _counted_calls(query, group_by)
    has_entries = counted_calls not in SUM_COLUMNS
    is_of_tenants = bool(query.tenant) or query.readable_tenants is not None
    return Needs(
        dimensions={*group_by, *(condition.dimension for condition in query.filters)},
        offsets=offset_changes(query.time_zone, query.start_time_us, query.end_time_us),
        columns=(
            *(("partition", "tenant") if is_of_tenants else ()),
            "entry_calls" if has_entries else counted_calls,
            "usage_class",
            *_SUMMED_COLUMNS,
        ),
        is_of_tenants=is_of_tenants,
        has_entries=has_entries,
    )


def _sum_up(parts: Sequence[str], keys: Sequence[str], names: Sequence[str]) -> str:
    """Return the statement for sums of parts, each of which has summed its own rows by keys."""
    if len(parts) == 1:
        return parts[0]
    sums = ", ".join(f"sum({name}) AS {name}" for name in names)
    selected = ", ".join(keys)
    return f"SELECT {selected}, {sums} FROM ({' UNION ALL '.join(parts)}) GROUP BY {selected}"  # noqa: S608


def _counted_calls(query: ReportQuery, group_by: Sequence[str]) -> str:
    """Return what to sum so that an entry's calls count once in each group in which it has a row."""
    filters = [condition for condition in query.filters if condition.dimension in LINE_DIMENSIONS]
    if not LINE_DIMENSIONS.intersection(group_by) and not filters:
        # All rows of an entry are in one group.
        return "calls"
    is_one_class = any(
        condition.dimension == "usage_class" and condition.operator == IN and len(condition.values) == 1
        for condition in filters
    )
    if "usage_class" in group_by or is_one_class:
        # Each row of an entry is in a group of its own, or only one of its rows is kept.
        return "entry_calls"
    group = f", {PRICING_SQL}" if "pricing" in group_by else ""
    # An amendment takes calls back on some of its rows and adds calls on others.
    group += ", quantity < 0"
    first = (
        f"row_number() OVER (PARTITION BY partition, stream_ms, stream_seq{group}"
        " ORDER BY entry_calls = 0, usage_class) = 1"
    )
    return f"CASE WHEN {first} THEN entry_calls ELSE 0 END"
