# SPDX-License-Identifier: Apache-2.0
"""A report as JSON lines: one object per row, named as in taximeter.v1.ReportRow.

Counts and quantities are strings, as protobuf writes 64-bit integers in JSON, because JavaScript and many other
readers would round them. The cost is an exact decimal string.
"""

import json
from collections.abc import Iterable, Iterator, Sequence

from taximeter_server.report_csv import chunks, decimal_text
from taximeter_server.report_query import ReportRow

_PICO_DIGITS = 12


def json_chunks(rows: Iterable[ReportRow], *, group_by: Sequence[str], currency_code: str) -> Iterator[bytes]:
    """Yield the file in pieces of at most report_csv.CHUNK_BYTES_MAX bytes."""
    return chunks(_line(row, group_by, currency_code) for row in rows)


def _line(row: ReportRow, group_by: Sequence[str], currency_code: str) -> str:
    measures = row.measures
    document: dict[str, object] = {
        "group": dict(zip(group_by, row.group, strict=True)),
        "calls": str(measures.calls),
        "quantities": {name: str(quantity) for name, quantity in measures.quantities.items()},
        "cost": decimal_text(measures.cost_picos, _PICO_DIGITS),
        "currency_code": currency_code,
        "unpriced_lines": str(measures.unpriced_lines),
        "adjustment_cost": decimal_text(measures.adjustment_picos, _PICO_DIGITS),
        "list_cost": decimal_text(measures.list_cost_picos, _PICO_DIGITS),
        "adjusted_unpriced_lines": str(measures.adjusted_unpriced_lines),
        "credit_microcredits": str(measures.credit_microcredits),
        "overdrawn_microcredits": str(measures.overdrawn_microcredits),
    }
    if row.is_other:
        document["is_other"] = True
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False) + "\n"
