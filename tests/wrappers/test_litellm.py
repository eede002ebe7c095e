# SPDX-License-Identifier: Apache-2.0
"""litellm as it is, metered by one line."""

import asyncio
import gc
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from wrappers.google_answers import WORDS
from wrappers.provider_server import ProviderServer
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


def test_responses_of_litellm_are_charged(
    meter: Meter, provider: ProviderServer, tenant: str, litellm: Any
) -> None:
    """Responses, their streams and what is awaited are recorded as reported; a stream that is left, as estimated."""
    options = {"api_base": f"{provider.url}/v1", "api_key": "none", "max_retries": 0}
    client = metered(litellm, meter, tenant, provider="openai")
    assert client.responses("Say hello.", "openai/gpt-5", **options).usage
    assert list(client.responses(input="Say hello.", model="openai/gpt-5", stream=True, **options))

    async def run() -> None:
        async with AsyncMeter(connection=meter.connection) as awaited:
            client = metered(litellm, awaited, tenant, provider="openai")
            assert (await client.aresponses("Say hello.", model="openai/gpt-5", **options)).usage
            stream = await client.aresponses("Say hello.", "openai/gpt-5", stream=True, **options)
            assert [event async for event in stream]
            left = await client.aresponses("Say hello.", "openai/gpt-5", stream=True, **options)
            async for event in left:
                if event.type == "response.output_text.delta":
                    break
            await left.close()
            await litellm.close_litellm_async_clients()

    asyncio.run(run())
    found = charged(meter, tenant, 5)
    whole = {name: 4 * count for name, count in CHARGED.items()} | {"web_searches": 4}
    assert found["output"] == whole["output"] + -(-len(WORDS[0]) // 4)
    assert found["input"] > whole["input"]
    assert {name: found[name] for name in ("cache_read", "reasoning", "web_searches")} == {
        name: whole[name] for name in ("cache_read", "reasoning", "web_searches")
    }


def test_what_litellm_is_not_metered_for_is_said(
    meter: Meter, tenant: str, litellm: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A function that calls a model and is not metered says so in the log before it does."""
    client = metered(litellm, meter, tenant)
    with pytest.raises(TypeError):
        client.rerank()
    assert "litellm's rerank reports no usage that is understood: it is not metered" in caplog.messages
