# SPDX-License-Identifier: Apache-2.0
"""Which rows a query keeps, as conditions of a statement. Values are parameters, never text."""

from collections.abc import Callable

from taximeter_server.ledger import KIND_CREDIT, partition_of
from taximeter_server.report_dimensions import Parameters, dimension
from taximeter_server.report_query import IN, NOT_IN, NOT_NULL, NULL, PREFIX, ReportFilter, ReportQuery
from taximeter_server.report_snapshot import relevant_partitions


def conditions(query: ReportQuery, parameters: Parameters) -> list[str]:
    """Return what must hold of a row beside its time. Changes of credit accounts are no usage."""
    kept = [f"kind <> {KIND_CREDIT}"]
    if query.tenant:
        # Files are sorted by partition, so this skips what the tenant cannot be in.
        kept.append(f"partition = {parameters.add(partition_of(query.tenant))}")
        kept.append(_is_below(query.tenant, parameters))
    if query.readable_tenants is not None:
        partitions = [str(partition) for partition in relevant_partitions(query)]
        kept.append(f"partition IN ({', '.join(partitions)})" if partitions else "false")
        below = [_is_below(tenant, parameters) for tenant in query.readable_tenants]
        kept.append(f"({' OR '.join(below)})" if below else "false")
    kept.extend(_filter(condition, parameters) for condition in query.filters)
    return kept


def _is_below(tenant: str, parameters: Parameters) -> str:
    """By segment: acme is acme and acme/research, not acmes."""
    return f"(tenant = {parameters.add(tenant)} OR starts_with(tenant, {parameters.add(tenant + '/')}))"


def _filter(condition: ReportFilter, parameters: Parameters) -> str:
    sql = dimension(condition.dimension, (), parameters).sql
    return _OPERATORS[condition.operator](sql, condition, parameters)


def _in(sql: str, condition: ReportFilter, parameters: Parameters) -> str:
    values = [value for value in condition.values if value]
    alternatives = []
    if values:
        alternatives.append(f"{sql} IN ({parameters.add_all(values)})")
    if len(values) < len(condition.values):
        alternatives.append(f"{sql} IS NULL")
    return f"({' OR '.join(alternatives)})"


def _not_in(sql: str, condition: ReportFilter, parameters: Parameters) -> str:
    # Not by negating IN alone, which is neither true nor false of a missing value.
    return f"NOT coalesce({_in(sql, condition, parameters)}, false)"


def _prefix(sql: str, condition: ReportFilter, parameters: Parameters) -> str:
    begins = (f"starts_with({sql}, {parameters.add(value)})" for value in condition.values)
    return f"coalesce({' OR '.join(begins)}, false)"


_OPERATORS: dict[str, Callable[[str, ReportFilter, Parameters], str]] = {
    IN: _in,
    NOT_IN: _not_in,
    PREFIX: _prefix,
    NULL: lambda sql, _condition, _parameters: f"({sql}) IS NULL",
    NOT_NULL: lambda sql, _condition, _parameters: f"({sql}) IS NOT NULL",
}
