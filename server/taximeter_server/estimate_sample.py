# SPDX-License-Identifier: Apache-2.0
"""What a sample run cost, item by item, as the base of an estimate."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from taximeter_server.errors import InvalidFieldsError
from taximeter_server.report_query import ReportQuery, ReportRow
from taximeter_server.usage_class import QUOTA_TOKEN_CLASSES

PRICE_DIMENSIONS = ("model", "provider", "tier", "region", "speed")
"""What a card's prices depend on, beside classes."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Sums over the items of a run; cheapest and dearest are costs of single items, or of all where nothing tells."""

    item_count: int
    cost_picos: int
    cheapest_picos: int
    dearest_picos: int
    token_count: int
    call_count: int
    unpriced_lines: int


def take_sample(
    read: Callable[[ReportQuery], Iterable[ReportRow]],
    query: ReportQuery,
    *,
    item_dimension: str,
    item_count: int,
    price: Callable[[ReportRow], int] | None,
) -> Sample:
    """Sum a run. read: the rows of a report. price: of a group by PRICE_DIMENSIONS, None for what was charged.

    Raises InvalidFieldsError for a run without records, or with records that belong to no item.
    """
    items = (item_dimension,) if item_dimension else ()
    costs: dict[str | None, int] = {}
    tokens = calls = unpriced = 0
    for row in read(replace(query, group_by=(*items, *(PRICE_DIMENSIONS if price else ())))):
        item = row.group[0] if items else ""
        if item is None:
            raise InvalidFieldsError.of("sample.item_dimension", "some records of the sample have no value")
        costs[item] = costs.get(item, 0) + (price(row) if price else row.measures.cost_picos)
        tokens += sum(row.measures.quantities.get(name, 0) for name in QUOTA_TOKEN_CLASSES)
        calls += row.measures.calls
        unpriced += row.measures.unpriced_lines - row.measures.adjusted_unpriced_lines
    if not costs:
        raise InvalidFieldsError.of("sample.query", "no records match")
    return Sample(
        item_count=len(costs) if items else max(item_count, 1),
        cost_picos=sum(costs.values()),
        cheapest_picos=min(costs.values()),
        dearest_picos=max(costs.values()),
        token_count=tokens,
        call_count=calls,
        unpriced_lines=unpriced,
    )
