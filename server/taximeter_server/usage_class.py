# SPDX-License-Identifier: Apache-2.0
"""Usage classes: what a price can be for, how many units one price covers, and which price stands in for a missing one.

The compiled pricing has the same table; a test holds the two against each other.
"""

from dataclasses import dataclass

PER_MILLION = 1_000_000
PER_HOUR_MS = 3_600_000
PER_GIGABYTE_MONTH = 720_000_000_000
"""Byte-hours of one gigabyte kept for 30 days."""


@dataclass(frozen=True, slots=True)
class UsageClass:
    """One class. per: units that a plain price covers. parent: class whose price it takes when it has none."""

    per: int
    parent: str | None = None


QUOTA_TOKEN_CLASSES = (
    "input",
    "input_audio",
    "input_image",
    "input_video",
    "output",
    "output_audio",
    "output_image",
    "reasoning",
)
"""Classes whose quantities are what tokens per day limits: no cache traffic."""

BUILT_IN_CLASSES: dict[str, UsageClass] = {
    "input": UsageClass(PER_MILLION),
    "cache_read": UsageClass(PER_MILLION, "input"),
    "cache_write": UsageClass(PER_MILLION, "input"),
    "cache_write_1h": UsageClass(PER_MILLION, "cache_write"),
    "output": UsageClass(PER_MILLION),
    "reasoning": UsageClass(PER_MILLION, "output"),
    "input_audio": UsageClass(PER_MILLION, "input"),
    "input_image": UsageClass(PER_MILLION, "input"),
    "input_video": UsageClass(PER_MILLION, "input"),
    "cache_read_audio": UsageClass(PER_MILLION, "cache_read"),
    "cache_read_image": UsageClass(PER_MILLION, "cache_read"),
    "output_audio": UsageClass(PER_MILLION, "output"),
    "output_image": UsageClass(PER_MILLION, "output"),
    "requests": UsageClass(1),
    "web_searches": UsageClass(1_000),
    "file_searches": UsageClass(1_000),
    "tool_calls": UsageClass(1),
    "code_sessions": UsageClass(1),
    "audio_ms": UsageClass(PER_HOUR_MS),
    "sandbox_ms": UsageClass(PER_HOUR_MS),
    "storage_byte_hours": UsageClass(PER_GIGABYTE_MONTH),
    "pages": UsageClass(1_000),
    "rerank_units": UsageClass(1_000),
    "images": UsageClass(1),
    "characters": UsageClass(PER_MILLION),
}
