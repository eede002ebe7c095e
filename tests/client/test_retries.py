# SPDX-License-Identifier: Apache-2.0
"""Records are sent again, with the same id, exactly where that can help."""

import time
from collections.abc import Callable, Iterator

import grpc
import pytest
from client.failing_server import FailingServer, Pushback, failure

from taximeter import (
    ConflictError,
    InternalError,
    InvalidArgumentError,
    Meter,
    OverloadedError,
    Role,
    ServerError,
    UnavailableError,
    Usage,
    UsageRecord,
)
from taximeter import errors as taximeter_errors
from taximeter._address import parse_address
from taximeter._retry import RETRYABLE, Timing, backoff_max_s
from taximeter.config import Connection
from taximeter.errors import ERROR_BY_CODE
from taximeter.v1 import metering_service_pb2

Code = grpc.StatusCode
USAGE = Usage(uncached_input_tokens=10)


@pytest.fixture
def waits_s() -> list[float]:
    """The waits that the client asked for."""
    return []


@pytest.fixture
def meter(failing: FailingServer, waits_s: list[float]) -> Iterator[Meter]:
    """A client whose waits take no time and are drawn at their longest."""
    timing = Timing(sleep=waits_s.append, uniform=lambda _low, high: high)
    with Meter(connection=Connection(parse_address(failing.address), "tx_key"), timing=timing) as client:
        yield client


@pytest.mark.parametrize("code", [Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.INTERNAL, Code.UNKNOWN])
def test_unknown_outcomes_are_sent_again_unchanged(meter: Meter, failing: FailingServer, code: Code) -> None:
    """Every status that leaves the outcome unknown leads to the same record, byte for byte, once more."""
    failing.plan.extend([failure(code), failure(code)])
    recorded = meter.record("acme", USAGE)

    assert len(failing.requests) == 3
    assert all(failing.requests[0] == request for request in failing.requests)
    assert recorded.record_id == failing.requests[0].record.record_id


@pytest.mark.parametrize("code", sorted(set(ERROR_BY_CODE) - RETRYABLE, key=str))
def test_other_statuses_are_final(meter: Meter, failing: FailingServer, code: Code) -> None:
    """A status that says what happened is never answered with another attempt."""
    failing.plan.append(failure(code))
    with pytest.raises(ERROR_BY_CODE[code]):
        meter.record("acme", USAGE)

    assert len(failing.requests) == 1


def test_five_attempts_with_growing_waits(meter: Meter, failing: FailingServer, waits_s: list[float]) -> None:
    """After five attempts the last error is raised; the longest wait doubles from 100 ms."""
    failing.plan.extend([failure(Code.INTERNAL, "INTERNAL")] * 9)
    with pytest.raises(InternalError) as caught:
        meter.record("acme", USAGE)

    assert len(failing.requests) == 5
    assert waits_s == [0.1, 0.2, 0.4, 0.8]
    assert not caught.value.not_recorded


def test_a_server_that_asks_for_time_gets_it(
    meter: Meter, failing: FailingServer, waits_s: list[float]
) -> None:
    """Pushback decides how long to wait, makes an overload worth another attempt, and can forbid one."""
    failing.plan.extend([Pushback("250", Code.UNAVAILABLE), Pushback("70", Code.RESOURCE_EXHAUSTED)])
    meter.record("acme", USAGE)
    assert waits_s == [0.25, 0.07]

    failing.plan.append(Pushback("-1", Code.UNAVAILABLE))
    with pytest.raises(UnavailableError):
        meter.record("acme", USAGE)
    assert len(failing.requests) == 4


def test_retries_have_a_budget(meter: Meter, failing: FailingServer) -> None:
    """When everything fails, retries end before they multiply the load on a server that cannot bear it."""
    failing.plan.extend([failure(Code.UNAVAILABLE)] * 1_000)
    for _ in range(60):
        with pytest.raises(UnavailableError):
            meter.record("acme", USAGE)

    retries = len(failing.requests) - 60
    assert 100 <= retries <= 110


