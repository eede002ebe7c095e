# SPDX-License-Identifier: Apache-2.0
"""Meters a client of a provider's SDK by one line: `client = metered(OpenAI(), meter, "acme/research")`.

Each call asks first whether it may go on, and is recorded with the usage object of its answer, streams when they end.
The SDKs are not imported here: what is done to their clients is to replace the method through which all calls go.
"""

import functools
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, TypeVar

from taximeter._answers import (
    CHAT,
    EMBEDDINGS,
    GENERATE_CONTENT,
    IMAGES,
    MESSAGES,
    RESPONSES,
    TRANSCRIPTIONS,
    Api,
)
from taximeter._metered_streams import run, run_async
from taximeter.aio import AsyncMeter
from taximeter.client import Meter
from taximeter.errors import ConfigurationError
from taximeter.metered_call import CallPlan
from taximeter.usage import NO_ATTRIBUTES

ClientT = TypeVar("ClientT")

_RESOURCES: Mapping[str, tuple[tuple[str, Api], ...]] = {
    "openai": (
        ("chat.completions", CHAT),
        ("completions", CHAT),
        ("responses", RESPONSES),
        ("embeddings", EMBEDDINGS),
        ("images", IMAGES),
        ("audio.transcriptions", TRANSCRIPTIONS),
    ),
    "anthropic": (("messages", MESSAGES), ("beta.messages", MESSAGES)),
}
"""Where the SDKs that OpenAI and Anthropic generate have their APIs. All of a resource's calls go through `_post`."""
_PROVIDERS = {
    "AzureOpenAI": "azure.ai.openai",
    "AsyncAzureOpenAI": "azure.ai.openai",
    "AnthropicBedrock": "aws.bedrock",
    "AsyncAnthropicBedrock": "aws.bedrock",
    "AnthropicVertex": "gcp.vertex_ai",
    "AsyncAnthropicVertex": "gcp.vertex_ai",
}
"""Providers of clients that are named otherwise than their SDK."""
_USAGE_OPTION = {"include_usage": True}


class _Metering:
    """Makes the calls of one client."""

    def __init__(
        self,
        meter: Meter | AsyncMeter,
        tenant: str,
        provider: str,
        attributes: Mapping[str, str],
        *,
        durable: bool,
    ) -> None:
        self._meter = meter
        self._plan = functools.partial(
            CallPlan, tenant, provider=provider, attributes=attributes, durable=durable
        )

    def send(self, api: Api, asked: Mapping[str, Any], send: Callable[[], Any], *, is_stream: bool) -> Any:
        """Makes a call, or a coroutine that makes it."""
        plan = self._plan(str(asked.get("model", "")))
        if isinstance(self._meter, AsyncMeter):
            return run_async(self._meter.open(plan), api, asked, send, is_stream=is_stream)
        return run(self._meter.open(plan), api, asked, send, is_stream=is_stream)


def metered(
    client: ClientT,
    meter: Meter | AsyncMeter,
    tenant: str,
    *,
    provider: str = "",
    attributes: Mapping[str, str] = NO_ATTRIBUTES,
    durable: bool = False,
) -> ClientT:
    """Meters a client of `openai`, `anthropic` or `google-genai`, or the module `litellm`, for a tenant.

    Takes a Meter for a client that blocks and an AsyncMeter for one that is awaited. Calls that the limits deny raise
    QuotaDeniedError before the provider is asked. `provider` says who serves an OpenAI client with another base URL.
    With `durable` records go through the meter's spool, so that a server that is away loses none. Returns the same
    client, of litellm an object like the module. Raises ConfigurationError for anything else.
    """
    kind = client.__name__ if isinstance(client, ModuleType) else type(client).__module__.split(".")[0]
    named = provider or _PROVIDERS.get(type(client).__name__, kind)
    metering = _Metering(meter, tenant, named, attributes, durable=durable)
    if kind in _RESOURCES:
        for path, api in _RESOURCES[kind]:
            if (resource := _resource(client, path)) is not None:
                resource._post = _posted(resource._post, metering, api)  # noqa: SLF001 (see _RESOURCES)
        again = functools.partial(
            metered, meter=meter, tenant=tenant, provider=provider, attributes=attributes, durable=durable
        )
        for name in ("copy", "with_options"):
            setattr(client, name, _copied(getattr(client, name), again))
    elif kind == "google":
        models: Any = client.aio.models if isinstance(meter, AsyncMeter) else client.models  # type: ignore[attr-defined]
        _meter_gemini(models, metering)
    elif kind == "litellm":
        return _Litellm(client, metering)  # type: ignore[return-value]  # looks like the module
    else:
        message = f"{kind} is no client that can be metered: openai, anthropic, google-genai or litellm"
        raise ConfigurationError(message)
    return client


