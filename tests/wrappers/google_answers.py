# SPDX-License-Identifier: Apache-2.0
"""What Gemini's API answers: content, embeddings and interactions, streaming and not."""

import json
from collections.abc import Iterator
from typing import Any

WORDS = ["Hello", " there", ", you"]
GEMINI_USAGE = {
    "promptTokenCount": 20,
    "cachedContentTokenCount": 8,
    "candidatesTokenCount": 6,
    "thoughtsTokenCount": 4,
    "totalTokenCount": 30,
}
INTERACTION_USAGE = {
    "total_input_tokens": 20,
    "input_tokens_by_modality": [{"modality": "text", "tokens": 20}],
    "total_cached_tokens": 8,
    "total_output_tokens": 6,
    "output_tokens_by_modality": [{"modality": "text", "tokens": 6}],
    "total_thought_tokens": 4,
    "total_tool_use_tokens": 0,
    "total_tokens": 30,
    "grounding_tool_count": [{"type": "google_search", "count": 1}],
}


def generated(model: str, parts: list[dict[str, Any]], usage: dict[str, int]) -> dict[str, Any]:
    """A chunk or the whole of what Gemini generates."""
    content = {"role": "model", "parts": parts}
    searched = {"groundingMetadata": {"webSearchQueries": ["a", "b"]}} if model.startswith("gemini-3") else {}
    return {
        "candidates": [{"content": content, "index": 0, **searched}],
        "usageMetadata": usage,
        "modelVersion": f"{model}-001",
        "responseId": "r1",
    }


def generated_parts(asked: dict[str, Any]) -> list[dict[str, Any]]:
    """What Gemini answers: the call of a function that it was given, until it has its result, and then a text."""
    has_result = "functionResponse" in json.dumps(asked)
    for tool in () if has_result else asked.get("tools", ()):
        for function in tool["functionDeclarations"]:
            return [{"functionCall": {"name": function["name"], "args": {}}}]
    return [{"text": word} for word in WORDS]


def generated_chunks(model: str, parts: list[dict[str, Any]]) -> Iterator[tuple[str, Any]]:
    """The chunks that Gemini generates; each has the counts so far."""
    for number, part in enumerate(parts, 1):
        so_far = {"promptTokenCount": 20, "cachedContentTokenCount": 8, "candidatesTokenCount": 2 * number}
        usage = GEMINI_USAGE if number == len(parts) else so_far | {"totalTokenCount": 20 + 2 * number}
        yield "", generated(model, [part], usage)


def interaction(asked: dict[str, Any]) -> dict[str, Any]:
    """An interaction. Of a "long-" model it breaks off at a limit until it is continued."""
    is_whole = not str(asked.get("model")).startswith("long-") or "continuation_token" in asked
    served = {"agent": asked["agent"]} if "agent" in asked else {"model": asked["model"]}
    content = [{"type": "text", "text": "".join(WORDS)}]
    return {
        **served,
        "id": "v1_2" if is_whole else "v1_1",
        "object": "interaction",
        "created": "2026-11-01T00:00:00Z",
        "updated": "2026-11-01T00:00:01Z",
        "status": "completed" if is_whole else "requires_continuation",
        **({} if is_whole else {"continuation_token": "more"}),
        "steps": [{"type": "model_output", "content": content}],
        "usage": INTERACTION_USAGE,
    }


def interaction_events(asked: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The events of an interaction; the last one has its usage and no steps."""
    whole = interaction(asked)
    begun = {**whole, "status": "in_progress"}
    del begun["steps"], begun["usage"]
    begun.pop("continuation_token", None)
    del whole["steps"]
    status = {"interaction_id": whole["id"], "status": "in_progress"}
    events: list[tuple[str, dict[str, Any]]] = [
        ("interaction.created", {"interaction": begun}),
        ("interaction.status_update", status),
        ("step.start", {"index": 0, "step": {"type": "model_output", "content": []}}),
        *(("step.delta", {"index": 0, "delta": {"type": "text", "text": word}}) for word in WORDS),
        ("step.stop", {"index": 0}),
        ("interaction.completed", {"interaction": whole}),
    ]
    for kind, event in events:
        yield kind, {"event_type": kind, **event}
    yield "done", "[DONE]"


def embedded(model: str, asked: dict[str, Any]) -> dict[str, Any]:
    """What Gemini's API, or Vertex's, answers for contents to embed. The model "text-embedding-004" counts nothing."""
    if "instances" in asked:
        one = {"embeddings": {"values": [0.5], "statistics": {"token_count": 7, "truncated": False}}}
        return {"predictions": [one for _ in asked["instances"]]}
    counted = {} if model == "text-embedding-004" else {"usageMetadata": {"promptTokenCount": 7}}
    return {"embeddings": [{"values": [0.5]} for _ in asked["requests"]], **counted}
