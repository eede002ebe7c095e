# SPDX-License-Identifier: Apache-2.0
"""A local HTTP server that speaks the wire formats of OpenAI, Anthropic and Gemini, streaming and not.

It answers what a test would see of the provider: bodies and server-sent events as they are documented, with usage.
"""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from wrappers.google_answers import (
    GEMINI_USAGE,
    WORDS,
    embedded,
    generated,
    generated_chunks,
    generated_parts,
    interaction,
    interaction_events,
)

CHAT_USAGE = {
    "prompt_tokens": 20,
    "completion_tokens": 10,
    "total_tokens": 30,
    "prompt_tokens_details": {"cached_tokens": 8},
    "completion_tokens_details": {"reasoning_tokens": 4},
}
RESPONSE_USAGE = {
    "input_tokens": 20,
    "input_tokens_details": {"cached_tokens": 8},
    "output_tokens": 10,
    "output_tokens_details": {"reasoning_tokens": 4},
    "total_tokens": 30,
}
MESSAGE_USAGE = {
    "input_tokens": 12,
    "cache_creation_input_tokens": 0,
    "cache_read_input_tokens": 8,
    "output_tokens": 1,
    "service_tier": "standard",
}
ADVICE = {
    "claude-sonnet-5": {
        "iterations": [
            {"type": "message", "input_tokens": 12, "output_tokens": 10},
            {
                "type": "advisor_message",
                "model": "claude-opus-4-7",
                "input_tokens": 800,
                "output_tokens": 60,
            },
        ]
    }
}
"""What the usage of a model says beside that of others: it has asked another one."""


def chat(model: str) -> dict[str, Any]:
    """A chat completion."""
    message = {"role": "assistant", "content": "".join(WORDS)}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": f"{model}-2025-08-07",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": CHAT_USAGE,
    }


