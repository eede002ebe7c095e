# SPDX-License-Identifier: Apache-2.0
"""Meters a client of google-genai: what generates, embeds and interacts."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

from taximeter._answers import Api, plain
from taximeter._gemini_answers import EMBED_CONTENT, GENERATE_CONTENT, INTERACTIONS
from taximeter._metered_streams import Metering, unmetered

_METHODS = (
    ("generate_content", GENERATE_CONTENT, False),
    ("generate_content_stream", GENERATE_CONTENT, True),
    ("embed_content", EMBED_CONTENT, False),
)
_UNMETERED = (
    "generate_images",
    "edit_image",
    "upscale_image",
    "recontext_image",
    "segment_image",
    "generate_videos",
)
"""Methods whose answers have no usage."""


def meter_google(client: Any, metering: Metering) -> None:
    """Meters a client's models and interactions. Takes `Client`, or its `aio` for an AsyncMeter.

    Generating may send several requests, where the SDK calls functions by itself or goes on after a limit, and answers
    with the usage of the last. So each request is metered, which another method makes. Of an interaction that goes on
    the SDK adds up the usage, or a stream has that of each request.
    """
    models = client.models
    for name, api, is_stream in _METHODS:
        sends = f"_{name}" if hasattr(models, f"_{name}") else name
        setattr(models, sends, _metered(getattr(models, sends), metering, api, is_stream=is_stream))
    for name in _UNMETERED:
        if hasattr(models, name):
            setattr(models, name, unmetered(getattr(models, name), f"google-genai's {name}"))
    if (interactions := getattr(client, "interactions", None)) is not None:
        interactions.create = _interacting(interactions.create, metering)


def _metered(
    send: Callable[..., Any], metering: Metering, api: Api, *, is_stream: bool
) -> Callable[..., Any]:
    @functools.wraps(send)
    def metered_send(**asked: Any) -> Any:
        return metering.send(api, asked, lambda: send(**asked), is_stream=is_stream)

    return metered_send


def _interacting(create: Callable[..., Any], metering: Metering) -> Callable[..., Any]:
    @functools.wraps(create)
    def metered_create(**options: Any) -> Any:
        request = plain(options.get("request"))
        body = request.get("body") if isinstance(request, Mapping) else None
        asked = {**options, **(body if isinstance(body, Mapping) else {})}
        # An agent chooses the models itself, and is what there is a price for.
        asked["model"] = asked.get("model") or asked.get("agent") or ""
        return metering.send(
            INTERACTIONS, asked, lambda: create(**options), is_stream=bool(asked.get("stream"))
        )

    return metered_create