def test_the_longest_wait_is_two_seconds() -> None:
    """Waits stop growing at two seconds."""
    assert [backoff_max_s(attempt) for attempt in range(1, 8)] == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]


def test_the_deadline_of_the_caller_ends_the_attempts(failing: FailingServer) -> None:
    """No attempt begins after the caller's deadline, and none outlives it."""
    failing.plan.extend([failure(Code.UNAVAILABLE)] * 9)
    timing = Timing(uniform=lambda _low, high: high)
    began = time.monotonic()
    with (
        Meter(connection=Connection(parse_address(failing.address), ""), timing=timing) as meter,
        pytest.raises(UnavailableError),
    ):
        meter.record("acme", USAGE, timeout_s=0.35)

    assert len(failing.requests) == 3
    assert time.monotonic() - began < 0.6


def test_an_attempt_that_is_not_answered_is_given_up_and_sent_again(
    meter: Meter, failing: FailingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that does not answer costs one attempt, not the whole call."""
    monkeypatch.setattr("taximeter._retry.ATTEMPT_TIMEOUT_S", 0.2)

    def hang() -> metering_service_pb2.RecordResponse:
        time.sleep(0.6)
        return metering_service_pb2.RecordResponse()

    failing.plan.append(hang)
    meter.record("acme", USAGE)

    assert len(failing.requests) == 2
    assert failing.requests[0] == failing.requests[1]


def test_only_a_retry_repeats_an_id(meter: Meter, failing: FailingServer) -> None:
    """Two records made without an id have different ids: only a retry repeats one."""
    meter.record("acme", USAGE)
    meter.record("acme", USAGE)

    assert failing.requests[0].record.record_id < failing.requests[1].record.record_id


def records(count: int) -> list[UsageRecord]:
    """Some records."""
    return [UsageRecord(record_id=f"record-0000000{n}", tenant="acme", usage=USAGE) for n in range(count)]


def batch(*codes: Code | None) -> Callable[[], metering_service_pb2.RecordBatchResponse]:
    """An answer to a batch: an error where a code is given."""

    def answer() -> metering_service_pb2.RecordBatchResponse:
        results = [
            metering_service_pb2.RecordResult(response=metering_service_pb2.RecordResponse(duplicate=False))
            if code is None
            else metering_service_pb2.RecordResult(error=failure(code))
            for code in codes
        ]
        return metering_service_pb2.RecordBatchResponse(results=results)

    return answer


def test_only_unknown_records_of_a_batch_are_sent_again(meter: Meter, failing: FailingServer) -> None:
    """Records that were answered stay as they are; the others follow alone, and every outcome keeps its place."""
    failing.plan.extend([batch(None, Code.UNAVAILABLE, Code.ALREADY_EXISTS), batch(None)])
    one, two, three = meter.record_batch(records(3))

    assert [len(request.records) for request in failing.requests] == [3, 1]
    assert failing.requests[1].records[0] == failing.requests[0].records[1]
    assert one.recorded is not None
    assert two.recorded is not None
    assert two.error is None
    assert isinstance(three.error, ConflictError)


def test_a_batch_whose_records_stay_unknown_says_so(meter: Meter, failing: FailingServer) -> None:
    """After five attempts a record's own error is its outcome; the others are not lost with it."""
    failing.plan.append(batch(None, Code.UNAVAILABLE))
    failing.plan.extend([batch(Code.UNAVAILABLE)] * 3)
    failing.plan.append(failure(Code.UNAVAILABLE))
    one, two = meter.record_batch(records(2))

    assert len(failing.requests) == 5
    assert one.recorded is not None
    assert isinstance(two.error, UnavailableError)


def test_a_batch_that_never_gets_an_answer_raises(meter: Meter, failing: FailingServer) -> None:
    """Without any answer there are no outcomes to return."""
    failing.plan.extend([failure(Code.UNAVAILABLE)] * 5)
    with pytest.raises(UnavailableError):
        meter.record_batch(records(2))


def test_a_batch_answered_with_too_few_results_raises(meter: Meter, failing: FailingServer) -> None:
    """Results that cannot belong to the records are never assigned to them."""
    failing.plan.append(batch(None))
    with pytest.raises(InternalError, match="2 records were answered with 1 results"):
        meter.record_batch(records(2))


def test_a_safe_call_is_retried_by_grpc(meter: Meter, failing: FailingServer) -> None:
    """A call without side effects survives a moment without a server."""
    failing.plan.append(failure(Code.UNAVAILABLE))
    meter.whoami()

    assert len(failing.requests) == 2


@pytest.mark.parametrize("code", [Code.INTERNAL, Code.RESOURCE_EXHAUSTED, Code.DEADLINE_EXCEEDED])
def test_a_safe_call_is_retried_on_unavailable_only(meter: Meter, failing: FailingServer, code: Code) -> None:
    """Other statuses are shown at once."""
    failing.plan.append(failure(code))
    with pytest.raises(ServerError):
        meter.check_quota("acme")

    assert len(failing.requests) == 1


def test_a_check_that_is_not_decided_says_why(failing: FailingServer) -> None:
    """When the deadline comes before the last attempt, the error is what the server said and not that time is over."""

    def slow() -> metering_service_pb2.CheckQuotaResponse:
        time.sleep(2)
        return metering_service_pb2.CheckQuotaResponse()

    failing.plan.extend([failure(Code.UNAVAILABLE, "QUOTA_UNDECIDED"), slow])
    with (
        Meter(connection=Connection(parse_address(failing.address), "")) as meter,
        pytest.raises(UnavailableError) as caught,
    ):
        meter.check_quota("acme")

    assert (caught.value.reason, len(failing.requests)) == ("QUOTA_UNDECIDED", 2)


def test_making_a_key_is_never_retried(meter: Meter, failing: FailingServer) -> None:
    """Each attempt could make another key, so there is one."""
    failing.plan.append(failure(Code.UNAVAILABLE))
    with pytest.raises(UnavailableError):
        meter.create_key(Role.READ)

    assert len(failing.requests) == 1


def test_an_error_carries_what_the_status_said(meter: Meter, failing: FailingServer) -> None:
    """Reason, metadata and fields of the status are on the exception, and the field is in its text."""
    failing.plan.append(failure(Code.INVALID_ARGUMENT, "FIELD_INVALID", "record.usage.reasoning_tokens"))
    with pytest.raises(InvalidArgumentError) as caught:
        meter.record("acme", USAGE)

    error = caught.value
    assert (error.code, error.reason, error.metadata) == (
        Code.INVALID_ARGUMENT,
        "FIELD_INVALID",
        {"error_id": "9f2c"},
    )
    assert [(violation.field, violation.description) for violation in error.field_violations] == [
        ("record.usage.reasoning_tokens", "must be 0 or more")
    ]
    assert "record.usage.reasoning_tokens" in str(error)
    assert error.not_recorded


def test_every_status_has_a_family() -> None:
    """Each status but OK is an exception of its own family; those that say "not recorded" are the API's list."""
    assert set(ERROR_BY_CODE) == set(Code) - {Code.OK}
    assert {code for code, family in ERROR_BY_CODE.items() if family.not_recorded} == {
        Code.INVALID_ARGUMENT,
        Code.ALREADY_EXISTS,
        Code.OUT_OF_RANGE,
        Code.UNAUTHENTICATED,
        Code.PERMISSION_DENIED,
        Code.RESOURCE_EXHAUSTED,
        Code.UNIMPLEMENTED,
    }
    assert issubclass(OverloadedError, ServerError)


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    """Every exception is in the drawing at the head of the module, with its statuses."""
    for code, family in ERROR_BY_CODE.items():
        line = next(
            line for line in (taximeter_errors.__doc__ or "").splitlines() if f"── {family.__name__} " in line
        )
        assert code.name in line or family is InternalError
