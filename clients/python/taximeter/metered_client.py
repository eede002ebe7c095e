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
    IMAGES,
    MESSAGES,
    RESPONSES,
    TRANSCRIPTIONS,
    Api,
    with_usage,
)
from taximeter._metered_google import meter_google
from taximeter._metered_litellm import MeteredLitellm
from taximeter._metered_streams import Metering, unmetered
from taximeter.aio import AsyncMeter
from taximeter.client import Meter
from taximeter.errors import ConfigurationError
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
_UNMETERED = {
    "openai": (("audio.speech", "create"), ("audio.translations", "create"), ("videos", "create")),
    "anthropic": (),
}
"""Methods whose answers have no usage."""
_PROVIDERS = {
    "AzureOpenAI": "azure.ai.openai",
    "AsyncAzureOpenAI": "azure.ai.openai",
    "AnthropicBedrock": "aws.bedrock",
    "AsyncAnthropicBedrock": "aws.bedrock",
    "AnthropicVertex": "gcp.vertex_ai",
    "AsyncAnthropicVertex": "gcp.vertex_ai",
}
"""Providers of clients that are named otherwise than their SDK."""


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
    metering = Metering(meter, tenant, named, attributes, durable=durable)
    if kind in _RESOURCES:
        for path, api in _RESOURCES[kind]:
            if (resource := _resource(client, path)) is not None:
                resource._post = _posted(resource._post, metering, api)  # noqa: SLF001 (see _RESOURCES)
        for path, name in _UNMETERED[kind]:
            if (resource := _resource(client, path)) is not None:
                setattr(resource, name, unmetered(getattr(resource, name), f"{kind}'s {path}.{name}"))
        again = functools.partial(
            metered, meter=meter, tenant=tenant, provider=provider, attributes=attributes, durable=durable
        )
        for name in ("copy", "with_options"):
            setattr(client, name, _copied(getattr(client, name), again))
    elif kind == "google":
        meter_google(client.aio if isinstance(meter, AsyncMeter) else client, metering)  # type: ignore[attr-defined]
    elif kind == "litellm":
        return MeteredLitellm(client, metering)  # type: ignore[return-value]  # looks like the module
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


def _posted(post: Callable[..., Any], metering: Metering, api: Api) -> Callable[..., Any]:
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
            options["body"] = with_usage(body)
        return metering.send(api, body, lambda: post(path, **options), is_stream=is_stream)

    return metered_post
