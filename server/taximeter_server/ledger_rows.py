# SPDX-License-Identifier: Apache-2.0
"""Ledger rows as they lie in files, whichever version of the server wrote them: what a file lacks gets its meaning.

An older file lacks columns that came later; a newer one those that would say the same in each row as their absence.
Half of the columns are of that kind in most files, and cost as much to write, merge and sum as the others.
"""

from collections.abc import Collection

import pyarrow as pa
import pyarrow.compute as pc

from taximeter_server.ledger import SCHEMA, SORT_COLUMNS

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


def without_silent(rows: pa.Table) -> pa.Table:
    """Return rows of SCHEMA without the columns that say in each row what their absence does. Places stay."""
    silent = {field.name for field in SCHEMA if _is_silent(field, rows[field.name])}
    lists = {name for name in _AS_CHARGED if rows[name].equals(rows[name.removeprefix(_LIST)])}
    # All of them or none: whoever reads them looks at one to know whether they are there.
    silent = silent | lists if lists == set(_AS_CHARGED) else silent - set(_AS_CHARGED)
    return rows.select([name for name in rows.column_names if name not in silent])


def _is_silent(field: pa.Field, column: pa.ChunkedArray) -> bool:
    if field.name in SORT_COLUMNS:
        return False
    if field.nullable:
        return bool(column.null_count == len(column))
    if field.type == pa.bool_():
        return not pc.any(column, min_count=0).as_py()
    if pa.types.is_integer(field.type):
        return bool(pc.min_max(column).as_py() in ({"min": 0, "max": 0}, {"min": None, "max": None}))
    return False
