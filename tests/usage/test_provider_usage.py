# SPDX-License-Identifier: Apache-2.0
"""Usage sent as the provider reported it, through the real server: charged, explained, and charged once."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from server.api import Api, connect

from harness.grpc_status import refusal_of
from harness.server_process import ServerProcess
from taximeter import (
    ConflictError,
    InvalidArgumentError,
    Limits,
    Meter,
    ProviderUsage,
    UsageQuality,
    UsageRecord,
    new_record_id,
)
from taximeter.v1 import metering_service_pb2, rate_card_service_pb2, usage_pb2

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
    assert item.error.reason == "INCONSISTENT_USAGE"
    assert [violation.field for violation in item.error.field_violations] == [
        "records[0].provider_usage.usage_json.prompt_tokens_details.cached_tokens"
    ]


ADVISED = {
    "input_tokens": 12,
    "output_tokens": 30,
    "service_tier": "standard",
    "iterations": [
        {"type": "message", "input_tokens": 2, "output_tokens": 10},
        {"type": "advisor_message", "model": "claude-opus-4-7", "input_tokens": 800, "output_tokens": 150},
        {"type": "message", "input_tokens": 10, "output_tokens": 20},
        {"type": "advisor_message", "model": "claude-opus-4-7", "input_tokens": 23, "output_tokens": 10},
    ],
}


def test_an_answer_that_bills_two_models_is_two_records(meter: Meter, tenant: str) -> None:
    """The answer's own counts are one record, the iterations of the other model another, and each says which it is."""
    main, advisor = new_record_id(), new_record_id()
    for record_id, model, iteration_model in (
        (main, "claude-sonnet-4-5", ""),
        (advisor, "claude-opus-4-7", "claude-opus-4-7"),
    ):
        meter.record(
            tenant,
            provider_usage=ADVISED,
            provider="anthropic",
            api="messages",
            model=model,
            iteration_model=iteration_model,
            record_id=record_id,
        )
    (first,), (second,) = (meter.explain_record(each, tenant=tenant) for each in (main, advisor))

    assert {line.line.usage_class: line.line.quantity for line in first.lines} == {"input": 12, "output": 30}
    assert first.usage_flags == ("iteration_of_another_model",)
    assert {line.line.usage_class: line.line.quantity for line in second.lines} == {
        "input": 823,
        "output": 160,
    }
    assert second.provider_usage == ProviderUsage.of(
        ADVISED, provider="anthropic", api="messages", iteration_model="claude-opus-4-7"
    )
    with pytest.raises(ConflictError):
        meter.record(
            tenant,
            provider_usage=ADVISED,
            provider="anthropic",
            api="messages",
            model="claude-opus-4-7",
            record_id=advisor,
        )


@pytest.mark.parametrize(
    ("provider", "api", "iteration_model"),
    [("anthropic", "messages", "claude-haiku-4-5"), ("openai", "chat.completions", "gpt-5")],
)
def test_a_model_that_an_answer_does_not_bill_is_refused(
    meter: Meter, tenant: str, provider: str, api: str, iteration_model: str
) -> None:
    """What is nobody's is never recorded as nothing: the field is named."""
    with pytest.raises(InvalidArgumentError) as caught:
        meter.record(
            tenant,
            provider_usage=ADVISED,
            provider=provider,
            api=api,
            model="m",
            iteration_model=iteration_model,
        )

    fields = [violation.field for violation in caught.value.field_violations]
    assert fields == ["record.provider_usage.iteration_model"]


EXPECTED = ProviderUsage.of(CHAT, provider="openai", api="chat.completions")


