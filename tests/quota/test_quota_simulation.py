# SPDX-License-Identifier: Apache-2.0
"""The rules that a simulation replays decide as the store does."""

import random

import pytest
from quota.conftest import Stepped
from quota.engine_calls import INPUT_PICOS, check, limits_of, put_limits, record
from quota.model_level import COST, MS, REQUESTS, TOKENS

from taximeter_server.quota_rules import Call, Level, decide

KINDS = {REQUESTS: "requests_per_minute", TOKENS: "tokens_per_day", COST: "cost_per_day"}
STEPS_MS = (0, 0, 250, 1_000, 20_000, 60_000, 61_000, 20_000_000)


@pytest.mark.parametrize("with_estimate", [False, True])
def test_replay_decides_as_the_store(stepped: Stepped, tenant: str, with_estimate: bool) -> None:  # noqa: FBT001
    """Call by call, over minutes and midnights, the same limits deny and the same calls pass."""
    chance = random.Random(7)
    maxima = {
        tenant: {REQUESTS: 9, TOKENS: 120, COST: 200 * INPUT_PICOS},
        f"{tenant}/a": {REQUESTS: 5, COST: 90 * INPUT_PICOS},
        f"{tenant}/b": {TOKENS: 70},
    }
    for level, limits in maxima.items():
        put_limits(stepped.engine, level, limits)
    levels = {level: Level(limits_of(limits)) for level, limits in maxima.items()}
    denied_count = 0
    for _ in range(250):
        stepped.advance(chance.choice(STEPS_MS))
        path = [tenant, f"{tenant}/{chance.choice('ab')}"]
        tokens = chance.randint(0, 40)
        call = Call(path[1], stepped.now_ms // MS, chance.randint(1, 3), tokens, tokens * INPUT_PICOS)

        found = decide([levels[level] for level in path], call, with_estimate=with_estimate)
        answer = check(
            stepped.engine, call.tenant, requests=call.requests, tokens=tokens if with_estimate else None
        )
        if answer.allowed:
            record(stepped.engine, call.tenant, tokens=tokens)
        named = {id(level): name for name, level in levels.items()}
        denied = {(limit.tenant, KINDS[limit.kind]) for limit in answer.limits if limit.exceeded}
        assert {(named[id(level)], name) for level, name in found} == denied
        assert answer.allowed == (not found)
        denied_count += bool(found)
    assert 20 < denied_count < 230
