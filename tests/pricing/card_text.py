# SPDX-License-Identifier: Apache-2.0
"""Rate cards as text, and what is wrong with them."""

import time
from collections.abc import Callable

import pytest

from taximeter_server.rate_card import RateCardInvalidError, RateCardProblem, parse_rate_card

DECIMAL_RULE = "decimal of at most 20 digits and 12 decimals"


def row_text(fields: str) -> str:
    """Return a card whose row m, in line 3, has these fields."""
    return f"billing:\n  rate_card:\n    m: {{{fields}}}\n"


def card_text(fields: str) -> str:
    """Return a card with a row and these other fields."""
    return f"billing: {{rate_card: {{m: {{input: 1}}}}, {fields}}}\n"


def problems_of(source: str | bytes) -> tuple[RateCardProblem, ...]:
    """Return the problems of a bad card."""
    with pytest.raises(RateCardInvalidError) as caught:
        parse_rate_card(source)
    return caught.value.problems


def reasons_of(source: str | bytes) -> list[tuple[str, str]]:
    """Return the field and reason of each problem."""
    return [(problem.field, problem.reason) for problem in problems_of(source)]


def cpu_seconds(action: Callable[[], object]) -> float:
    """Return the least CPU time of several runs: what the work costs when nothing else disturbs it."""
    costs = []
    for _ in range(5):
        start = time.process_time()
        action()
        costs.append(time.process_time() - start)
    return min(costs)
