# SPDX-License-Identifier: Apache-2.0
"""The same record twice, the same id for something else, and good records beside bad ones, over the public port."""

import secrets
import time
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from server.api import Api, connect
from surface.conftest import Totals
from surface.raw_bytes import tag, varint
from surface.request_cases import uuid_v7

from harness.grpc_status import Refusal, refusal_of, refusal_of_status
from harness.server_process import ServerProcess
from taximeter.v1 import access_service_pb2, usage_pb2
from taximeter.v1 import metering_service_pb2 as pb

TENANT = "identity-input"
DEAR_MODEL, DEAR_TOKENS = "claude-opus-4-7", 10_000_000_000
"""Ten billion output tokens of it cost 750,000 USD: the thirteenth record of a day passes 2^63 - 1 pico-USD."""


def make_record(record_id: str = "", **fields: Any) -> usage_pb2.UsageRecord:
    """Return a record; fields in place of its own."""
    found = usage_pb2.UsageRecord(record_id=record_id or secrets.token_hex(16), tenant=TENANT, model="gpt-5")
    found.usage.uncached_input_tokens = 10
    found.MergeFrom(usage_pb2.UsageRecord(**fields))
    return found


def send(api: Api, record: usage_pb2.UsageRecord) -> pb.RecordResponse:
    """Record."""
    answer: pb.RecordResponse = api.call(api.metering.Record, pb.RecordRequest(record=record))
    return answer


def refuse(api: Api, record: usage_pb2.UsageRecord) -> Refusal:
    """Record what must be refused."""
    with pytest.raises(grpc.RpcError) as caught:
        send(api, record)
    return refusal_of(caught.value)


def send_batch(api: Api, *records: usage_pb2.UsageRecord) -> list[str]:
    """Record a batch; returns for each record "new", "duplicate", or the reason of its refusal."""
    answer = api.call(api.metering.RecordBatch, pb.RecordBatchRequest(records=records))
    return [
        refusal_of_status(result.error).reason
        if result.HasField("error")
        else ("duplicate" if result.response.duplicate else "new")
        for result in answer.results
    ]


def without(message: Message, *names: str) -> Message:
    """Return a copy of a message without some fields."""
    copy = type(message)()
    copy.CopyFrom(message)
    for name in names:
        copy.ClearField(name)
    return copy


def test_duplicate_gets_the_first_answer_again(admin: Api) -> None:
    """The same record again is OK, marked as a duplicate, with cost, lines and card of the first time."""
    record = make_record()
    first, again = send(admin, record), send(admin, record)

    assert (first.duplicate, again.duplicate) == (False, True)
    assert first.cost.picos > 0
    assert without(again, "duplicate", "limits") == without(first, "duplicate", "limits")


@pytest.mark.parametrize(
    ("change", "differing"),
    [
        ({"model": "gpt-4o"}, "model"),
        ({"provider": "openai"}, "provider"),
        ({"tier": "batch"}, "tier_region_speed"),
        ({"region": "eu"}, "tier_region_speed"),
        ({"speed": "fast"}, "tier_region_speed"),
        ({"usage": usage_pb2.Usage(uncached_input_tokens=11)}, "usage"),
        ({"usage": usage_pb2.Usage(visible_output_tokens=1)}, "usage"),
        ({"usage": usage_pb2.Usage(calls=2)}, "usage"),
        ({"usage": usage_pb2.Usage(other={"input_audio": 1})}, "usage"),
        ({"attributes": {"k": "v"}}, "attributes"),
        ({"attributes": {"k": ""}}, "attributes"),
        ({"quality": usage_pb2.USAGE_QUALITY_ESTIMATED}, "quality"),
        ({"model": "gpt-4o", "attributes": {"k": "v"}}, "model,attributes"),
    ],
    ids=str,
)
def test_same_id_for_something_else_is_a_conflict(
    change: dict[str, Any], differing: str, admin: Api, totals: Totals
) -> None:
    """An id used for another payload is ALREADY_EXISTS, says since when and what differs, and changes nothing."""
    record = make_record()
    send(admin, record)
    totals.forget()
    totals.assert_unchanged()
    refusal = refuse(admin, make_record(record.record_id, **change))

    assert (refusal.code, refusal.reason) == ("ALREADY_EXISTS", "RECORD_ID_CONFLICT")
    assert refusal.message == "record.record_id: used before with another payload"
    assert int(refusal.facts["first_receive_time_ms"]) > 0
    assert refusal.facts["differing_fields"] == differing
    totals.assert_unchanged()
    assert send(admin, record).duplicate


def test_what_says_the_same_is_the_same(admin: Api) -> None:
    """Zeros and the spelled-out number of one call say nothing new, so the record is a duplicate."""
    record = make_record()
    send(admin, record)
    same = make_record(record.record_id)
    same.usage.calls = 1
    same.usage.reasoning_tokens = 0
    same.usage.other["input_audio"] = 0

    assert send(admin, same).duplicate


def test_id_belongs_to_its_tenant(admin: Api) -> None:
    """The same id under another tenant, even above or below, is another record."""
    record_id = secrets.token_hex(16)
    tenants = [TENANT, f"{TENANT}/below", "identity-other"]
    answers = [send(admin, make_record(record_id, tenant=tenant)).duplicate for tenant in tenants]

    assert answers == [False, False, False]


