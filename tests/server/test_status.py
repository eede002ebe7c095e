# SPDX-License-Identifier: Apache-2.0
"""Statuses: every domain error has its code and a published reason, and a defect shows nothing but its id."""

from collections.abc import Iterator

import grpc
import pytest
import structlog
from google.rpc import error_details_pb2, status_pb2

from taximeter.v1 import error_reason_pb2
from taximeter_server import (
    _native,
    billing_errors,
    correction_errors,
    credit_errors,
    errors,
    payment_errors,
    rate_card_errors,
)
from taximeter_server.plan_yaml import PlanInvalidError
from taximeter_server.rate_card import RateCardInvalidError, RateCardProblem
from taximeter_server.rpc.status import CODES, DOMAIN, status_of

EXAMPLES: list[errors.RequestError] = [
    errors.CredentialsRequiredError(),
    errors.MalformedMessageError(),
    errors.InvalidFieldsError.of("record.tenant", "bad"),
    errors.PageTokenError(),
    errors.RangeInvalidError("query.end_time", "bad"),
    RateCardInvalidError((RateCardProblem(3, 1, "rate_card.x", "YAML_ALIAS", "no aliases"),)),
    errors.RoleMissingError(),
    errors.TenantForbiddenError(),
    errors.TenantUnknownError("acme"),
    errors.TenantHasKeysError("acme", ["k3f9a", "m2x8q"]),
    errors.PlanUnknownError("pro"),
    errors.PlanInUseError("pro"),
    errors.KeyUnknownError(),
    errors.KeyEndedError("REVOKED"),
    errors.LastAdminKeyError(),
    errors.WebhookUnknownError(),
    errors.TooManyDenialsError(),
    rate_card_errors.RateCardUnknownError("no such card"),
    rate_card_errors.RateCardVersionConflictError(7),
    rate_card_errors.EffectiveTooSoonError(1),
    rate_card_errors.TimelineEntryUnknownError(9),
    rate_card_errors.WithdrawTooLateError(7, "is in force"),
    rate_card_errors.TenantPricesUnknownError("acme"),
    errors.SumOutOfRangeError(),
    errors.CostOutOfRangeError("card_b", "acme", "record-of-acme-0001"),
    errors.TooMuchUsageError(600),
    errors.ReportTooLargeError(),
    correction_errors.RecordVoidedError("adj-1"),
    correction_errors.RecordIsCorrectionError("0198c5a0"),
    correction_errors.CorrectionConflictError(),
    PlanInvalidError((RateCardProblem(3, 1, "price", "FIELD_REQUIRED", "required: price"),)),
    billing_errors.PlanWithoutTermsError("pro"),
    billing_errors.SubscriptionUnknownError("acme"),
    billing_errors.SubscriptionExistsError("acme"),
    billing_errors.SubscriptionChangedError(3),
    billing_errors.SubscriptionEndedError("acme"),
    billing_errors.InvoiceUnknownError("INV-000007"),
    billing_errors.InvoiceNotDueError("acme/20260601T000000Z"),
    billing_errors.InvoiceStateError("acme/20260601T000000Z", "paid"),
    billing_errors.CreditTooLargeError("acme/20260601T000000Z", 250),
    billing_errors.CreditNoteConflictError("goodwill-1"),
    billing_errors.TopUpConflictError("order-1"),
    credit_errors.CreditAccountUnknownError("acme"),
    credit_errors.CreditRatePinnedError("acme"),
    credit_errors.CreditGrantConflictError("welcome"),
    credit_errors.CreditGrantUnknownError("welcome"),
    errors.RecordUnknownError(),
    payment_errors.PaymentNotConfiguredError(),
    payment_errors.PaymentAccountUnknownError("acme"),
    payment_errors.PaymentProviderError(),
    payment_errors.PaymentSignatureError(),
    payment_errors.PaymentUnknownError(),
    errors.StoreUnavailableError(),
    errors.StoreFullError(),
    errors.StoreCorruptError("{tx:cfg}:keys"),
]


