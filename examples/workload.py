# SPDX-License-Identifier: Apache-2.0
"""Synthetic workloads with the shape of public traces; see workload_profiles.json for sources and licences."""

# ruff: noqa: INP001 - scripts, no package

import bisect
import json
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROFILES_FILE = Path(__file__).with_name("workload_profiles.json")
_TAIL_PERCENTILES = (10.0, 90.0)


@dataclass(frozen=True, slots=True)
class PlannedCall:
    """One call to make."""

    start_s: float
    """When to make it, in seconds after the beginning."""
    tenant: str
    """Who makes it."""
    model: str
    """Which model it calls."""
    prompt_tokens: int
    """Prompt, cached part included."""
    cached_tokens: int
    """Part of the prompt that is read from a cache."""
    output_tokens: int
    """Answer."""


def load_profiles() -> dict[str, dict[str, Any]]:
    """Returns the profiles by name."""
    profiles: dict[str, dict[str, Any]] = json.loads(PROFILES_FILE.read_text(encoding="utf-8"))["profiles"]
    return profiles


class Quantiles:
    """Draws from a distribution that is known by its quantiles."""

    def __init__(self, by_percentile: dict[str, float]) -> None:
        """Takes values by percentile, from "0" to "100"."""
        points = sorted((float(percentile), value) for percentile, value in by_percentile.items())
        self._percentiles = [percentile for percentile, _ in points]
        self._values = [value for _, value in points]

    def draw(self, rng: random.Random) -> float:
        """Draws a value: between two quantiles on a straight line, in the tails on an exponential one."""
        percentile = rng.uniform(0, 100)
        upper = min(max(bisect.bisect(self._percentiles, percentile), 1), len(self._percentiles) - 1)
        low, high = self._values[upper - 1], self._values[upper]
        left, right = self._percentiles[upper - 1], self._percentiles[upper]
        share = (percentile - left) / (right - left)
        in_tail = not _TAIL_PERCENTILES[0] <= percentile <= _TAIL_PERCENTILES[1]
        if in_tail and low > 0:
            return low * math.exp(share * math.log(high / low))
        return low + share * (high - low)


def plan_calls(
    profile: dict[str, Any],
    *,
    rng: random.Random,
    call_count: int,
    calls_per_s: float,
    tenants: Sequence[str],
    tenant_weights: Sequence[float],
    models: Sequence[str],
    bursty: bool,
) -> Iterator[PlannedCall]:
    """Yields calls in the order of their start. The same seed gives the same calls.

    `bursty` spaces them as unevenly as the trace did; otherwise they come as a Poisson process. 0 calls_per_s means
    all at once.
    """
    prompt, output = Quantiles(profile["prompt_tokens"]), Quantiles(profile["output_tokens"])
    cache = Quantiles(profile["cache_hit_ratio"]) if "cache_hit_ratio" in profile else None
    # Intervals of a gamma distribution with this shape have the coefficient of variation of the trace.
    shape = 1 / float(profile["interarrival_cv"]) ** 2 if bursty else 1.0
    start_s = 0.0
    for _ in range(call_count):
        if calls_per_s > 0:
            start_s += rng.gammavariate(shape, 1 / (shape * calls_per_s))
        prompt_tokens = max(1, round(prompt.draw(rng)))
        hit_ratio = cache.draw(rng) if cache else 0.0
        yield PlannedCall(
            start_s=start_s,
            tenant=rng.choices(tenants, tenant_weights)[0],
            model=rng.choice(models),
            prompt_tokens=prompt_tokens,
            cached_tokens=min(prompt_tokens, int(prompt_tokens * hit_ratio)),
            output_tokens=max(1, round(output.draw(rng))),
        )


def zipf_weights(count: int, exponent: float) -> list[float]:
    """Returns weights that fall with the rank: 1, 1/2^exponent, 1/3^exponent and so on; 0 makes them equal."""
    return [1 / rank**exponent for rank in range(1, count + 1)]
