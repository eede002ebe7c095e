# SPDX-License-Identifier: Apache-2.0
"""What callers get wrong, over the public port: refused by exact status, echoed nowhere, stored nowhere."""

import random
import time
from collections.abc import Iterator, Mapping
from typing import Any

import grpc
import pytest
from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message
from surface.conftest import Totals
from surface.credentials import Credentials, Metadata
from surface.request_cases import Case, cases

from harness.grpc_status import Refusal, refusal_of
from taximeter.v1 import metering_service_pb2 as pb

DOMAIN = "taximeter.dev"
ECHO_LENGTH_MIN = 8
"""Shorter texts may appear in a message by chance."""
SERVICE_BY_METHOD = {"PutTenant": "TenantService"}
REQUESTS: Mapping[str, type[Any]] = {
    "Record": pb.RecordRequest,
    "RecordBatch": pb.RecordBatchRequest,
    "CheckQuota": pb.CheckQuotaRequest,
    "ExtendHold": pb.ExtendHoldRequest,
    "ReleaseHold": pb.ReleaseHoldRequest,
}


def now_s() -> int:
    """Return the server's clock, which is the machine's."""
    return int(time.time())  # noqa: TID251


def call(channel: Any, method: str, request: bytes, metadata: Metadata, timeout_s: float = 10) -> bytes:
    """Call with raw bytes; returns raw bytes. Raises grpc.RpcError."""
    service = SERVICE_BY_METHOD.get(method, "MeteringService")
    answer: bytes = channel.unary_unary(f"/taximeter.v1.{service}/{method}")(
        request, metadata=metadata, timeout=timeout_s
    )
    return answer


def refuse(channel: Any, method: str, request: bytes, metadata: Metadata) -> Refusal:
    """Call what must fail."""
    with pytest.raises(grpc.RpcError) as caught:
        call(channel, method, request, metadata)
    return refusal_of(caught.value)


def texts_of(message: Message) -> Iterator[str]:
    """Yield every text that the caller put into a message, keys of maps included."""
    for field, value in message.ListFields():
        if field.type == field.TYPE_STRING:
            yield from [value] if isinstance(value, str) else value
        elif isinstance(value, Message):
            yield from texts_of(value)
        elif isinstance(value, Mapping):
            yield from (text for pair in value.items() for text in pair if isinstance(text, str))
        elif field.type == field.TYPE_MESSAGE:
            for inner in value:
                yield from texts_of(inner)


def echoes(method: str, request: bytes, refusal: Refusal) -> list[str]:
    """Return the caller's texts that the status repeats."""
    try:
        message = REQUESTS[method].FromString(request)
    except DecodeError:
        return []
    return [text for text in texts_of(message) if len(text) >= ECHO_LENGTH_MIN and text in refusal.text]


@pytest.mark.parametrize("case", cases("refused"), ids=lambda case: case.name)
def test_bad_input_is_refused(
    case: Case, channel: Any, credentials: Credentials, holds: Mapping[str, str], totals: Totals
) -> None:
    """Bad input gets its exact status with every wrong field, is not echoed, and changes nothing."""
    request = case.request(now_s(), holds)
    refusal = refuse(channel, case.method, request, credentials.metadata(case.text("credentials")))

    assert refusal.code == case.text("code"), refusal
    assert refusal.domain == DOMAIN
    if "reason" in case.document:
        assert refusal.reason == case.text("reason"), refusal
    if "fields" in case.document:
        assert set(refusal.fields) == set(case.texts("fields"))
        assert refusal.facts["field"] == refusal.fields[0]
    for part in case.texts("message"):
        assert part in refusal.message
    if case.method in REQUESTS:
        assert echoes(case.method, request, refusal) == []
    totals.assert_unchanged()


@pytest.mark.parametrize("case", cases("accepted"), ids=lambda case: case.name)
def test_odd_input_is_accepted(
    case: Case, channel: Any, credentials: Credentials, holds: Mapping[str, str], totals: Totals
) -> None:
    """What looks odd and is right is served."""
    metadata = credentials.metadata(case.text("credentials"))
    extra = tuple((name, case.each) for name in case.document.get("metadata", {}))
    answer = call(channel, case.method, case.request(now_s(), holds), (*metadata, *extra))

    kinds: Mapping[str, type[Any]] = {
        "Record": pb.RecordResponse,
        "RecordBatch": pb.RecordBatchResponse,
        "CheckQuota": pb.CheckQuotaResponse,
    }
    found = json_format.MessageToDict(
        kinds[case.method].FromString(answer), always_print_fields_with_no_presence=True
    )
    for name, value in case.document.get("answer", {}).items():
        if isinstance(value, dict):
            assert value.items() <= found[name].items()
        else:
            assert found[name] == value
    totals.forget()


def test_every_row_of_the_case_file_is_known() -> None:
    """The case file covers the rules that it claims to cover, so a typo in it cannot hide one."""
    rows = {case.row for group in ("refused", "accepted") for case in cases(group)}

    covered = {1, 2, 3, 4, 5, 6, 8, 10, 11, *range(14, 18), *range(19, 26), *range(27, 33)}
    covered |= {*range(34, 39), *range(62, 67), 72}
    named = {"all at once", "usage", "quality", "requests", "holds", "provider_usage"}
    assert rows == {f"D{number}" for number in covered} | named


@pytest.mark.parametrize("method", ["Record", "RecordBatch", "CheckQuota"])
def test_no_bytes_confuse_the_server(
    method: str, channel: Any, credentials: Credentials, totals: Totals
) -> None:
    """Whatever bytes arrive as a message, the answer is the caller's fault and nothing is stored."""
    totals.assert_unchanged()
    draw = random.Random(f"bytes of {method}")
    request = next(case for case in cases("accepted") if case.method == method).request(now_s(), {})
    requests = [request[:length] for length in range(1, len(request) - 20)]
    for _ in range(300):
        mutated = bytearray(request)
        for _ in range(draw.randint(1, 8)):
            mutated[draw.randrange(len(mutated))] = draw.randrange(256)
        # Whatever survives the mutation must not be recordable.
        requests.append(draw.choice([draw.randbytes(draw.randint(1, 200)), bytes(mutated) + b"\x08"]))
    found = set()
    for bad in requests:
        try:
            call(channel, method, bad, credentials.metadata(""))
        except grpc.RpcError as error:
            refusal = refusal_of(error)
            found.add(
                (refusal.code, refusal.reason in {"MALFORMED_MESSAGE", "FIELD_REQUIRED", "FIELD_INVALID"})
            )

    assert found == {("INVALID_ARGUMENT", True)}
    totals.assert_unchanged()


def test_violations_are_bounded(channel: Any, credentials: Credentials) -> None:
    """A message with hundreds of problems gets the first 20, in a status that any client takes."""
    request = pb.RecordRequest()
    for number in range(500):
        request.record.attributes[f"bad key {number}"] = "\n"
        request.record.usage.other[f"BAD-{number}"] = -1
    refusal = refuse(channel, "Record", request.SerializeToString(), credentials.metadata(""))

    assert (refusal.code, len(refusal.fields)) == ("INVALID_ARGUMENT", 20)
