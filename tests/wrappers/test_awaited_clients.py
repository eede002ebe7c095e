# SPDX-License-Identifier: Apache-2.0
"""The official SDKs' asynchronous clients, metered by one line."""

import asyncio
import gc
import logging
from typing import Any

import anthropic
import openai
import pytest
from wrappers.google_answers import WORDS
from wrappers.provider_server import ProviderServer
from wrappers.test_metered_clients import ASKED, CHARGED, charged, gemini_client

from taximeter import AsyncMeter, Meter, metered


# google-genai's own, where litellm has brought aiohttp.
@pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")
def test_awaited_clients_are_metered(meter: Meter, provider: ProviderServer, tenant: str) -> None:
    """The SDKs' asynchronous clients are metered by the asyncio client, streams and interrupted ones, too."""

    async def run() -> None:
        async with (
            AsyncMeter(connection=meter.connection) as client,
            openai.AsyncOpenAI(base_url=f"{provider.url}/v1", api_key="none") as openai_sdk,
            anthropic.AsyncAnthropic(base_url=provider.url, api_key="none") as anthropic_sdk,
        ):
            chat = metered(openai_sdk, client, tenant).chat.completions
            assert (await chat.create(model="gpt-5", messages=ASKED)).usage
            stream = await chat.create(model="gpt-5", messages=ASKED, stream=True)
            assert len([chunk async for chunk in stream]) == len(WORDS) + 1
            messages = metered(anthropic_sdk, client, tenant).messages
            cut = await messages.create(model="claude-opus-4-7", max_tokens=9, messages=ASKED, stream=True)
            async for event in cut:
                if event.type == "content_block_delta":
                    break
            await cut.close()
            gemini = gemini_client(provider)
            models = metered(gemini, client, tenant).aio.models
            assert (await models.generate_content(model="gemini-2.5-pro", contents="Hi")).text
            chunks = await models.generate_content_stream(model="gemini-2.5-pro", contents="Hi")
            assert len([chunk async for chunk in chunks]) == len(WORDS)
            await gemini.aio.aclose()
            gemini.close()

    asyncio.run(run())
    assert charged(meter, tenant, 5) == {
        "input": 5 * 12,
        "cache_read": 5 * 8,
        "output": 4 * 6 + 2,
        "reasoning": 4 * 4,
    }


@pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")
def test_awaited_helpers_for_streams_are_charged(meter: Meter, provider: ProviderServer, tenant: str) -> None:
    """Helpers of the asynchronous SDKs, which read events themselves, are charged like the calls below them."""

    async def run() -> None:
        async with (
            AsyncMeter(connection=meter.connection) as client,
            openai.AsyncOpenAI(base_url=f"{provider.url}/v1", api_key="none") as openai_sdk,
            anthropic.AsyncAnthropic(base_url=provider.url, api_key="none") as anthropic_sdk,
        ):
            spoken = metered(openai_sdk, client, tenant)
            async with spoken.chat.completions.stream(model="gpt-5", messages=ASKED) as chat:
                assert [event async for event in chat]
            async with spoken.with_options(timeout=5).responses.stream(
                model="gpt-5", input="Say hello."
            ) as responses:
                assert (await responses.get_final_response()).usage
            messages = metered(anthropic_sdk, client, tenant).messages
            async with messages.stream(model="claude-opus-4-7", max_tokens=9, messages=ASKED) as said:
                assert "".join([text async for text in said.text_stream]) == "".join(WORDS)
            gemini = gemini_client(provider)
            chats = metered(gemini, client, tenant).aio.chats.create(model="gemini-2.5-pro")
            assert [chunk async for chunk in await chats.send_message_stream("Say hello.")]
            await gemini.aio.aclose()
            gemini.close()

    asyncio.run(run())
    assert charged(meter, tenant, 4) == {
        "input": 4 * 12,
        "cache_read": 4 * 8,
        "output": 3 * 6 + 10,
        "reasoning": 3 * 4,
        "web_searches": 1,
    }


def test_awaited_raw_responses_are_charged(meter: Meter, provider: ProviderServer, tenant: str) -> None:
    """Raw responses, with and without a stream, give what they would and are charged as reported."""

    async def run() -> None:
        async with (
            AsyncMeter(connection=meter.connection) as client,
            openai.AsyncOpenAI(base_url=f"{provider.url}/v1", api_key="none") as sdk,
        ):
            chat: Any = metered(sdk, client, tenant).chat.completions
            asked: Any = {"model": "gpt-5", "messages": ASKED}
            assert (await chat.with_raw_response.create(**asked)).parse().usage
            raw = await chat.with_raw_response.create(**asked, stream=True)
            assert len([chunk async for chunk in raw.parse()]) == len(WORDS) + 1
            async with chat.with_streaming_response.create(**asked) as response:
                assert (await response.parse()).usage
            async with chat.with_streaming_response.create(**asked, stream=True) as response:
                assert len([chunk async for chunk in await response.parse()]) == len(WORDS) + 1

    asyncio.run(run())
    assert charged(meter, tenant, 4) == {name: 4 * count for name, count in CHARGED.items()}


def test_an_awaited_stream_that_is_dropped_is_charged_or_said(
    meter: Meter, provider: ProviderServer, tenant: str, caplog: pytest.LogCaptureFixture
) -> None:
    """One that was begun is charged as estimated when it is dropped; of one that was not, the log tells."""

    async def run() -> None:
        async with (
            AsyncMeter(connection=meter.connection) as client,
            openai.AsyncOpenAI(base_url=f"{provider.url}/v1", api_key="none") as sdk,
        ):
            chat = metered(sdk, client, tenant).chat.completions
            await anext(await chat.create(model="gpt-5", messages=ASKED, stream=True))
            gc.collect()
            await asyncio.sleep(0)
            assert caplog.messages == []
            await chat.create(model="gpt-5", messages=ASKED, stream=True)
            gc.collect()

    with caplog.at_level(logging.WARNING, "taximeter.metered"):
        asyncio.run(run())
    assert caplog.messages == ["a stream that nobody closed is not charged: close those that you do not read"]
    assert charged(meter, tenant, 1)["input"] > 0
