# SPDX-License-Identifier: Apache-2.0
"""What a call used, as the caller says it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType

from taximeter.provider_usage import ProviderUsage, ReportedUsage

NO_ATTRIBUTES: Mapping[str, str] = MappingProxyType({})


class UsageQuality(StrEnum):
    """How usage numbers were obtained."""

    REPORTED = "REPORTED"
    """The provider reported them."""
    INFERRED = "INFERRED"
    """Some follow from others that the provider reported."""
    ESTIMATED = "ESTIMATED"
    """They are estimates."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Counts each thing once: every token is in exactly one class. All counts are integers from 0."""

    uncached_input_tokens: int = 0
    """Prompt tokens that were neither read from nor written to a cache."""
    cache_read_tokens: int = 0
    """Prompt tokens read from a cache."""
    cache_write_tokens: int = 0
    """Prompt tokens written to a cache with the default time to live."""
    cache_write_1h_tokens: int = 0
    """Prompt tokens written to a cache for one hour."""
    visible_output_tokens: int = 0
    """Answer tokens without reasoning."""
    reasoning_tokens: int = 0
    """Reasoning (thinking) tokens."""
    tool_calls: int = 0
    """Tool invocations."""
    sandbox_ms: int = 0
    """Wall-clock time in a sandbox, in milliseconds."""
    storage_byte_hours: int = 0
    """Storage level times time, in byte-hours."""
    other: Mapping[str, int] = field(default_factory=dict)
    """Quantity of any further class by its id, such as "input_audio"."""
    calls: int = 0
    """Calls that these counts sum up; 0 and 1 both mean one call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageRecord:
    """What one call used, with its identity."""

    record_id: str
    """Identity within the tenant, made before the first attempt; see `taximeter.new_record_id`."""
    tenant: str
    """Path of one to four segments, such as "acme/research/alice"."""
    usage: Usage | ProviderUsage
    """What was used, in classes or as the provider reported it."""
    model: str = ""
    """Model as served. Empty only where nothing in usage is a token."""
    provider: str = ""
    """Provider name, such as "anthropic"."""
    occur_time: datetime | None = None
    """When it happened, with a time zone. Defaults to the time of receipt."""
    tier: str = ""
    """Service tier as served, such as "batch"."""
    region: str = ""
    """Region as served."""
    speed: str = ""
    """Speed as served, such as "fast"."""
    attributes: Mapping[str, str] = field(default_factory=dict)
    """What users group by, such as workflow_uuid."""
    quality: UsageQuality | None = None
    """How the numbers were obtained. None means reported."""
    hold_id: str = ""
    """Hold of the tenant that the record settles."""


def usage_given(
    usage: Usage | ProviderUsage | None,
    reported: ReportedUsage | None,
    *,
    provider: str,
    api: str,
    iteration_model: str = "",
) -> Usage | ProviderUsage:
    """Returns usage, or what a provider reported. Raises ValueError for both or neither."""
    if usage is not None and reported is None:
        return usage
    if usage is None and reported is not None:
        return ProviderUsage.of(reported, provider=provider, api=api, iteration_model=iteration_model)
    message = "give either usage or provider_usage"
    raise ValueError(message)
