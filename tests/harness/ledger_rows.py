# SPDX-License-Identifier: Apache-2.0
"""The rows of what stands in a partition's stream, read as reports read them."""

import pyarrow as pa

from taximeter_server import _native
from taximeter_server.ledger import AFTER_ALL, BEFORE_ALL, SCHEMA, read_rows

_ALWAYS = (-(2**63), 2**63 - 1)


def rows_of_partition(engine: _native.Engine, partition: int) -> pa.Table:
    """Return the rows of all entries that are not archived, oldest first."""
    found, last_id, is_whole = [SCHEMA.empty_table()], str(BEFORE_ALL), False
    while not is_whole:
        ipc, (last_id,), is_whole = engine.read_tail(
            [(partition, last_id, str(AFTER_ALL))], columns=SCHEMA.names, intervals_us=[_ALWAYS]
        )
        found.append(read_rows(ipc))
    return pa.concat_tables(found)
