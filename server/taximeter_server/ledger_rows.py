# SPDX-License-Identifier: Apache-2.0
"""Ledger rows in SQL, whichever version of the server wrote their files: what an older file lacks gets its meaning."""

from taximeter_server.ledger import SCHEMA

# Before there were list prices, the list price was the one that was charged.
_IS_WITHOUT_LIST = "list_cost_picos IS NULL"
_MEANINGS = {
    "tenant_prices_version": "coalesce(tenant_prices_version, 0)",
    "list_priced_as": f"CASE WHEN {_IS_WITHOUT_LIST} THEN priced_as ELSE list_priced_as END",
    "list_billed_quantity": "coalesce(list_billed_quantity, billed_quantity)",
    "list_amount_picos": "coalesce(list_amount_picos, amount_picos)",
    "list_per": "coalesce(list_per, per)",
    "list_cost_picos": "coalesce(list_cost_picos, cost_picos)",
    "kind": "coalesce(kind, 0)::TINYINT",
    "adjusted_quantity": "coalesce(adjusted_quantity, 0)",
    "previous_cost_picos": "coalesce(previous_cost_picos, 0)",
    "prices_unpriced": "coalesce(prices_unpriced, false)",
    "credits": "coalesce(credits, 0)",
    "overdrawn": "coalesce(overdrawn, 0)",
}


def rows_of_files(placeholder: str, condition: str = "true") -> str:
    """Return a statement for the rows of files that fulfil condition, with every column of SCHEMA.

    placeholder: parameter with their absolute paths. The relation empty_ledger has SCHEMA and no rows.
    """
    files = f"read_parquet({placeholder}, hive_partitioning = false, union_by_name = true)"
    columns = ", ".join(
        f"{_MEANINGS[name]} AS {name}" if name in _MEANINGS else name for name in SCHEMA.names
    )
    # By name, and beside a relation that has them all: a column may be missing in each of the files.
    return (
        f"SELECT {columns} FROM (FROM empty_ledger UNION ALL BY NAME FROM {files}) AS entries"  # noqa: S608 (names of ours)
        f" WHERE {condition}"
    )
