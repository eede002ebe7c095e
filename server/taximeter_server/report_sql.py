# SPDX-License-Identifier: Apache-2.0
"""The statements of a report. Every value is a parameter; only names of columns and integers of ours are text.

All sums are of 64-bit integers into 128-bit ones, which no ledger can overflow: exact, in any order.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from taximeter_server.ledger import KIND_ADJUSTMENT, partition_of
from taximeter_server.ledger_rollup import SUM_COLUMNS
from taximeter_server.report_dimensions import Dimension, Parameters, dimension
from taximeter_server.report_query import ReportFilter, ReportQuery
from taximeter_server.report_snapshot import Interval, Snapshot, relevant_partitions
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


@dataclass(frozen=True, slots=True)
class Statement:
    """sql with its parameters; dimensions write the values of columns d0, d1 and so on."""

    sql: str
    parameters: dict[str, object]
    dimensions: tuple[Dimension, ...]


def groups_statement(query: ReportQuery, snapshot: Snapshot) -> Statement:
    """Fill the temporary table groups: position from 1, d0 and so on, quantities, then the sums of ReportMeasures."""
    parameters = Parameters()
    dimensions, kept = _summed_rows(query, snapshot, query.group_by, parameters)
    names = [f"d{index}" for index in range(len(dimensions))]
    selected = "".join(f"{name}, " for name in names)
    order = f"ORDER BY {', '.join(f'{name} ASC NULLS FIRST' for name in names)}" if names else ""
    group_by = f"GROUP BY {', '.join(names)}" if names else ""
    sql = f"""
        CREATE OR REPLACE TEMP TABLE groups AS
        WITH per_class AS (
            SELECT {selected} usage_class, sum(quantity) AS quantity, sum(counted_calls) AS calls,
                sum(cost_picos) AS cost_picos, sum(unpriced_lines) AS unpriced_lines,
                sum(adjustment_picos) AS adjustment_picos,
                sum(adjusted_unpriced_lines) AS adjusted_unpriced_lines
            FROM ({kept}) GROUP BY {selected} usage_class
        )
        SELECT row_number() OVER ({order}) AS position, {selected}
            list(struct_pack(usage_class := usage_class, quantity := quantity) ORDER BY usage_class)
                FILTER (quantity <> 0) AS quantities,
            sum(calls) AS calls, sum(cost_picos) AS cost_picos, sum(unpriced_lines) AS unpriced_lines,
            sum(adjustment_picos) AS adjustment_picos, sum(adjusted_unpriced_lines) AS adjusted_unpriced_lines
        FROM per_class {group_by} HAVING count(*) > 0
    """  # noqa: S608 (see the head of the file)
    return Statement(sql, parameters.values, dimensions)


def csv_statement(query: ReportQuery, snapshot: Snapshot) -> Statement:
    """Fill the temporary table groups: position from 1, d0 to d3 after CSV_GROUP_BY, CSV_CLASSES, cost_picos."""
    parameters = Parameters()
    dimensions, kept = _summed_rows(query, snapshot, CSV_GROUP_BY, parameters)
    sums = "".join(
        f"coalesce(sum(quantity) FILTER (usage_class IN ({_placeholders(classes, parameters)})), 0) AS {name}, "
        for name, classes in CSV_CLASSES.items()
    )
    sql = f"""
        CREATE OR REPLACE TEMP TABLE groups AS
        SELECT row_number() OVER (ORDER BY d0, d1, d2 ASC NULLS FIRST, d3 ASC NULLS FIRST) AS position,
            d0, d1, d2, d3, {sums} sum(cost_picos) AS cost_picos
        FROM ({kept}) GROUP BY d0, d1, d2, d3
    """  # noqa: S608
    return Statement(sql, parameters.values, dimensions)


def _summed_rows(
    query: ReportQuery, snapshot: Snapshot, group_by: Sequence[str], parameters: Parameters
) -> tuple[tuple[Dimension, ...], str]:
    """Return the dimensions and the statement for sums by them and usage class, one per source of rows."""
    offsets = offset_changes(query.time_zone, query.start_time_us, query.end_time_us)
    dimensions = tuple(dimension(name, offsets, parameters) for name in group_by)
    columns = "".join(f"{one.sql} AS d{index}, " for index, one in enumerate(dimensions))
    keys = "".join(f"d{index}, " for index in range(len(dimensions)))
    counted_calls = _counted_calls(query, group_by)
    needs = Needs(
        dimensions={*group_by, *(condition.dimension for condition in query.filters)},
        offsets=offsets,
        has_entries=counted_calls not in SUM_COLUMNS,
    )
    conditions = _conditions(query, parameters)
    parts = []
    for source in sources(Interval(query.start_time_us, query.end_time_us), needs, snapshot, parameters):
        within = " OR ".join(
            f"(occur_time_us >= {parameters.add(part.start_us)} AND occur_time_us < {parameters.add(part.end_us)})"
            for part in source.intervals
        )
        where = " AND ".join((f"({within})", *conditions))
        parts.append(
            f"SELECT {keys} usage_class, sum(quantity)::HUGEINT AS quantity,"  # noqa: S608
            f" sum(counted_calls)::HUGEINT AS counted_calls, sum(cost_picos)::HUGEINT AS cost_picos,"
            f" coalesce(sum(lines) FILTER (unpriced), 0)::HUGEINT AS unpriced_lines,"
            f" coalesce(sum(cost_picos) FILTER (kind = {KIND_ADJUSTMENT}), 0)::HUGEINT AS adjustment_picos,"
            f" coalesce(sum(lines) FILTER (prices_unpriced), 0)::HUGEINT AS adjusted_unpriced_lines"
            f" FROM (SELECT {columns} usage_class, quantity, cost_picos, unpriced, lines, kind, prices_unpriced,"
            f" {counted_calls} AS counted_calls FROM ({source.relation}) WHERE {where})"
            f" GROUP BY {keys} usage_class"
        )
    return dimensions, " UNION ALL ".join(parts)


def _counted_calls(query: ReportQuery, group_by: Sequence[str]) -> str:
    """Return what to sum so that an entry's calls count once in each group in which it has a row."""
    class_filters = [condition for condition in query.filters if condition.dimension == "usage_class"]
    if "usage_class" not in group_by and not class_filters:
        # All rows of an entry are in one group.
        return "calls"
    if "usage_class" in group_by or any(len(condition.values) == 1 for condition in class_filters):
        # Each row of an entry is in a group of its own, or only one of its rows is kept.
        return "entry_calls"
    first = "row_number() OVER (PARTITION BY partition, stream_ms, stream_seq ORDER BY usage_class) = 1"
    return f"CASE WHEN {first} THEN entry_calls ELSE 0 END"