def test_an_estimate_may_be_a_providers_usage(meter: Meter, tenant: str) -> None:
    """A check and a hold count a provider's usage as the record of it would, and so does a price estimate."""
    meter.put_tenant(tenant, Limits(tokens_per_day=1_500))
    priced = meter.estimate(EXPECTED, model="gpt-5")
    checked = meter.check_quota(tenant, model="gpt-5", estimate=EXPECTED)
    held = meter.check_quota(tenant, model="gpt-5", estimate=EXPECTED, hold_ttl=timedelta(minutes=5))
    extended = meter.extend_hold(tenant, held.hold_id, timedelta(minutes=5), model="gpt-5", estimate=EXPECTED)
    again = meter.check_quota(tenant, model="gpt-5", estimate=EXPECTED)
    recorded = meter.record(
        tenant, provider_usage=CHAT, provider="openai", api="chat.completions", model="gpt-5"
    )

    # 78 of the prompt, 139 of the answer, 512 of reasoning: what came from the cache counts no quota.
    assert (checked.allowed, held.limits[0].held, extended.limits[0].held) == (True, 729, 729)
    assert (again.allowed, again.limits[0].held) == (True, 729)
    assert checked.estimated_cost == held.estimated_cost == recorded.cost == priced.cost_per_call


def test_what_an_estimate_says_was_served_is_priced(meter: Meter, tenant: str) -> None:
    """Tier and provider of the usage decide the price, as they do for a record."""
    usage = {"input_tokens": 1_000_000, "output_tokens": 0, "service_tier": "batch"}
    expected = ProviderUsage.of(usage, provider="anthropic", api="messages")
    record = meter.record(
        tenant, provider_usage=usage, provider="anthropic", api="messages", model="claude-opus-4-7"
    )
    checked = meter.check_quota(tenant, model="claude-opus-4-7", estimate=expected)
    priced = meter.estimate(expected, model="claude-opus-4-7")

    assert checked.estimated_cost == priced.cost_per_call == record.cost


def test_an_estimate_that_contradicts_itself_is_refused_with_everything_else(
    server: ServerProcess, tenant: str
) -> None:
    """Every wrong field is named at once, the estimate's by its path, and two estimates are one too many."""
    bad = CHAT | {"prompt_tokens_details": {"cached_tokens": 1487}}
    reported = usage_pb2.ProviderUsage(provider="openai", api="chat", usage_json=json.dumps(bad))
    path = "provider_usage.usage_json.prompt_tokens_details.cached_tokens"
    usage = usage_pb2.Usage(visible_output_tokens=1)
    with connect(server.address, server.admin_key) as api:
        found = [
            refused_fields(api, api.metering.CheckQuota, request)
            for request in (
                metering_service_pb2.CheckQuotaRequest(tenant=tenant, requests=-1, provider_usage=reported),
                metering_service_pb2.CheckQuotaRequest(
                    tenant=tenant, estimate=usage, provider_usage=reported
                ),
            )
        ]
        found += [
            refused_fields(api, api.metering.Estimate, request)
            for request in (
                metering_service_pb2.EstimateRequest(model="gpt-5", provider_usage=reported),
                metering_service_pb2.EstimateRequest(model="gpt-5", usage=usage, provider_usage=reported),
            )
        ]

    assert found == [
        {path, "requests"},
        {path, "provider_usage"},
        {path},
        {"provider_usage"},
    ]


def refused_fields(api: Api, method: Any, request: Any) -> set[str]:
    """Makes a call that is refused; returns the fields that are named."""
    with pytest.raises(grpc.RpcError) as caught:
        api.call(method, request)
    return set(refusal_of(caught.value).fields)


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
    """Records, explanations and estimates share one message for what a provider reported."""
    messages = [
        usage_pb2.UsageRecord.DESCRIPTOR,
        rate_card_service_pb2.RecordExplanation.DESCRIPTOR,
        metering_service_pb2.CheckQuotaRequest.DESCRIPTOR,
        metering_service_pb2.ExtendHoldRequest.DESCRIPTOR,
        metering_service_pb2.EstimateRequest.DESCRIPTOR,
    ]
    fields = [message.fields_by_name["provider_usage"] for message in messages]

    assert [field.message_type for field in fields] == [usage_pb2.ProviderUsage.DESCRIPTOR] * 5
