# SPDX-License-Identifier: Apache-2.0
"""What the answers of google-genai's APIs say of their usage."""

from collections.abc import Mapping
from typing import Any

from taximeter._answers import Answer, Api, plain
from taximeter.provider_usage import ReportedUsage


class GeminiAnswer(Answer):
    """generateContent: each chunk has the usage so far. What was searched for stands beside it, in any chunk."""

    def __init__(self, asked: Mapping[str, Any]) -> None:
        """Takes the arguments of the call."""
        super().__init__(asked)
        self._query_count = 0

    def whole(self, response: Any) -> None:
        """Reads a response."""
        self.model = getattr(response, "model_version", None) or self.model
        candidates = getattr(response, "candidates", None) or ()
        self._query_count = max(self._query_count, sum(map(_query_count, candidates)))
        usage = getattr(response, "usage_metadata", None)
        if usage is not None and getattr(usage, "prompt_token_count", None) is not None:
            self.usage = plain(usage)
            if self._query_count:
                # How many there were is charged; what they asked is nobody's business.
                grounding = {"webSearchQueries": ["?"] * self._query_count}
                self.usage = {
                    "usageMetadata": self.usage,
                    "modelVersion": self.model,
                    "candidates": [{"groundingMetadata": grounding}],
                }

    def event(self, event: Any) -> bool:
        """Reads a chunk."""
        self.whole(event)
        for candidate in getattr(event, "candidates", None) or ():
            for part in getattr(getattr(candidate, "content", None), "parts", None) or ():
                self._saw(getattr(part, "text", None))
        return True

    def interrupted(self) -> ReportedUsage | None:
        """Returns the last chunk's counts, which are those of what has come."""
        return self.usage


def _query_count(candidate: object) -> int:
    """Returns how often a candidate's answer was searched for."""
    grounding = getattr(candidate, "grounding_metadata", None)
    return len(getattr(grounding, "web_search_queries", None) or ())


class EmbeddingsAnswer(GeminiAnswer):
    """embedContent: some models count the request, others each content, and others nothing."""

    def whole(self, response: Any) -> None:
        """Reads a response."""
        super().whole(response)
        if self.usage is None:
            statistics = [
                getattr(embedding, "statistics", None)
                for embedding in getattr(response, "embeddings", None) or ()
            ]
            counts = [getattr(of_one, "token_count", None) for of_one in statistics]
            if counts and None not in counts:
                self.usage = {"prompt_token_count": sum(int(count) for count in counts if count is not None)}


class InteractionAnswer(Answer):
    """Interactions: the last event of a request has its usage; the SDK may go on with further requests."""

    def __init__(self, asked: Mapping[str, Any]) -> None:
        """Takes the arguments of the call."""
        super().__init__(asked)
        self._requests: list[dict[str, Any]] = []
        self._so_far: dict[str, Any] | None = None

    def whole(self, response: Any) -> None:
        """Reads an interaction, into which the SDK has added up those that continued it."""
        self.model = getattr(response, "model", None) or getattr(response, "agent", None) or ""
        if getattr(response, "usage", None) is not None:
            tier = getattr(response, "service_tier", None)
            self.usage = {**plain(response.usage), "service_tier": tier}

    def failed(self, error: Exception) -> bool:
        """Reads what was done before one of several requests failed, which the SDK's error brings along."""
        if (partial := getattr(error, "partial_interaction", None)) is not None:
            self.whole(partial)
        return self.usage is not None

    def event(self, event: Any) -> bool:
        """Reads an event."""
        kind = getattr(event, "event_type", "")
        if kind == "interaction.completed":
            self.whole(event.interaction)
            if isinstance(self.usage, dict):
                self._requests.append(self.usage)
                self.usage = _sum(self._requests)
            self._so_far, self._text_bytes = None, 0
        elif kind == "step.delta":
            self._saw(getattr(event.delta, "text", None) or getattr(event.delta, "arguments", None))
        elif getattr(getattr(event, "usage", None), "total_input_tokens", None) is not None:
            self._so_far = plain(event.usage)
        return True

    def interrupted(self) -> ReportedUsage | None:
        """Returns what the requests reported, and what is known of the one that was cut off."""
        if self._so_far is not None:
            return _sum([*self._requests, self._so_far])
        if not self._requests or not self._text_bytes:
            return self.usage
        # Each request that continues another one reads its prompt again.
        prompt, answered = self._requests[-1].get("total_input_tokens") or 0, self._answered_tokens()
        cut_off = {
            "total_input_tokens": prompt,
            "total_output_tokens": answered,
            "total_tokens": prompt + answered,
        }
        return _sum([*self._requests, cut_off])


def _sum(usages: list[dict[str, Any]]) -> dict[str, Any]:
    """Adds up counts and puts lists one behind the other; of texts the last counts."""
    total: dict[str, Any] = {}
    for usage in usages:
        for name, value in usage.items():
            is_added = isinstance(value, int | list) and total.get(name) is not None
            if value is not None:
                total[name] = total[name] + value if is_added else value
    return total


GENERATE_CONTENT = Api("generateContent", GeminiAnswer)
EMBED_CONTENT = Api("embedContent", EmbeddingsAnswer)
INTERACTIONS = Api("interactions", InteractionAnswer)
