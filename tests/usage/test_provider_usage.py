# SPDX-License-Identifier: Apache-2.0
"""Usage sent as the provider reported it, through the real server: charged, explained, and charged once."""

import json
from pathlib import Path

import pytest

from taximeter import (
    ConflictError,
    InvalidArgumentError,
    Meter,
    ProviderUsage,
    UsageQuality,
    UsageRecord,
    new_record_id,
)
from taximeter.v1 import rate_card_service_pb2, usage_pb2

CASES = json.loads((Path(__file__).parents[1] / "cases" / "usage-normalisation-cases.json").read_text())[
    "cases"
]
CHAT = {
    "prompt_tokens": 1486,
    "completion_tokens": 651,
    "total_tokens": 2137,
    "prompt_tokens_details": {"cached_tokens": 1408},
    "completion_tokens_details": {"reasoning_tokens": 512},
}


def test_a_batch_of_every_case_is_recorded(meter: Meter, tenant: str) -> None:
    """Each published case goes through RecordBatch and is charged by its classes."""
    records = [
        UsageRecord(
            record_id=new_record_id(),
            tenant=tenant,
            model="gpt-5",
            usage=ProviderUsage.of(case["usage"], provider=case["provider"], api=case["api"]),
        )
        for case in CASES
    ]

    items = meter.record_batch(records)

    found = [
        {line.usage_class: line.quantity for line in item.recorded.lines} if item.recorded else item.error
        for item in items
    ]
    assert found == [case["expected"] for case in CASES]
    assert [item.recorded and list(item.recorded.usage_flags) for item in items] == [
        case["flags"] for case in CASES
    ]


def test_the_answer_decides_what_was_served(meter: Meter, tenant: str) -> None:
    """Tier, speed and region of the usage replace the record's; the raw usage stays beside and can be explained."""
    record_id = new_record_id()
    usage = {"input_tokens": 5, "output_tokens": 6, "service_tier": "batch", "inference_geo": "us"}
    meter.record(
        tenant,
        provider_usage=usage,
        provider="anthropic",
        api="messages",
        model="claude-opus-4-7",
        tier="priority",
        speed="fast",
        record_id=record_id,
    )

    (found,) = meter.explain_record(record_id, tenant=tenant)

    assert (found.provider, found.tier, found.region, found.speed) == ("anthropic", "batch", "us", "fast")
    assert found.provider_usage == ProviderUsage.of(usage, provider="anthropic", api="messages")
    assert (found.usage_flags, found.reproduced) == ((), True)


def test_numbers_that_follow_from_others_say_so(meter: Meter, tenant: str) -> None:
    """Reasoning that only the total shows is flagged, in the answer and in the ledger."""
    record_id = new_record_id()
    usage = {"prompt_tokens": 758, "completion_tokens": 102, "total_tokens": 1725}

    recorded = meter.record(
        *(tenant,), provider_usage=usage, provider="gemini", api="chat", model="m", record_id=record_id
    )

    (found,) = meter.explain_record(record_id, tenant=tenant)
    assert recorded.usage_flags == found.usage_flags == ("reasoning_inferred_from_total",)


def test_the_same_payload_is_charged_once(meter: Meter, tenant: str) -> None:
    """The raw payload is what a retry must repeat: the same is a duplicate, other whitespace a conflict."""
    record_id = new_record_id()

    def record(text: str) -> bool:
        return meter.record(
            tenant,
            provider_usage=text,
            provider="openai",
            api="chat.completions",
            model="gpt-5",
            record_id=record_id,
        ).duplicate

    assert [record(json.dumps(CHAT)), record(json.dumps(CHAT))] == [False, True]
    with pytest.raises(ConflictError) as caught:
        record(json.dumps(CHAT, indent=1))
    assert caught.value.metadata["differing_fields"] == "usage"


def test_a_contradiction_names_its_field(meter: Meter, tenant: str) -> None:
    """A part larger than its whole is refused by the path of the part, and nothing is recorded."""
    usage = CHAT | {"prompt_tokens_details": {"cached_tokens": 1487}}
    record = UsageRecord(
        record_id=new_record_id(),
        tenant=tenant,
        model="gpt-5",
        usage=ProviderUsage.of(usage, provider="openai", api="chat.completions"),
        quality=UsageQuality.REPORTED,
    )

    (item,) = meter.record_batch([record])

    assert isinstance(item.error, InvalidArgumentError)
    assert [violation.field for violation in item.error.field_violations] == [
        "records[0].provider_usage.usage_json.prompt_tokens_details.cached_tokens"
    ]


def test_usage_is_given_once(meter: Meter, tenant: str) -> None:
    """Neither or both forms of usage are a mistake of the caller, found before anything is sent."""
    with pytest.raises(ValueError, match="either usage or provider_usage"):
        meter.record(tenant)
    with pytest.raises(ValueError, match="either usage or provider_usage"):
        meter.record(
            tenant, ProviderUsage(provider="openai", api="chat", usage_json="{}"), provider_usage=CHAT
        )


def test_the_sdks_objects_are_written_as_they_came() -> None:
    """A pydantic object, its JSON, and a dict of such objects give the same text of usage."""

    class Details:
        def model_dump_json(self) -> str:
            return '{"cached_tokens":3}'

    assert ProviderUsage.of(Details(), provider="p", api="a").usage_json == '{"cached_tokens":3}'
    assert ProviderUsage.of('{"a": 1}', provider="p", api="a").usage_json == '{"a": 1}'
    assert (
        ProviderUsage.of({"details": Details(), "n": None}, provider="p", api="a").usage_json
        == '{"details":{"cached_tokens":3},"n":null}'
    )
    with pytest.raises(TypeError, match="object is no part of a usage object"):
        ProviderUsage.of({"a": object()}, provider="p", api="a")
    with pytest.raises(ValueError, match="not JSON compliant"):
        ProviderUsage.of({"a": float("nan")}, provider="p", api="a")


def test_every_message_carries_the_raw_usage() -> None:
    """A record and its explanation share one message for what a provider reported."""
    messages = [usage_pb2.UsageRecord.DESCRIPTOR, rate_card_service_pb2.RecordExplanation.DESCRIPTOR]
    fields = [message.fields_by_name["provider_usage"] for message in messages]

    assert [field.message_type for field in fields] == [usage_pb2.ProviderUsage.DESCRIPTOR] * 2
