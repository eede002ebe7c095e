# SPDX-License-Identifier: Apache-2.0
"""Spans of the OpenTelemetry SDK as it is, recorded by their usage attributes."""

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from wrappers.test_metered_clients import charged

from taximeter import Meter
from taximeter.otel import UsageSpanExporter

USAGE = {
    "gen_ai.usage.input_tokens": 20,
    "gen_ai.usage.cache_read.input_tokens": 8,
    "gen_ai.usage.output_tokens": 10,
    "gen_ai.usage.reasoning.output_tokens": 4,
}
CHAT = USAGE | {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.response.model": "gpt-5",
}


def test_spans_are_recorded_once(meter: Meter, tenant: str) -> None:
    """A span with usage is charged, however often it is exported; spans of agents and others are not."""
    exporter = UsageSpanExporter(meter, tenant, kept_attributes=["team"])
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("test")
    with tracer.start_as_current_span("agent", attributes=CHAT | {"gen_ai.operation.name": "invoke_agent"}):
        with tracer.start_as_current_span("chat", attributes=CHAT | {"team": "a"}) as span:
            pass
        with tracer.start_as_current_span("other", attributes={"http.route": "/"}):
            pass
        with tracer.start_as_current_span("named", attributes=CHAT | {"taximeter.tenant": f"{tenant}/b"}):
            pass

    assert exporter.export([span]) is SpanExportResult.SUCCESS  # type: ignore[list-item]
    provider.shutdown()
    assert charged(meter, tenant, 2) == {"input": 24, "cache_read": 16, "output": 12, "reasoning": 8}
    context = span.get_span_context()
    (found,) = meter.explain_record(f"{context.trace_id:032x}{context.span_id:016x}")
    assert (found.model, found.provider, found.attributes) == ("gpt-5", "openai", {"team": "a"})


def test_a_server_that_is_away_is_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    """What could not be recorded is reported to the processor, and refused spans to the log."""
    provider = TracerProvider(shutdown_on_exit=False)
    with provider.get_tracer("test").start_as_current_span("chat", attributes=CHAT) as span:
        pass
    with Meter("http://127.0.0.1:9", key="none") as away:
        exporter = UsageSpanExporter(away, "acme")
        assert exporter.export([span]) is SpanExportResult.FAILURE  # type: ignore[list-item]
        assert exporter.force_flush()
        exporter.shutdown()
    assert "spans were not recorded" in caplog.text
