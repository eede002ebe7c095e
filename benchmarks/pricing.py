# SPDX-License-Identifier: Apache-2.0
"""`make bench-pricing`: pricing one call from Python beside litellm's and genai-prices' calculators, and a large card.

Processor time, the best of several interleaved rounds: what the work costs when nothing else disturbs it. Each is asked
for the cost of the same call in the way that its documentation shows, with its own prices. Read the ratios.
"""

import gc
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import genai_prices
import litellm
from litellm.types.utils import CompletionTokensDetailsWrapper, PromptTokensDetailsWrapper
from litellm.types.utils import Usage as LiteLlmUsage

from taximeter_server._native import RateCard
from taximeter_server.rate_card import parse_rate_card

MODEL = "claude-sonnet-4-6"
CARD = f"""
billing:
  rate_card:
    "{MODEL}": {{input: 3, output: 15, cache_read: 0.3, cache_write: 3.75, reasoning: 15}}
"""
USAGE = {"input": 1_200, "cache_read": 800, "cache_write": 400, "output": 500, "reasoning": 120}
COST_PICOS = 14_640_000_000
CALLED_AT = datetime(2026, 11, 22, 12, tzinfo=UTC)
ROUNDS = 7
CALLS = {
    "taximeter": 20_000,
    "taximeter, cost alone": 20_000,
    "taximeter, every line read": 5_000,
    "litellm": 300,
    "genai-prices": 300,
}
CARD_ROWS = 3_000


def calculators() -> dict[str, Callable[[], object]]:
    """Return what prices the call, by name."""
    card = RateCard(parse_rate_card(CARD).canonical_json)
    occur_time_nanos = int(CALLED_AT.timestamp()) * 10**9
    prompt_tokens = USAGE["input"] + USAGE["cache_read"] + USAGE["cache_write"]
    completion_tokens = USAGE["output"] + USAGE["reasoning"]
    litellm_usage = LiteLlmUsage(
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        prompt_tokens_details=PromptTokensDetailsWrapper(
            cached_tokens=USAGE["cache_read"], cache_creation_tokens=USAGE["cache_write"]
        ),
        completion_tokens_details=CompletionTokensDetailsWrapper(reasoning_tokens=USAGE["reasoning"]),
        cache_creation_input_tokens=USAGE["cache_write"],
        cache_read_input_tokens=USAGE["cache_read"],
    )
    genai_usage = genai_prices.Usage(
        input_tokens=prompt_tokens,
        cache_read_tokens=USAGE["cache_read"],
        cache_write_tokens=USAGE["cache_write"],
        output_tokens=completion_tokens,
    )
    facts: dict[str, Any] = {"model": MODEL, "usage": USAGE, "occur_time_nanos": occur_time_nanos}
    return {
        "taximeter": lambda: card.price(**facts).cost_picos,
        "taximeter, cost alone": lambda: card.cost_picos(**facts),
        "taximeter, every line read": lambda: [
            (line.usage_class, line.quantity, line.unit_price, line.cost_picos)
            for line in card.price(**facts).lines
        ],
        "litellm": lambda: litellm.cost_per_token(
            model=MODEL,
            custom_llm_provider="anthropic",
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            usage_object=litellm_usage,
        ),
        "genai-prices": lambda: genai_prices.calc_price(
            genai_usage, MODEL, provider_id="anthropic", genai_request_timestamp=CALLED_AT
        ),
    }


def large_card() -> str:
    """Return a card of many rows, one in ten with overlays, as price lists of resellers have them."""
    when = (
        ", when: [{context_over: 200000, input: 6, output: 22.50}, {tier: batch, multiply: 0.5},"
        " {region: us, multiply: 1.1}]"
    )
    rows = [
        f'    "model-{number}": {{input: {number % 20}.5, output: {number % 20}.25, cache_read: 0.3,'
        f" cache_write: 3.75{when if number % 10 == 0 else ''}}}"
        for number in range(CARD_ROWS)
    ]
    return "billing:\n  rate_card:\n" + "\n".join(rows) + "\n"


def processor_nanos(action: Callable[[], object], count: int) -> int:
    """Return what one of count runs costs."""
    started = time.process_time_ns()
    for _ in range(count):
        action()
    return (time.process_time_ns() - started) // count


def best(actions: dict[str, Callable[[], object]], counts: dict[str, int]) -> dict[str, int]:
    """Return the least cost of each in nanoseconds; rounds are interleaved."""
    rounds = [
        {name: processor_nanos(action, counts[name]) for name, action in actions.items()}
        for _ in range(ROUNDS)
    ]
    return {name: min(each[name] for each in rounds) for name in actions}


def main() -> None:
    """Measure and print."""
    actions = calculators()
    if actions["taximeter"]() != COST_PICOS:
        raise SystemExit(f"the call costs {actions['taximeter']()} and not {COST_PICOS}")
    costs = best(actions, CALLS)
    print(f"{'pricing one call of five classes from Python':48}{'ns':>12}{'x taximeter':>14}")
    for name, nanos in costs.items():
        print(f"{name:48}{nanos:>12,}{nanos // costs['taximeter']:>14,}")
    # A server has not these packages in memory, and its garbage collector does not walk them.
    gc.collect()
    gc.freeze()
    text = large_card()
    document = parse_rate_card(text)
    loading: dict[str, Callable[[], object]] = {
        "load it, from text to compiled": lambda: RateCard(parse_rate_card(text).canonical_json),
        "read and check the YAML, once when published": lambda: parse_rate_card(text),
        "compile it, at every start and on every instance": lambda: RateCard(document.canonical_json),
    }
    print(f"a card of {CARD_ROWS:,} rows")
    for name, nanos in best(loading, dict.fromkeys(loading, 1)).items():
        print(f"{name:48}{nanos:>12,}")


if __name__ == "__main__":
    main()