def _conditions(query: ReportQuery, parameters: Parameters) -> list[str]:
    conditions = []
    if query.tenant:
        # Files are sorted by partition, so this skips what the tenant cannot be in.
        conditions.append(f"partition = {parameters.add(partition_of(query.tenant))}")
        conditions.append(_is_below(query.tenant, parameters))
    if query.readable_tenants is not None:
        partitions = [str(partition) for partition in relevant_partitions(query)]
        conditions.append(f"partition IN ({', '.join(partitions)})" if partitions else "false")
        below = [_is_below(tenant, parameters) for tenant in query.readable_tenants]
        conditions.append(f"({' OR '.join(below)})" if below else "false")
    conditions.extend(_filter(condition, parameters) for condition in query.filters)
    return conditions


def _is_below(tenant: str, parameters: Parameters) -> str:
    """By segment: acme is acme and acme/research, not acmes."""
    return f"(tenant = {parameters.add(tenant)} OR starts_with(tenant, {parameters.add(tenant + '/')}))"


def _filter(condition: ReportFilter, parameters: Parameters) -> str:
    sql = dimension(condition.dimension, (), parameters).sql
    values = [value for value in condition.values if value]
    alternatives = []
    if values:
        alternatives.append(f"{sql} IN ({_placeholders(values, parameters)})")
    if len(values) < len(condition.values):
        alternatives.append(f"{sql} IS NULL")
    return f"({' OR '.join(alternatives)})"


def _placeholders(values: Sequence[str], parameters: Parameters) -> str:
    return ", ".join(parameters.add(value) for value in values)
