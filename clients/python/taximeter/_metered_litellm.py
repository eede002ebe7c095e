# SPDX-License-Identifier: Apache-2.0
"""The module litellm with metered calls."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

from taximeter._answers import CHAT, EMBEDDINGS, RESPONSES, Api, with_usage
from taximeter._metered_streams import Metering, unmetered

_APIS = {
    "completion": CHAT,
    "acompletion": CHAT,
    "embedding": EMBEDDINGS,
    "aembedding": EMBEDDINGS,
    "responses": RESPONSES,
    "aresponses": RESPONSES,
}
_UNMETERED = frozenset(
    prefix + name
    for prefix in ("", "a")
    for name in (
        "completion_with_retries",
        "generate_content",
        "generate_content_stream",
        "image_edit",
        "image_generation",
        "image_variation",
        "ocr",
        "rerank",
        "search",
        "speech",
        "text_completion",
        "transcription",
        "video_generation",
    )
) | {"anthropic_messages", "batch_completion", "batch_completion_models"}
"""What calls a model beside that."""


class MeteredLitellm:
    """The module litellm with metered calls; whatever else it has is the module's."""

    def __init__(self, module: Any, metering: Metering) -> None:
        """Takes the module."""
        self._module = module
        self._metering = metering

    def __getattr__(self, name: str) -> Any:
        """Looks up what the module has."""
        found = getattr(self._module, name)
        if name in _UNMETERED:
            return unmetered(found, f"litellm's {name}")
        api = _APIS.get(name)
        return found if api is None else self._metered(found, api)

    def _metered(self, function: Callable[..., Any], api: Api) -> Callable[..., Any]:
        names = tuple(inspect.signature(function).parameters)

        @functools.wraps(function)
        def metered_function(*args: Any, **options: Any) -> Any:
            asked = {**dict(zip(names, args, strict=False)), **options}
            is_stream = bool(asked.get("stream"))
            if is_stream and api is CHAT:
                options = with_usage(options)
            return self._metering.send(api, asked, lambda: function(*args, **options), is_stream=is_stream)

        return metered_function
