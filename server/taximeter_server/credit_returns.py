# SPDX-License-Identifier: Apache-2.0
"""What a correction gives back of credits: all that a record and its corrections have taken, to the same grants.

A correction does not work out a difference: it gives back what was taken, and what the record is now is debited like
new usage. So each line stands on whole debits of its own, and rounds once.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Returns = Mapping[tuple[str, str], int]
"""(usage class, grant id) -> microcredits that were taken; "" where no grant covered."""


def taken_of(rows: Iterable[tuple[str, Sequence[str | None]]]) -> Returns:
    """Return what lines have taken. rows: usage class, and credit_moves of the ledger's rows of it."""
    taken: dict[tuple[str, str], int] = defaultdict(int)
    for usage_class, moves in rows:
        for found in moves:
            for grant_id, microcredits in json.loads(found or "[]"):
                taken[usage_class, grant_id] += microcredits
    return {key: microcredits for key, microcredits in taken.items() if microcredits}


def with_returns(
    document: dict[str, Any], taken: Returns, charged: Iterable[tuple[dict[str, Any], int]]
) -> dict[str, Any]:
    """Return a correction that gives back what was taken, and debits lines anew: (line of it, pico-units).

    A record that has taken nothing, because its tenant had no account, takes nothing now.
    """
    if not taken:
        return document
    for line, cost_picos in charged:
        line["credit_cost_picos"] = max(cost_picos, 0)
    places: dict[str, int] = {}
    for number, line in enumerate(document["lines"], 1):
        places.setdefault(line["usage_class"], number)
    returns = [
        {"line": places.get(usage_class, 0), "grant_id": grant_id, "microcredits": microcredits}
        for (usage_class, grant_id), microcredits in sorted(taken.items())
    ]
    return {**document, "credit_returns": returns}
