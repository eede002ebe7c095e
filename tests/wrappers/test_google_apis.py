# SPDX-License-Identifier: Apache-2.0
"""google-genai's embeddings and interactions, metered by one line; what has no usage is said not to be metered."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from google import genai
from google.genai import errors
from wrappers.google_answers import WORDS
from wrappers.provider_server import ProviderServer
from wrappers.test_metered_clients import CHARGED, charged, gemini_client

from taximeter import AsyncMeter, Meter, metered

INTERACTED = CHARGED | {"web_searches": 1}


def vertex_client(provider: ProviderServer) -> genai.Client:
    """The official client, of Vertex."""
    return genai.Client(vertexai=True, api_key="none", http_options={"base_url": provider.url})


CALLS: dict[str, tuple[Callable[[ProviderServer], Any], Callable[[Any], object], int, dict[str, int]]] = {
    "embeddings": (
        gemini_client,
        lambda client: client.models.embed_content(model="gemini-embedding-001", contents=["a", "b"]),
        1,
        {"input": 7},
    ),
    "embeddings of Vertex, counted by content": (
        vertex_client,
        lambda client: client.models.embed_content(model="text-embedding-005", contents=["a", "b"]),
        1,
        {"input": 14},
    ),
    "generate with searches": (
        gemini_client,
        lambda client: client.models.generate_content(model="gemini-3-pro", contents="Hi"),
        1,
        CHARGED | {"web_searches": 2},
    ),
    "stream with searches": (
        gemini_client,
        lambda client: list(client.models.generate_content_stream(model="gemini-3-pro", contents="Hi")),
        1,
        CHARGED | {"web_searches": 2},
    ),
    "interaction": (
        gemini_client,
        lambda client: client.interactions.create(model="gemini-2.5-pro", input="Hi"),
        1,
        INTERACTED,
    ),
    "interaction of an agent": (
        gemini_client,
        lambda client: client.interactions.create(agent="deep-research-pro", input="Hi"),
        1,
        INTERACTED,
    ),
    "interaction as a request": (
        gemini_client,
        lambda client: client.interactions.create(
            request={"body": {"model": "gemini-2.5-pro", "input": "Hi"}}
        ),
        1,
        INTERACTED,
    ),
    "interaction raw": (
        gemini_client,
        lambda client: client.interactions.with_raw_response.create(
            model="gemini-2.5-pro", input="Hi"
        ).parse(),
        1,
        INTERACTED,
    ),
    "interaction stream": (
        gemini_client,
        lambda client: list(client.interactions.create(model="gemini-2.5-pro", input="Hi", stream=True)),
        1,
        INTERACTED,
    ),
    "interaction that is continued": (
        gemini_client,
        lambda client: client.interactions.create(model="long-gemini", input="Hi"),
        2,
        INTERACTED,
    ),
    "stream that is continued": (
        gemini_client,
        lambda client: list(client.interactions.create(model="long-gemini", input="Hi", stream=True)),
        2,
        INTERACTED,
    ),
}


@pytest.fixture
def gemini(meter: Meter, provider: ProviderServer, tenant: str) -> Iterator[Any]:
    """The official client, metered."""
    with contextlib.closing(gemini_client(provider)) as client:
        yield metered(client, meter, tenant)


@pytest.mark.parametrize("name", CALLS)
def test_every_call_is_charged_as_it_was_reported(
    meter: Meter, provider: ProviderServer, tenant: str, name: str
) -> None:
    """Embeddings and interactions are one record each, of what all of a call's requests reported."""
    make, call, times, expected = CALLS[name]
    with contextlib.closing(make(provider)) as client:
        assert call(metered(client, meter, tenant))
    assert charged(meter, tenant) == {counted: times * count for counted, count in expected.items()}


@pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")
def test_awaited_calls_are_charged(meter: Meter, provider: ProviderServer, tenant: str) -> None:
    """The same of a client that is awaited, a stream that is left early among them."""

    async def run() -> None:
        async with AsyncMeter(connection=meter.connection) as awaited:
            gemini = gemini_client(provider)
            client: Any = metered(gemini, awaited, tenant).aio
            assert (await client.models.embed_content(model="gemini-embedding-001", contents="a")).embeddings
            assert (await client.interactions.create(model="gemini-2.5-pro", input="Hi")).usage
            stream = await client.interactions.create(model="gemini-2.5-pro", input="Hi", stream=True)
            assert [event async for event in stream]
            left = await client.interactions.create(model="long-gemini", input="Hi", stream=True)
            async for event in left:
                if event.event_type == "interaction.completed":
                    break
            await left.close()
            await client.aclose()
            gemini.close()

    asyncio.run(run())
    interacted = {name: 3 * count for name, count in INTERACTED.items()}
    assert charged(meter, tenant, 4) == interacted | {"input": 3 * INTERACTED["input"] + 7}


def test_an_interrupted_stream_is_charged_as_estimated(gemini: Any, meter: Meter, tenant: str) -> None:
    """Who leaves a stream within its second request pays for the first one, and for prompt and texts of the other."""
    stream = gemini.interactions.create(model="long-gemini", input="Hi", stream=True)
    seen = 0
    for event in stream:
        seen += event.event_type == "step.delta"
        if seen == len(WORDS) + 1:
            break
    stream.close()
    again = -(-len(WORDS[0]) // 4)
    expected = INTERACTED | {"input": INTERACTED["input"] + 20, "output": INTERACTED["output"] + again}
    assert charged(meter, tenant) == expected


def test_what_was_done_before_a_failure_is_charged(gemini: Any, meter: Meter, tenant: str) -> None:
    """Where the second request of an interaction fails, the caller gets the error and pays for the first."""
    with pytest.raises(errors.ContinuationInterruptedError):
        gemini.interactions.create(model="long-lost", input="Hi")
    assert charged(meter, tenant) == INTERACTED


def test_what_reports_no_usage_is_estimated_and_said(
    gemini: Any, meter: Meter, tenant: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A model that counts nothing is charged by the length of what was asked, and the log says so once."""
    with caplog.at_level(logging.WARNING, "taximeter.metered"):
        for _ in range(2):
            embedded = gemini.models.embed_content(model="text-embedding-004", contents="What is it?")
            assert embedded.embeddings
    assert charged(meter, tenant, 2)["input"] > 0
    assert caplog.messages == [
        "embedContent of text-embedding-004 reported no usage: it is charged as estimated"
    ]


def test_what_is_not_metered_is_said(
    gemini: Any, meter: Meter, tenant: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A method whose answer has no usage goes through as it is, and the log says that nobody charges it."""
    with (
        caplog.at_level(logging.WARNING, "taximeter.metered"),
        pytest.raises(ValueError, match="only supported in Gemini Enterprise"),
    ):
        gemini.models.segment_image(model="image-segmentation-001", source={})
    assert caplog.messages == [
        "google-genai's segment_image reports no usage that is understood: it is not metered"
    ]
    charged(meter, tenant, 0)
