# SPDX-License-Identifier: Apache-2.0
"""An OpenTelemetry exporter that records the usage of GenAI spans: add it to a span processor beside your own.

Only the SDK that the caller has is used; nothing of OpenTelemetry is imported before a span is exported.
"""

import importlib
import json
import logging
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from taximeter.client import Meter
from taximeter.errors import ServerError
from taximeter.provider_usage import ProviderUsage
from taximeter.usage import UsageRecord

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
else:
    SpanExporter = object

_PREFIX = "gen_ai.usage."
_COUNTS = {
    f"{_PREFIX}{name}" for name in ("input_tokens", "output_tokens", "prompt_tokens", "completion_tokens")
}
# Spans of agents and workflows repeat what the calls within them used.
_OPERATIONS = frozenset({"chat", "text_completion", "generate_content", "embeddings", ""})
_BATCH_COUNT_MAX = 500
_NANOS_PER_MICRO = 1_000
_logger = logging.getLogger("taximeter.otel")


class UsageSpanExporter(SpanExporter):
    """Records spans with `gen_ai.usage.*` attributes. One id per span, so that a span counts once."""

    def __init__(
        self,
        meter: Meter,
        tenant: str,
        *,
        tenant_attribute: str = "taximeter.tenant",
        kept_attributes: Sequence[str] = (),
    ) -> None:
        """Takes the tenant of spans without `tenant_attribute`, and the attributes that reports group by."""
        self._meter = meter
        self._tenant = tenant
        self._tenant_attribute = tenant_attribute
        self._kept_attributes = kept_attributes

    def export(self, spans: "Sequence[ReadableSpan]") -> "SpanExportResult":
        """Records spans and returns a SpanExportResult: FAILURE where the outcome of some is unknown."""
        results: type[SpanExportResult] = importlib.import_module(
            "opentelemetry.sdk.trace.export"
        ).SpanExportResult
        try:
            records = list(self._records(spans))
            for start in range(0, len(records), _BATCH_COUNT_MAX):
                for item in self._meter.record_batch(records[start : start + _BATCH_COUNT_MAX]):
                    if item.error is not None:
                        _logger.error("span %s was not recorded: %s", item.record_id, item.error)
        except ServerError:
            _logger.exception("spans were not recorded")
            return results.FAILURE
        return results.SUCCESS

    def force_flush(self, timeout_millis: int = 30_000) -> bool:  # noqa: ARG002 (the exporter's interface)
        """Nothing waits here: export() returns once the records are durable."""
        return True

    def shutdown(self) -> None:
        """Leaves the meter open: it is the caller's."""

    def _records(self, spans: "Sequence[ReadableSpan]") -> Iterator[UsageRecord]:
        for span in spans:
            attributes = span.attributes or {}
            usage = {name: value for name, value in attributes.items() if name.startswith(_PREFIX)}
            if not _COUNTS & usage.keys() or attributes.get("gen_ai.operation.name", "") not in _OPERATIONS:
                continue
            model = attributes.get("gen_ai.response.model") or attributes.get("gen_ai.request.model") or ""
            ended_us = (span.end_time or 0) // _NANOS_PER_MICRO
            yield UsageRecord(
                record_id=f"{span.context.trace_id:032x}{span.context.span_id:016x}",
                tenant=str(attributes.get(self._tenant_attribute, self._tenant)),
                usage=ProviderUsage(provider="otel", api="span", usage_json=json.dumps(usage)),
                model=str(model),
                provider=str(attributes.get("gen_ai.provider.name") or attributes.get("gen_ai.system") or ""),
                occur_time=datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=ended_us),
                attributes={
                    name: str(attributes[name]) for name in self._kept_attributes if name in attributes
                },
            )
