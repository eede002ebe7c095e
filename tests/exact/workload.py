# SPDX-License-Identifier: Apache-2.0
"""Events with the shape of public traces, always the same ones for a seed."""

import bisect
import json
import random
from collections.abc import Iterator
from pathlib import Path

from exact.oracle import MILLION, Event

PROFILES_FILE = Path(__file__).parents[2] / "examples" / "workload_profiles.json"
DAY_MS = 86_400_000

CARD_YAML = """
billing:
  unknown_model: reject
  classes:
    preview_thinking: {parent: reasoning}
    tile_tokens: {parent: input, per: 1000}
    gpu_ms: {per: 3600000}
  defaults: {tool_calls: 0.0005, sandbox_ms: 0.0512345678, storage_byte_hours: 0.023, gpu_ms: 1.1}
  rate_card:
    "opus": {input: 14.999999999999, output: 75.00, cache_read: 1.50, cache_write: 18.75, reasoning: 74.3}
    "sonnet": {input: 3.00, output: 15.00, cache_read: 0.30, cache_write: 3.75, cache_write_1h: 6.000000000001}
    "mini": {input: 0.15, output: 0.6}
    "embed": {input: 0.02}
    "listener": {input: 2.5, output: 10, input_audio: 40, cache_read_audio: 2.5, audio_ms: 0.36}
    "free": {input: 0, output: 0}
    "tools": {tool_calls: 0.01, web_searches: 10, tile_tokens: 0.000000000007}
"""
ROWS = {
    "opus": {
        "input": "14.999999999999",
        "output": "75",
        "cache_read": "1.5",
        "cache_write": "18.75",
        "reasoning": "74.3",
    },
    "sonnet": {
        "input": "3",
        "output": "15",
        "cache_read": "0.3",
        "cache_write": "3.75",
        "cache_write_1h": "6.000000000001",
    },
    "mini": {"input": "0.15", "output": "0.6"},
    "embed": {"input": "0.02"},
    "listener": {
        "input": "2.5",
        "output": "10",
        "input_audio": "40",
        "cache_read_audio": "2.5",
        "audio_ms": "0.36",
    },
    "free": {"input": "0", "output": "0"},
    "tools": {"tool_calls": "0.01", "web_searches": "10", "tile_tokens": "0.000000000007"},
}
DEFAULTS = {
    "tool_calls": "0.0005",
    "sandbox_ms": "0.0512345678",
    "storage_byte_hours": "0.023",
    "gpu_ms": "1.1",
}
CLASSES = {
    "preview_thinking": ("reasoning", MILLION),
    "tile_tokens": ("input", 1_000),
    "gpu_ms": ("", 3_600_000),
}
FIRST_ROWS = {
    "claude-opus-4-7": {
        "input": "15",
        "output": "75",
        "cache_read": "1.5",
        "cache_write": "18.75",
        "reasoning": "75",
    },
    "claude-sonnet-4-6": {"input": "3", "output": "15", "cache_read": "0.3", "cache_write": "3.75"},
    "gpt-4o": {"input": "2.5", "output": "10"},
    "gpt-5": {"input": "5", "output": "25"},
}
"""The card that a new server begins with."""

MODELS = [*ROWS, *FIRST_ROWS, "unknown-1", "Unknown/2"]
TENANTS = [
    f"exact{number // 4}/team{number % 4}" if number % 3 else f"exact{number // 4}" for number in range(20)
]
CLASS_CHANCES = {
    "cache_read": 0.5,
    "cache_write": 0.2,
    "cache_write_1h": 0.1,
    "reasoning": 0.3,
    "tool_calls": 0.2,
    "sandbox_ms": 0.1,
    "storage_byte_hours": 0.05,
    "input_audio": 0.05,
    "cache_read_audio": 0.03,
    "output_image": 0.03,
    "preview_thinking": 0.05,
    "tile_tokens": 0.05,
    "gpu_ms": 0.05,
    "web_searches": 0.05,
    "audio_ms": 0.05,
    "no_such_class": 0.02,
}
LARGE_QUANTITIES = [1, 9_999_999_999, 10_000_000_000]


class _Quantiles:
    def __init__(self, by_percentile: dict[str, int]) -> None:
        points = sorted((float(percentile), value) for percentile, value in by_percentile.items())
        self._percentiles = [percentile for percentile, _ in points]
        self._values = [value for _, value in points]

    def draw(self, draw: random.Random) -> int:
        """Draw a value evenly between two neighbouring quantiles."""
        upper = max(1, bisect.bisect_left(self._percentiles, draw.uniform(0, 100)))
        return draw.randint(self._values[upper - 1], self._values[upper])


def _shapes() -> list[tuple[_Quantiles, _Quantiles]]:
    """Quantiles of prompt and output tokens of each profile."""
    profiles = json.loads(PROFILES_FILE.read_text(encoding="utf-8"))["profiles"]
    return [
        (_Quantiles(each["prompt_tokens"]), _Quantiles(each["output_tokens"])) for each in profiles.values()
    ]


def call_sizes(count: int, *, seed: str) -> Iterator[tuple[int, int]]:
    """Yield prompt and output tokens of calls, every profile as often as any other."""
    draw = random.Random(seed)
    shapes = _shapes()
    for _ in range(count):
        prompt, output = draw.choice(shapes)
        yield prompt.draw(draw), output.draw(draw)


def events(count: int, *, seed: str, now_ms: int, card_from_ms: int, last_ms: int) -> Iterator[Event]:
    """Yield events: most from the time of the second card on, some of the days before.

    last_ms: no event is later.
    """
    draw = random.Random(seed)
    shapes = _shapes()
    for number in range(count):
        prompt, output = draw.choice(shapes)
        if draw.random() < 0.6:
            occur_time_ms = draw.randint(card_from_ms, last_ms)
        else:
            occur_time_ms = draw.choice(
                [card_from_ms - 1, draw.randint(now_ms - 33 * DAY_MS, now_ms), now_ms // DAY_MS * DAY_MS]
            )
        usage = _usage(draw, prompt.draw(draw), output.draw(draw))
        attributes = {"workflow_uuid": f"w{draw.randrange(7)}"} if draw.random() < 0.7 else {}
        if draw.random() < 0.2:
            attributes["agent_uuid"] = draw.choice(["a,b", 'quoted "x"', "é", "=1+1"])
        yield Event(
            record_id=f"{seed}-{number:012}",
            tenant=draw.choice(TENANTS),
            model=draw.choice(MODELS),
            provider=draw.choice(["", "", "anthropic", "openai"]),
            occur_time_ms=occur_time_ms,
            calls=draw.choice([1, 1, 1, 1, 1, 1, 2, 17]),
            usage=usage,
            attributes=attributes,
        )


def _usage(draw: random.Random, prompt_tokens: int, output_tokens: int) -> dict[str, int]:
    if draw.random() < 0.01:
        return {}
    usage = {"input": prompt_tokens, "output": output_tokens}
    for usage_class, chance in CLASS_CHANCES.items():
        if draw.random() < chance:
            usage[usage_class] = draw.randint(1, prompt_tokens)
    if draw.random() < 0.0005:
        usage["cache_read"] = draw.choice(LARGE_QUANTITIES)
    return usage
