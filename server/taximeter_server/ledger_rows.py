# SPDX-License-Identifier: Apache-2.0
"""Ledger rows in SQL, whichever version of the server wrote their files: what an older file lacks gets its meaning."""

from collections.abc import Collection

import pyarrow as pa

from taximeter_server.ledger import SCHEMA

_TYPES = {
    pa.bool_(): "BOOLEAN",
    pa.int8(): "TINYINT",
    pa.int16(): "SMALLINT",
    pa.int64(): "BIGINT",
    pa.string(): "VARCHAR",
    pa.map_(pa.string(), pa.string()): "MAP(VARCHAR, VARCHAR)",
}
# Before there were list prices, the list price was the one that was charged.
_IS_WITHOUT_LIST = "list_cost_picos IS NULL"
_LIST = "list_"
_AS_CHARGED = {
    "list_priced_as": f"CASE WHEN {_IS_WITHOUT_LIST} THEN priced_as ELSE list_priced_as END",
    "list_billed_quantity": "coalesce(list_billed_quantity, billed_quantity)",
    "list_amount_picos": "coalesce(list_amount_picos, amount_picos)",
    "list_per": "coalesce(list_per, per)",
    "list_cost_picos": "coalesce(list_cost_picos, cost_picos)",
}


TYPES = {field.name: _TYPES[field.type] for field in SCHEMA}
"""Type of a column of SCHEMA in SQL."""


def read_as(name: str, sql_type: str, absent: str = "NULL") -> str:
    """Return how a column of a file is read: by name, as a type; absent where the file does not have it."""
    return f"'{name}': {{'name': '{name}', 'type': '{sql_type}', 'default_value': {absent}}}"


def _absent(field: pa.Field) -> str:
    if field.nullable or field.name in _AS_CHARGED or field.name == "attributes":
        return "NULL"
    return "'false'" if field.type == pa.bool_() else "'0'"


_COLUMNS = {field.name: read_as(field.name, TYPES[field.name], _absent(field)) for field in SCHEMA}


def read_files(placeholder: str, names: Collection[str] = _COLUMNS) -> str:
    """Return the relation of all rows of files as they were written, with columns of SCHEMA.

    placeholder: parameter with their absolute paths.
    """
    # Said here rather than found out from the files, each of which would be opened for it before anything is read.
    columns = ", ".join(column for name, column in _COLUMNS.items() if name in names)
    return f"read_parquet({placeholder}, hive_partitioning = false, schema = MAP {{{columns}}})"


def rows_of_files(
    placeholder: str, condition: str = "true", *, names: Collection[str] = tuple(SCHEMA.names)
) -> str:
    """Return a statement for the rows of files that fulfil condition, with those columns of SCHEMA.

    placeholder: parameter with their absolute paths. condition: of entries and these columns.
    """
    read = set(names)
    for name in _AS_CHARGED.keys() & read:
        read |= {name.removeprefix(_LIST), _LIST + "cost_picos"}
    columns = ", ".join(f"{_AS_CHARGED[name]} AS {name}" if name in _AS_CHARGED else name for name in names)
    return f"SELECT {columns} FROM {read_files(placeholder, read)} AS entries WHERE {condition}"  # noqa: S608 (names of ours)
