# SPDX-License-Identifier: Apache-2.0
"""The official SDKs, metered by one line: whole answers, streams, interrupted ones, errors and denials."""

import contextlib
import gc
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import anthropic
import openai
import pytest
from google import genai
from wrappers.google_answers import WORDS
from wrappers.provider_server import ProviderServer

from taximeter import (
    ConfigurationError,
    LimitKind,
    Limits,
    Meter,
    QuotaDeniedError,
    metered,
)
from taximeter.clock import system_clock_ms

CHARGED = {"input": 12, "cache_read": 8, "output": 6, "reasoning": 4}
"""What every provider's answer comes to, but for reasoning that Anthropic does not tell apart."""
MESSAGE_CHARGED = {"input": 12, "cache_read": 8, "output": 10}
ASKED: Any = [{"role": "user", "content": "Say hello."}]


def charged(meter: Meter, tenant: str, calls: int = 1) -> dict[str, int]:
    """What the tenant was charged for; the number of calls must be that."""
    now = datetime.fromtimestamp(system_clock_ms() // 1_000, UTC)
    report = meter.report(now - timedelta(days=1), now + timedelta(days=1), tenant=tenant)
    assert report.total.calls == calls
    return dict(report.total.quantities)


def openai_client(provider: ProviderServer) -> openai.OpenAI:
    """The official client."""
    return openai.OpenAI(base_url=f"{provider.url}/v1", api_key="none", max_retries=0)


def anthropic_client(provider: ProviderServer) -> anthropic.Anthropic:
    """The official client."""
    return anthropic.Anthropic(base_url=provider.url, api_key="none", max_retries=0)


def gemini_client(provider: ProviderServer) -> genai.Client:
    """The official client."""
    return genai.Client(api_key="none", http_options={"base_url": provider.url})


def texts(chunks: Iterable[Any]) -> str:
    """The text of a chat completion's chunks; each must have a choice, as without the meter."""
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


def streamed(helper: Any) -> list[Any]:
    """The events of an SDK's helper for streams."""
    with helper as stream:
        return list(stream)


def read_lines(helper: Any) -> list[str]:
    """The lines of a streaming response."""
    with helper as response:
        return list(response.iter_lines())


def parsed_stream(helper: Any) -> list[Any]:
    """The events of a streaming response."""
    with helper as response:
        return list(response.parse())


SYNC_CALLS: dict[str, tuple[Callable[[ProviderServer], Any], Callable[[Any], object], dict[str, int]]] = {
    "chat": (
        openai_client,
        lambda client: client.chat.completions.create(model="gpt-5", messages=ASKED),
        CHARGED,
    ),
    "chat stream": (
        openai_client,
        lambda client: texts(client.chat.completions.create(model="gpt-5", messages=ASKED, stream=True)),
        CHARGED,
    ),
    "chat raw": (
        openai_client,
        lambda client: client.chat.completions.with_raw_response.create(
            model="gpt-5", messages=ASKED
        ).parse(),
        CHARGED,
    ),
    "chat stream raw": (
        openai_client,
        lambda client: texts(
            client.chat.completions.with_raw_response.create(
                model="gpt-5", messages=ASKED, stream=True
            ).parse()
        ),
        CHARGED,
    ),
    "chat stream of a streaming response": (
        openai_client,
        lambda client: parsed_stream(
            client.chat.completions.with_streaming_response.create(model="gpt-5", messages=ASKED, stream=True)
        ),
        CHARGED,
    ),
    "responses": (
        openai_client,
        lambda client: client.responses.create(model="gpt-5", input="Say hello."),
        CHARGED | {"web_searches": 1},
    ),
    "responses stream": (
        openai_client,
        lambda client: list(client.responses.create(model="gpt-5", input="Say hello.", stream=True)),
        CHARGED | {"web_searches": 1},
    ),
    "responses helper": (
        openai_client,
        lambda client: streamed(client.responses.stream(model="gpt-5", input="Say hello.")),
        CHARGED | {"web_searches": 1},
    ),
    "responses parsed": (
        openai_client,
        lambda client: client.responses.parse(model="gpt-5", input="Say hello."),
        CHARGED | {"web_searches": 1},
    ),
    "chat helper": (
        openai_client,
        lambda client: streamed(client.chat.completions.stream(model="gpt-5", messages=ASKED)),
        CHARGED,
    ),
    "chat parsed": (
        openai_client,
        lambda client: client.chat.completions.parse(model="gpt-5", messages=ASKED),
        CHARGED,
    ),
    "chat with options": (
        openai_client,
        lambda client: (
            client.with_options(timeout=5)
            .copy(max_retries=1)
            .chat.completions.create(model="gpt-5", messages=ASKED)
        ),
        CHARGED,
    ),
    "embeddings": (
        openai_client,
        lambda client: client.embeddings.create(
            model="text-embedding-3-small", input="x", encoding_format="float"
        ),
        {"input": 7},
    ),
    "messages": (
        anthropic_client,
        lambda client: client.messages.create(model="claude-opus-4-7", max_tokens=9, messages=ASKED),
        MESSAGE_CHARGED,
    ),
    "messages stream raw": (
        anthropic_client,
        lambda client: list(
            client.messages.with_raw_response.create(
                model="claude-opus-4-7", max_tokens=9, messages=ASKED, stream=True
            ).parse()
        ),
        MESSAGE_CHARGED,
    ),
    "messages stream": (
        anthropic_client,
        lambda client: list(
            client.messages.create(model="claude-opus-4-7", max_tokens=9, messages=ASKED, stream=True)
        ),
        MESSAGE_CHARGED,
    ),
    "beta messages helper": (
        anthropic_client,
        lambda client: streamed(
            client.beta.messages.stream(model="claude-opus-4-7", max_tokens=9, messages=ASKED)
        ),
        MESSAGE_CHARGED,
    ),
    "messages with options": (
        anthropic_client,
        lambda client: client.with_options(timeout=5).messages.create(
            model="claude-opus-4-7", max_tokens=9, messages=ASKED
        ),
        MESSAGE_CHARGED,
    ),
    "chat of Gemini": (
        gemini_client,
        lambda client: list(client.chats.create(model="gemini-2.5-pro").send_message_stream("Say hello.")),
        CHARGED,
    ),
    "generate": (
        gemini_client,
        lambda client: client.models.generate_content(model="gemini-2.5-pro", contents="Say hello."),
        CHARGED,
    ),
    "generate stream": (
        gemini_client,
        lambda client: list(
            client.models.generate_content_stream(model="gemini-2.5-pro", contents="Say hello.")
        ),
        CHARGED,
    ),
}


@pytest.mark.parametrize("name", SYNC_CALLS)
def test_every_call_is_charged_as_it_was_reported(
    meter: Meter, provider: ProviderServer, tenant: str, name: str
) -> None:
    """Each API of each SDK, streaming and not, is recorded once with the usage of its answer."""
    make, call, expected = SYNC_CALLS[name]
    with contextlib.closing(make(provider)) as client:
        assert call(metered(client, meter, tenant))

    assert charged(meter, tenant) == expected


def test_a_stream_looks_as_it_would_without_the_meter(
    meter: Meter, provider: ProviderServer, tenant: str
) -> None:
    """The chunk that only the meter asked for is not shown; who asked for it gets it."""
    with openai_client(provider) as client:
        create = metered(client, meter, tenant).chat.completions.create
        plain = create(model="gpt-5", messages=ASKED, stream=True)
        assert [len(chunk.choices) for chunk in plain] == [1] * (len(WORDS) + 1)
        option = {"include_usage": True}
        asked = create(model="gpt-5", messages=ASKED, stream=True, stream_options=option)  # type: ignore[call-overload]
        assert [len(chunk.choices) for chunk in asked] == [1] * (len(WORDS) + 1) + [0]
    assert charged(meter, tenant, 2)["input"] == 2 * CHARGED["input"]


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_model_that_was_asked_for_advice_is_charged_too(
    meter: Meter, provider: ProviderServer, tenant: str, *, is_stream: bool
) -> None:
    """What the iterations of another model used is a record of that model, beside the answer's own."""
    with anthropic_client(provider) as client:
        create: Any = metered(client, meter, tenant).messages.create
        answer = create(model="claude-sonnet-5", max_tokens=9, messages=ASKED, stream=is_stream)
        assert not is_stream or list(answer)
    now = datetime.fromtimestamp(system_clock_ms() // 1_000, UTC)
    report = meter.report(now - timedelta(days=1), now + timedelta(days=1), tenant=tenant, group_by=["model"])

    assert {row.group["model"]: dict(row.measures.quantities) for row in report.rows} == {
        "claude-sonnet-5": MESSAGE_CHARGED,
        "claude-opus-4-7": {"input": 800, "output": 60},
    }


def test_the_sdks_helper_for_streams_is_charged(meter: Meter, provider: ProviderServer, tenant: str) -> None:
    """Anthropic's message streams, which read events themselves, give their text and are charged."""
    with (
        anthropic_client(provider) as client,
        metered(client, meter, tenant).messages.stream(
            model="claude-opus-4-7", max_tokens=9, messages=ASKED
        ) as stream,
    ):
        assert "".join(stream.text_stream) == "".join(WORDS)
    assert charged(meter, tenant) == MESSAGE_CHARGED


@pytest.mark.parametrize(
    ("make", "call", "expected"),
    [
        (
            openai_client,
            lambda client: client.chat.completions.create(model="gpt-5", messages=ASKED, stream=True),
            None,
        ),
        (
            anthropic_client,
            lambda client: client.messages.create(
                model="claude-opus-4-7", max_tokens=9, messages=ASKED, stream=True
            ),
            {"input": 12, "cache_read": 8, "output": 2},
        ),
    ],
    ids=["openai", "anthropic"],
)
def test_an_interrupted_stream_is_charged_as_estimated(
    meter: Meter,
    provider: ProviderServer,
    tenant: str,
    make: Callable[[ProviderServer], Any],
    call: Callable[[Any], Any],
    expected: dict[str, int] | None,
) -> None:
    """A caller that turns away pays for what has come: by what was reported so far, else by the length of the texts."""
    with contextlib.closing(make(provider)) as client:
        stream = call(metered(client, meter, tenant))
        for event in stream:
            if getattr(event, "type", "") == "content_block_delta" or getattr(event, "choices", None):
                break
        stream.close()
        stream.close()

    found = charged(meter, tenant)
    if expected is None:
        assert found["output"] == -(-len(WORDS[0]) // 4)
        assert found["input"] > 0
    else:
        assert found == expected


def test_a_stream_that_is_dropped_is_charged_as_estimated(
    meter: Meter, provider: ProviderServer, tenant: str
) -> None:
    """The provider was asked, so the prompt is charged, even where nobody read of the answer or closed it."""
    with openai_client(provider) as client:
        create = metered(client, meter, tenant).chat.completions.create
        create(model="gpt-5", messages=ASKED, stream=True)
        next(iter(create(model="gpt-5", messages=ASKED, stream=True)))
        gc.collect()
    assert charged(meter, tenant, 2)["input"] > 0


def test_a_stream_that_is_read_as_bytes_is_charged_as_estimated(
    meter: Meter, provider: ProviderServer, tenant: str
) -> None:
    """Whoever takes the lines of a streaming response pays when it is closed, for the prompt at least."""
    with openai_client(provider) as client:
        create = metered(client, meter, tenant).chat.completions.with_streaming_response.create
        assert read_lines(create(model="gpt-5", messages=ASKED, stream=True))
    assert charged(meter, tenant)["input"] > 0


def test_a_call_that_fails_is_free(meter: Meter, provider: ProviderServer, tenant: str) -> None:
    """An error of the provider reaches the caller as it is, and nothing is charged."""
    with openai_client(provider) as client, pytest.raises(openai.InternalServerError):
        metered(client, meter, tenant).chat.completions.create(model="broken", messages=ASKED)
    charged(meter, tenant, 0)


def test_a_denied_call_never_reaches_the_provider(
    meter: Meter, provider: ProviderServer, tenant: str
) -> None:
    """Over its limit a tenant is told so, and the provider is not asked."""
    meter.put_tenant(tenant, Limits(requests_per_minute=0))
    before = len(provider.requests)
    with openai_client(provider) as client, pytest.raises(QuotaDeniedError) as caught:
        metered(client, meter, tenant).chat.completions.create(model="gpt-5", messages=ASKED)
    assert len(provider.requests) == before
    assert LimitKind.REQUESTS_PER_MINUTE in {limit.kind for limit in caught.value.decision.limits}


def weather() -> str:
    """What the weather is like."""
    return "fine"


@pytest.mark.parametrize("is_stream", [False, True])
def test_each_request_of_a_call_that_calls_functions_is_charged(
    meter: Meter, provider: ProviderServer, tenant: str, *, is_stream: bool
) -> None:
    """Where Gemini's SDK calls functions by itself, the request that asked for them is charged beside the last one."""
    with gemini_client(provider) as client:
        models: Any = metered(client, meter, tenant).models
        asked: Any = {"model": "gemini-2.5-pro", "contents": "Hi", "config": {"tools": [weather]}}
        found = models.generate_content_stream(**asked) if is_stream else [models.generate_content(**asked)]
        answers = list(found)
    assert answers[-1].text

    assert charged(meter, tenant, 2) == {name: 2 * count for name, count in CHARGED.items()}


def test_what_is_no_call_to_a_model_is_not_metered(
    meter: Meter, provider: ProviderServer, tenant: str
) -> None:
    """Counting tokens costs nothing and is not charged."""
    with anthropic_client(provider) as client:
        messages = metered(client, meter, tenant).messages
        assert messages.count_tokens(model="claude-opus-4-7", messages=ASKED).input_tokens == 12
    charged(meter, tenant, 0)


def test_other_objects_are_refused(meter: Meter) -> None:
    """What nobody knows how to meter is not silently left alone."""
    with pytest.raises(ConfigurationError, match="no client that can be metered"):
        metered(object(), meter, "acme")