def chat_chunks(model: str, asked: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The chunks of a chat completion; the usage comes only where it was asked for."""
    base = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": f"{model}-2025-08-07",
    }
    for word in WORDS:
        yield "", base | {"choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}]}
    yield "", base | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    if (asked.get("stream_options") or {}).get("include_usage"):
        yield "", base | {"choices": [], "usage": CHAT_USAGE}
    yield "", "[DONE]"


def response(model: str) -> dict[str, Any]:
    """A response that searched the web."""
    content = [{"type": "output_text", "text": "".join(WORDS), "annotations": []}]
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "model": model,
        "status": "completed",
        "service_tier": "default",
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "output": [
            {
                "type": "web_search_call",
                "id": "ws_1",
                "status": "completed",
                "action": {"type": "search", "query": "q"},
            },
            {
                "type": "message",
                "id": "msg_1",
                "role": "assistant",
                "status": "completed",
                "content": content,
            },
        ],
        "usage": RESPONSE_USAGE,
    }


def response_events(model: str) -> Iterator[tuple[str, Any]]:
    """The events of a response."""
    whole = response(model)
    searched, said = whole["output"]
    begun = whole | {"status": "in_progress", "output": [], "usage": None}
    place = {"item_id": "msg_1", "output_index": 1, "content_index": 0}
    empty = {"type": "output_text", "text": "", "annotations": []}
    events: list[tuple[str, dict[str, Any]]] = [
        ("created", {"response": begun}),
        ("output_item.added", {"output_index": 0, "item": searched | {"status": "in_progress"}}),
        ("output_item.done", {"output_index": 0, "item": searched}),
        ("output_item.added", {"output_index": 1, "item": said | {"status": "in_progress", "content": []}}),
        ("content_part.added", {"part": empty, **place}),
        *(("output_text.delta", {"delta": word, "logprobs": [], **place}) for word in WORDS),
        ("output_text.done", {"text": "".join(WORDS), "logprobs": [], **place}),
        ("content_part.done", {"part": said["content"][0], **place}),
        ("output_item.done", {"output_index": 1, "item": said}),
        ("completed", {"response": whole}),
    ]
    for number, (kind, event) in enumerate(events):
        yield f"response.{kind}", {"type": f"response.{kind}", "sequence_number": number, **event}


def message(model: str) -> dict[str, Any]:
    """A message of Anthropic."""
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [{"type": "text", "text": "".join(WORDS)}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": MESSAGE_USAGE | {"output_tokens": 10} | ADVICE.get(model, {}),
    }


def message_events(model: str) -> Iterator[tuple[str, Any]]:
    """The events of a message."""
    start = message(model) | {"content": [], "stop_reason": None, "usage": MESSAGE_USAGE}
    yield "message_start", {"type": "message_start", "message": start}
    block = {"type": "text", "text": ""}
    yield "content_block_start", {"type": "content_block_start", "index": 0, "content_block": block}
    for word in WORDS:
        delta = {"type": "text_delta", "text": word}
        yield "content_block_delta", {"type": "content_block_delta", "index": 0, "delta": delta}
    yield "content_block_stop", {"type": "content_block_stop", "index": 0}
    ended = {"stop_reason": "end_turn", "stop_sequence": None}
    yield (
        "message_delta",
        {"type": "message_delta", "delta": ended, "usage": {"output_tokens": 10} | ADVICE.get(model, {})},
    )
    yield "message_stop", {"type": "message_stop"}


class ProviderServer:
    """Serves on a port of its own. requests: paths and bodies, in order."""

    def __init__(self) -> None:
        """Begins to serve."""
        self.requests: list[tuple[str, dict[str, Any]]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
                outer.requests.append((self.path, asked))
                outer.answer(self, asked)

            def log_message(self, *_: object) -> None:
                """Nothing."""

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        """Where it serves."""
        return f"http://127.0.0.1:{self._http.server_port}"

    def close(self) -> None:
        """Stops."""
        self._http.shutdown()
        self._http.server_close()

    def answer(self, handler: BaseHTTPRequestHandler, asked: dict[str, Any]) -> None:
        """Answers a request by its path."""
        path, model = handler.path.partition("?")[0], str(asked.get("model", ""))
        if model == "broken":
            self._send(handler, 500, {"error": {"message": "broken", "type": "api_error"}})
        elif path.endswith("/chat/completions"):
            self._answer(handler, asked, chat(model), chat_chunks(model, asked))
        elif path.endswith("/responses"):
            self._answer(handler, asked, response(model), response_events(model))
        elif path.endswith("/embeddings"):
            data = [{"object": "embedding", "index": 0, "embedding": [0.5]}]
            usage = {"prompt_tokens": 7, "total_tokens": 7}
            self._send(handler, 200, {"object": "list", "model": model, "data": data, "usage": usage})
        elif path.endswith("/messages"):
            self._answer(handler, asked, message(model), message_events(model))
        elif path.endswith("/messages/count_tokens"):
            self._send(handler, 200, {"input_tokens": 12})
        elif path.endswith("/interactions"):
            if model == "long-lost" and "continuation_token" in asked:
                self._send(handler, 400, {"error": {"code": "invalid_argument", "message": "lost"}})
            else:
                self._answer(handler, asked, interaction(asked), interaction_events(asked))
        elif path.endswith((":batchEmbedContents", ":predict")):
            model = path.rpartition("/")[2].partition(":")[0]
            self._send(handler, 200, embedded(model, asked))
        else:
            model = path.rpartition("/")[2].partition(":")[0]
            asked["stream"] = path.endswith(":streamGenerateContent")
            parts = generated_parts(asked)
            whole = generated(model, parts, GEMINI_USAGE)
            self._answer(handler, asked, whole, generated_chunks(model, parts))

    def _answer(
        self,
        handler: BaseHTTPRequestHandler,
        asked: dict[str, Any],
        whole: dict[str, Any],
        events: Iterator[tuple[str, Any]],
    ) -> None:
        if not asked.get("stream"):
            self._send(handler, 200, whole)
            return
        lines = []
        for name, event in events:
            data = event if isinstance(event, str) else json.dumps(event)
            lines.append((f"event: {name}\n" if name else "") + f"data: {data}\n\n")
        self._write(handler, 200, "text/event-stream", "".join(lines).encode())

    def _send(self, handler: BaseHTTPRequestHandler, status: int, body: dict[str, Any]) -> None:
        self._write(handler, status, "application/json", json.dumps(body).encode())

    def _write(self, handler: BaseHTTPRequestHandler, status: int, kind: str, body: bytes) -> None:
        handler.send_response(status)
        handler.send_header("content-type", kind)
        handler.send_header("content-length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)