def test_last_of_repeated_fields_wins(admin: Api) -> None:
    """A field that is sent twice has its last value, and the record is the same as one that sent only that."""
    record = make_record()
    twice = tag(3, 2) + b"\x05wrong" + record.SerializeToString() + tag(2, 2)
    twice += varint(len(TENANT)) + TENANT.encode()
    request = tag(1, 2) + varint(len(twice)) + twice
    channel: Any = admin.channel
    raw = channel.unary_unary("/taximeter.v1.MeteringService/Record")(
        request, metadata=admin.metadata, timeout=5
    )

    assert not pb.RecordResponse.FromString(raw).duplicate
    assert send(admin, record).duplicate


def test_unknown_fields_are_no_part_of_the_payload(admin: Api) -> None:
    """A record sent with fields of a later version, and again without them, is a duplicate."""
    record = make_record()
    later = record.SerializeToString() + tag(1000, 0) + b"\x07"
    channel: Any = admin.channel
    channel.unary_unary("/taximeter.v1.MeteringService/Record")(
        tag(1, 2) + varint(len(later)) + later, metadata=admin.metadata, timeout=5
    )

    assert send(admin, record).duplicate


def test_batch_finds_repeats_within_itself(admin: Api) -> None:
    """Within one batch the second of two equal records is a duplicate, and one with another payload a conflict."""
    record = make_record()
    other = make_record(record.record_id, usage=usage_pb2.Usage(uncached_input_tokens=12))

    assert send_batch(admin, record, record, other, make_record()) == [
        "new",
        "duplicate",
        "RECORD_ID_CONFLICT",
        "new",
    ]
    assert send_batch(admin, other, record) == ["RECORD_ID_CONFLICT", "duplicate"]


def test_bad_records_of_a_batch_fail_alone(admin: Api) -> None:
    """Each record of a batch is answered on its own, in order, with the path of what is wrong in it."""
    now_ms = int(time.time() * 1000)  # noqa: TID251 (the server's clock is the machine's)
    old = make_record()
    old.occur_time.FromMilliseconds(now_ms - 35 * 86_400_000)
    records = [
        make_record(),
        make_record("short"),
        make_record(tenant="UPPER"),
        make_record(),
        usage_pb2.UsageRecord(),
        make_record(hold_id="h"),
        old,
        make_record(uuid_v7(now_ms + 2 * 86_400_000)),
        make_record(attributes={"__x": "1"}),
        make_record(),
    ]
    answer = admin.call(admin.metering.RecordBatch, pb.RecordBatchRequest(records=records))
    errors = {
        at: refusal_of_status(result.error)
        for at, result in enumerate(answer.results)
        if result.HasField("error")
    }

    assert {at: (error.code, error.reason) for at, error in errors.items()} == {
        1: ("INVALID_ARGUMENT", "FIELD_INVALID"),
        2: ("INVALID_ARGUMENT", "FIELD_INVALID"),
        4: ("INVALID_ARGUMENT", "FIELD_REQUIRED"),
        5: ("INVALID_ARGUMENT", "FIELD_INVALID"),
        6: ("OUT_OF_RANGE", "EVENT_TOO_OLD"),
        7: ("OUT_OF_RANGE", "RECORD_ID_TIME"),
        8: ("INVALID_ARGUMENT", "RESERVED_ATTRIBUTE"),
    }
    assert errors[1].fields == ("records[1].record_id",)
    assert set(errors[4].fields) == {
        f"records[4].{name}" for name in ("record_id", "tenant", "usage", "model")
    }
    assert all(field.startswith(f"records[{at}].") for at, error in errors.items() for field in error.fields)


def test_batch_reaches_only_the_tenants_of_its_key(admin: Api) -> None:
    """Records of tenants that the key is not bound to fail alone."""
    caller = admin.with_new_key(access_service_pb2.ROLE_METER, TENANT)
    records = [make_record(), make_record(tenant="identity-other"), make_record(tenant=f"{TENANT}/x")]

    assert send_batch(caller, *records) == ["new", "TENANT_FORBIDDEN", "new"]


def test_largest_batch_is_answered(admin: Api) -> None:
    """500 records are answered in their order."""
    records = [make_record("short" if at % 7 == 0 else "") for at in range(500)]

    assert send_batch(admin, *records) == ["FIELD_INVALID" if at % 7 == 0 else "new" for at in range(500)]


def test_counter_that_would_overflow_changes_nothing(fresh_server: Callable[[], ServerProcess]) -> None:
    """A record that would take a day's cost beyond 2^63 - 1 is OUT_OF_RANGE; what still fits is recorded."""
    tenant = f"overflow-{secrets.token_hex(4)}"
    usage = usage_pb2.Usage(visible_output_tokens=DEAR_TOKENS)

    def dear() -> usage_pb2.UsageRecord:
        return usage_pb2.UsageRecord(
            record_id=secrets.token_hex(16), tenant=tenant, model=DEAR_MODEL, usage=usage
        )

    server = fresh_server()
    with connect(server.address, server.admin_key) as admin:
        totals = Totals(admin)
        assert send_batch(admin, *(dear() for _ in range(13))) == ["new"] * 12 + ["COUNTER_OVERFLOW"]
        totals.forget()
        totals.assert_unchanged()
        refusal = refuse(admin, dear())
        assert (refusal.code, refusal.reason) == ("OUT_OF_RANGE", "COUNTER_OVERFLOW")
        totals.assert_unchanged()
        assert not send(admin, make_record(tenant=tenant)).duplicate
