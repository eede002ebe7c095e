# SPDX-License-Identifier: Apache-2.0
"""The columns of sums: the names that finance knows, from the usage classes of the ledger."""

from typing import Any

from taximeter.cli.output import Column
from taximeter.credits import credits_text
from taximeter.money import decimal_string
from taximeter.results import Measures

# The same as in the CSV that the server makes. A class that is in none of these columns is in "quantities" of the JSON.
_CLASSES = {
    "tokens_in": ("input", "input_audio", "input_image", "input_video"),
    "tokens_out": ("output", "output_audio", "output_image"),
    "tokens_cached": (
        "cache_read",
        "cache_read_audio",
        "cache_read_image",
        "cache_write",
        "cache_write_1h",
    ),
    "reasoning_tokens": ("reasoning",),
    "tool_calls": ("tool_calls",),
}
TOKEN_CLASSES = frozenset(name for column in _CLASSES if column != "tool_calls" for name in _CLASSES[column])
_COST_DIGITS_MIN = 2


def measure_columns(currency: str) -> list[Column]:
    """Returns the columns of sums, in the order of the stable CSV; a table leaves the rarer ones out when zero."""
    return [
        Column("calls", "calls", numeric=True),
        Column("tokens_in", "tokens in", numeric=True),
        Column("tokens_out", "tokens out", numeric=True),
        Column("tokens_cached", "cached", numeric=True, optional=True),
        Column("reasoning_tokens", "reasoning", numeric=True, optional=True),
        Column("tool_calls", "tool calls", numeric=True, optional=True),
        Column("sandbox_seconds", "sandbox s", numeric=True, optional=True),
        Column("cost", f"cost {currency}".rstrip(), numeric=True),
        Column("unpriced_lines", "unpriced", numeric=True, optional=True),
        Column("adjustment_cost", "of it adjusted", numeric=True, optional=True),
        Column("adjusted_unpriced_lines", "priced later", numeric=True, optional=True),
        Column("credits", "credits", numeric=True, optional=True),
        Column("overdrawn_credits", "overdrawn", numeric=True, optional=True),
    ]


def measure_values(measures: Measures) -> dict[str, Any]:
    """Returns the sums by column, with `quantities` by usage class; the cost and seconds are decimal strings."""
    values: dict[str, Any] = {"calls": measures.calls}
    for name, classes in _CLASSES.items():
        values[name] = sum(measures.quantities.get(usage_class, 0) for usage_class in classes)
    values["sandbox_seconds"] = seconds_text(measures.quantities.get("sandbox_ms", 0))
    values["quantities"] = dict(sorted(measures.quantities.items()))
    values["cost"] = decimal_string(measures.cost.picos, _COST_DIGITS_MIN)
    values["unpriced_lines"] = measures.unpriced_lines
    values["adjustment_cost"] = decimal_string(measures.adjustment_cost.picos, _COST_DIGITS_MIN)
    values["adjusted_unpriced_lines"] = measures.adjusted_unpriced_lines
    values["credits"] = credits_text(measures.credit_microcredits)
    values["overdrawn_credits"] = credits_text(measures.overdrawn_microcredits)
    return values


def seconds_text(duration_ms: int) -> str:
    """Writes milliseconds as seconds, exactly, such as "128.4"."""
    return decimal_string(duration_ms * 10**9, 1)