def request_errors(kind: type[errors.RequestError]) -> Iterator[type[errors.RequestError]]:
    """Yield every error below kind."""
    for below in kind.__subclasses__():
        yield below
        yield from request_errors(below)


def info_of(status: status_pb2.Status) -> error_details_pb2.ErrorInfo:
    """Return the one ErrorInfo."""
    infos = [detail for detail in status.details if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR)]
    assert len(infos) == 1
    info = error_details_pb2.ErrorInfo()
    infos[0].Unpack(info)
    return info


def test_table_is_total() -> None:
    """Every domain error stands in the table, and the table and these tests hold nothing else."""
    existing = set(request_errors(errors.RequestError))

    assert existing == set(CODES)
    assert existing == {type(example) for example in EXAMPLES}


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_every_error_has_a_published_reason(error: errors.RequestError) -> None:
    """A status carries one ErrorInfo with a reason of the enum, our domain, and the error's facts."""
    status = status_of(error)
    info = info_of(status)

    assert status.code == CODES[type(error)].value[0]
    assert f"ERROR_REASON_{info.reason}" in error_reason_pb2.ErrorReason.keys()  # noqa: SIM118 (an enum, no dict)
    assert info.domain == DOMAIN
    assert dict(info.metadata) == error.metadata


def test_reason_of_a_field_wins_over_the_class() -> None:
    """A required field that is empty says so by its own reason."""
    assert info_of(status_of(errors.InvalidFieldsError.required("yaml"))).reason == "FIELD_REQUIRED"


def test_invalid_argument_names_the_fields() -> None:
    """Errors of fields carry BadRequest with path, description and reason."""
    status = status_of(EXAMPLES[5])
    bad_request = error_details_pb2.BadRequest()
    status.details[1].Unpack(bad_request)
    (violation,) = bad_request.field_violations

    assert (violation.field, violation.reason) == ("rate_card.x", "YAML_ALIAS")
    assert "no aliases" in violation.description


class _PanicError(BaseException):
    """Like a panic of native code: no Exception."""


@pytest.mark.parametrize("error", [ValueError("tx_secret"), _PanicError("tx_secret")], ids=["bug", "panic"])
def test_defect_shows_an_id_and_nothing_else(error: BaseException) -> None:
    """What is not in the table is logged once with an id; the caller sees the id alone."""
    with structlog.testing.capture_logs() as logs:
        status = status_of(error)

    assert status.code == grpc.StatusCode.INTERNAL.value[0]
    assert "tx_secret" not in str(status)
    (entry,) = logs
    assert entry["exc_info"] is error
    assert dict(info_of(status).metadata) == {"error_id": entry["error_id"]}


def test_corrupt_key_is_named_in_the_log_only() -> None:
    """Which key is corrupt is for the operator."""
    with structlog.testing.capture_logs() as logs:
        status = status_of(errors.StoreCorruptError("{tx:cfg}:keys"))

    assert "tx:cfg" not in str(status)
    assert logs[0]["problem"] == "{tx:cfg}:keys"


def test_native_errors_mean_the_same() -> None:
    """Errors of the compiled module get the status that ours would get; its RPC errors bring their own."""
    own = status_pb2.Status(code=5, message="no row for this model")

    assert info_of(status_of(_native.StoreUnavailableError("x"))).reason == "STORE_UNAVAILABLE"
    assert info_of(status_of(_native.StoreCorruptError("x"))).reason == "STORE_CORRUPT"
    assert status_of(_native.RpcError(5, own.message, own.SerializeToString())) == own


def test_message_stays_within_what_metadata_may_hold() -> None:
    """However many fields are wrong, the status fits into the metadata that carries it."""
    violations = [errors.FieldViolation("f" * 100, "d" * 100) for _ in range(1000)]
    status = status_of(errors.InvalidFieldsError(violations))

    assert len(status.message) + status.ByteSize() * 4 // 3 < 8192
    assert len(status.details) == 2
