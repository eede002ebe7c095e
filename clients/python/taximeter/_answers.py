# SPDX-License-Identifier: Apache-2.0
"""What the answers of model APIs say of their usage: at once, or event by event. No SDK is imported for it."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from taximeter.provider_usage import Dumpable, ReportedUsage
from taximeter.usage import Usage

_BYTES_PER_TOKEN = 4
"""What tokenizers come to for most texts; only interrupted streams without usage are charged by it."""
_TOOLS = ("web_search_call", "file_search_call", "code_interpreter_call")
_RESPONSE_ENDS = ("response.completed", "response.incomplete", "response.failed")
"""No sets: litellm's kinds of events equal these texts, but hash otherwise."""


class Answer:
    """What is known so far of one answer. The events of a stream are given one by one."""

    def __init__(self, asked: Mapping[str, Any]) -> None:
        """Takes the body of the request."""
        self._asked = asked
        self._text_bytes = 0
        self.model: str = ""
        """Model that was served. Empty while it is not known."""
        self.usage: ReportedUsage | None = None
        """Usage that was reported. None while there is none."""

    def whole(self, response: Any) -> None:
        """Reads an answer that came at once."""
        self.model = getattr(response, "model", None) or ""
        usage = getattr(response, "usage", None)
        if usage is not None:
            tier = getattr(response, "service_tier", None)
            self.usage = {"usage": plain(usage), "service_tier": tier}

    def event(self, event: Any) -> bool:
        """Reads an event of a stream. False for one that nobody but the meter asked for."""
        raise NotImplementedError

    def failed(self, _error: Exception) -> bool:
        """Reads what a call used that failed. False when that is nothing."""
        return False

    def estimate(self) -> Usage:
        """Returns what an answer that reported nothing has probably used."""
        asked_bytes = len(json.dumps(self._asked, default=str).encode())
        return Usage(
            uncached_input_tokens=-(-asked_bytes // _BYTES_PER_TOKEN),
            visible_output_tokens=self._answered_tokens(),
        )

    def interrupted(self) -> ReportedUsage | None:
        """Returns what a stream that was cut off reported of itself. None when that says nothing of its length."""
        return None

    def other_models(self) -> list[str]:
        """Returns the models beside the answer's own that its usage bills."""
        return []

    def _answered_tokens(self) -> int:
        return -(-self._text_bytes // _BYTES_PER_TOKEN)

    def _saw(self, text: object) -> None:
        if isinstance(text, str):
            self._text_bytes += len(text.encode())


class ChatAnswer(Answer):
    """Chat completions: the last chunk has the usage, because the meter asks for it."""

    def __init__(self, asked: Mapping[str, Any]) -> None:
        """Takes the body of the request."""
        super().__init__(asked)
        self._hides_usage = not (asked.get("stream_options") or {}).get("include_usage")

    def event(self, event: Any) -> bool:
        """Reads a chunk; that with nothing but the usage is hidden from who did not ask for it."""
        self.model = getattr(event, "model", None) or self.model
        choices = getattr(event, "choices", None) or ()
        for choice in choices:
            delta = getattr(choice, "delta", None)
            self._saw(getattr(delta, "content", None) or getattr(choice, "text", None))
            for tool in getattr(delta, "tool_calls", None) or ():
                self._saw(getattr(getattr(tool, "function", None), "arguments", None))
        if getattr(event, "usage", None) is None:
            return True
        self.whole(event)
        return bool(choices) or not self._hides_usage


class ResponsesAnswer(Answer):
    """Responses: the last event has the whole response. What tools did stands in its output."""

    def whole(self, response: Any) -> None:
        """Reads a response."""
        super().whole(response)
        items = [_field(item, "type") for item in getattr(response, "output", None) or ()]
        if isinstance(self.usage, dict):
            self.usage["output"] = [{"type": kind} for kind in items if kind in _TOOLS]

    def event(self, event: Any) -> bool:
        """Reads an event."""
        kind = getattr(event, "type", "")
        if kind in _RESPONSE_ENDS:
            self.whole(event.response)
        elif kind.endswith(".delta"):
            self._saw(getattr(event, "delta", None))
        return True


class MessagesAnswer(Answer):
    """Anthropic's messages: the first event has the input, the last delta the output; each count is cumulative."""

    def __init__(self, asked: Mapping[str, Any]) -> None:
        """Takes the body of the request."""
        super().__init__(asked)
        self._states: list[dict[str, Any]] = []

    def whole(self, response: Any) -> None:
        """Reads a message."""
        self.model = getattr(response, "model", None) or ""
        self.usage = plain(response.usage) if getattr(response, "usage", None) is not None else None

    def event(self, event: Any) -> bool:
        """Reads an event."""
        kind = getattr(event, "type", "")
        if kind == "message_start":
            self.model = event.message.model
            self._states.append(plain(event.message.usage))
        elif kind == "message_delta":
            self._states.append(plain(event.usage))
            self.usage = self._states
        elif kind == "content_block_delta":
            for name in ("text", "thinking", "partial_json"):
                self._saw(getattr(event.delta, name, None))
        return True

    def other_models(self) -> list[str]:
        """Returns the models of advisors and fallbacks: each is billed by iterations of its own."""
        states = self.usage if isinstance(self.usage, list) else [self.usage]
        # Counts of a stream are cumulative: the last list is the whole one.
        lists = [
            state["iterations"] for state in states if isinstance(state, dict) and state.get("iterations")
        ]
        found = (
            iteration.get("model")
            for iteration in (lists[-1] if lists else ())
            if iteration.get("type") not in {"message", "compaction", None}
        )
        return list(dict.fromkeys(model for model in found if model))

    def interrupted(self) -> ReportedUsage | None:
        """Returns the input as it was reported, with the output that has come."""
        return [*self._states, {"output_tokens": self._answered_tokens()}] if self._states else None


@dataclass(frozen=True, slots=True)
class Api:
    """An API whose answers say what was used."""

    name: str
    """Name that the server knows it by."""
    answer: Callable[[Mapping[str, Any]], Answer]
    """Makes what reads an answer."""


CHAT = Api("chat.completions", ChatAnswer)
RESPONSES = Api("responses", ResponsesAnswer)
EMBEDDINGS = Api("embeddings", ChatAnswer)
IMAGES = Api("images.generate", ChatAnswer)
TRANSCRIPTIONS = Api("audio.transcriptions", ChatAnswer)
MESSAGES = Api("messages", MessagesAnswer)


def with_usage(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Asks a chat completion that is streamed for its usage."""
    return {**asked, "stream_options": {**(asked.get("stream_options") or {}), "include_usage": True}}


def plain(usage: object) -> Any:
    """Returns an SDK's object as what JSON would give."""
    return json.loads(usage.model_dump_json()) if isinstance(usage, Dumpable) else usage


def _field(item: object, name: str) -> object:
    """Returns a field of an SDK's object, or of a dict, which is what litellm makes of what it does not know."""
    return item.get(name) if isinstance(item, Mapping) else getattr(item, name, None)
