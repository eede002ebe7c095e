# SPDX-License-Identifier: Apache-2.0
"""Usage as a provider's API reported it, whatever object its SDK makes of that."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, Self, runtime_checkable


@runtime_checkable
class Dumpable(Protocol):
    """What the SDKs' objects have in common: they are pydantic models."""

    def model_dump_json(self) -> str:
        """Writes the object as JSON."""


ReportedUsage = str | Mapping[str, object] | Sequence[object] | Dumpable
"""A usage object: JSON text, what was parsed from it, or an object of the provider's SDK."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderUsage:
    """The usage object of a provider's answer, which the server turns into disjoint classes."""

    provider: str
    """Provider name, such as "openai" or "aws.bedrock"."""
    api: str
    """API whose answer it is, such as "chat.completions" or "messages"."""
    usage_json: str
    """The usage object, or the answer that holds it, as JSON text of at most 16,384 bytes."""
    iteration_model: str = ""
    """Where one answer bills several models: the one whose iterations count. Empty for the answer's own counts."""

    @classmethod
    def of(cls, usage: ReportedUsage, *, provider: str, api: str, iteration_model: str = "") -> Self:
        """Takes JSON text, a dict, or an SDK's object such as `response.usage`. Raises TypeError or ValueError."""
        return cls(provider=provider, api=api, usage_json=usage_json(usage), iteration_model=iteration_model)


def usage_json(usage: ReportedUsage) -> str:
    """Writes a usage object as JSON. Raises TypeError for what is none, ValueError for NaN and infinities."""
    if isinstance(usage, str):
        return usage
    if isinstance(usage, Dumpable):
        return usage.model_dump_json()
    return json.dumps(usage, separators=(",", ":"), allow_nan=False, default=_dumped)


def _dumped(value: object) -> object:
    """Returns the fields of an SDK's object within a dict."""
    if isinstance(value, Dumpable):
        return json.loads(value.model_dump_json())
    message = f"{type(value).__name__} is no part of a usage object"
    raise TypeError(message)
