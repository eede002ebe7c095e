# SPDX-License-Identifier: Apache-2.0
"""litellm as it is, metered by one line."""

import asyncio
import gc
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from wrappers.provider_server import WORDS, ProviderServer
from wrappers.test_metered_clients import ASKED, CHARGED, charged

from taximeter import AsyncMeter, Meter, metered

# litellm leaves its own sockets and files to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.timeout(120),
]


@pytest.fixture(scope="module")
def litellm() -> Iterator[Any]:
    """The module, which takes long to import and would fetch prices."""
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")
        patch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
        import litellm  # noqa: PLC0415 (see above)
    yield litellm
    with warnings.catch_warnings():
        # It closes none of its clients; they go now, where nobody minds.
        warnings.simplefilter("ignore")
        litellm.in_memory_llm_clients_cache.flush_cache()  # type: ignore[no-untyped-call]  # as it is
        gc.collect()


def test_litellm_is_charged(meter: Meter, provider: ProviderServer, tenant: str, litellm: Any) -> None:
    """Completions, streams and what is awaited are recorded with the usage that litellm makes of it."""
    options = {"api_base": f"{provider.url}/v1", "api_key": "none", "max_retries": 0}
    client = metered(litellm, meter, tenant, provider="openai")
    assert client.completion("openai/gpt-5", messages=ASKED, **options).usage
    chunks = list(client.completion(model="openai/gpt-5", messages=ASKED, stream=True, **options))
    assert len(chunks) >= len(WORDS)

    async def run() -> None:
        async with AsyncMeter(connection=meter.connection) as awaited:
            answer = await metered(litellm, awaited, tenant).acompletion(
                "openai/gpt-5", messages=ASKED, **options
            )
            assert answer.usage
            stream = await metered(litellm, awaited, tenant, provider="openai").acompletion(
                "openai/gpt-5", messages=ASKED, stream=True, **options
            )
            assert len([chunk async for chunk in stream]) >= len(WORDS)

    asyncio.run(run())
    assert charged(meter, tenant, 4) == {name: 4 * count for name, count in CHARGED.items()}
    assert client.get_max_tokens is litellm.get_max_tokens