def _copied(copy: Callable[..., Any], again: Callable[[Any], Any]) -> Callable[..., Any]:
    """Meters what a client makes of itself with other options, too."""

    @functools.wraps(copy)
    def metered_copy(**options: Any) -> Any:
        return again(copy(**options))

    return metered_copy


def _resource(client: object, path: str) -> Any:
    """Returns a resource of a client. None when its version has none of that name."""
    found: Any = client
    for name in path.split("."):
        found = getattr(found, name, None)
    return found


def _posted(post: Callable[..., Any], metering: _Metering, api: Api) -> Callable[..., Any]:
    """Meters the method through which all calls of a resource go."""

    @functools.wraps(post)
    def metered_post(path: str, **options: Any) -> Any:
        body = options.get("body")
        if not isinstance(body, Mapping) or "model" not in body:
            # Not a call to a model: a cancellation, or a count of tokens by another path.
            return post(path, **options)
        if path.endswith(("/count_tokens", "/input_tokens", "/compact")):
            return post(path, **options)
        is_stream = bool(options.get("stream"))
        if is_stream and api is CHAT:
            options["body"] = _with_usage(body)
        return metering.send(api, body, lambda: post(path, **options), is_stream=is_stream)

    return metered_post


def _with_usage(asked: Mapping[str, Any]) -> dict[str, Any]:
    return {**asked, "stream_options": {**(asked.get("stream_options") or {}), **_USAGE_OPTION}}


def _meter_gemini(models: Any, metering: _Metering) -> None:
    """Meters what generate_content and generate_content_stream send.

    Either may send several requests, where it calls functions by itself or goes on after a limit, and answers with the
    usage of the last. So each request is metered, which another method makes.
    """
    for name, is_stream in (("generate_content", False), ("generate_content_stream", True)):
        sends = f"_{name}" if hasattr(models, f"_{name}") else name
        setattr(models, sends, _generated(getattr(models, sends), metering, is_stream=is_stream))


def _generated(generate: Callable[..., Any], metering: _Metering, *, is_stream: bool) -> Callable[..., Any]:
    @functools.wraps(generate)
    def metered_generate(**asked: Any) -> Any:
        return metering.send(GENERATE_CONTENT, asked, lambda: generate(**asked), is_stream=is_stream)

    return metered_generate


class _Litellm:
    """The module litellm with metered calls; whatever else it has is the module's."""

    def __init__(self, module: Any, metering: _Metering) -> None:
        self._module = module
        self._metering = metering

    def __getattr__(self, name: str) -> Any:
        """Looks up what the module has."""
        found = getattr(self._module, name)
        api = {
            "completion": CHAT,
            "acompletion": CHAT,
            "embedding": EMBEDDINGS,
            "aembedding": EMBEDDINGS,
        }.get(name)
        return found if api is None else self._metered(found, api)

    def _metered(self, function: Callable[..., Any], api: Api) -> Callable[..., Any]:
        @functools.wraps(function)
        def metered_function(model: str, *args: Any, **options: Any) -> Any:
            is_stream = bool(options.get("stream"))
            asked = {"model": model, "messages": args, **options}
            if is_stream:
                options = _with_usage(options)
            return self._metering.send(
                api, asked, lambda: function(model, *args, **options), is_stream=is_stream
            )

        return metered_function
