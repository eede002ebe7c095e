# SPDX-License-Identifier: Apache-2.0
"""The one table from domain errors to gRPC statuses.

Every status carries google.rpc.ErrorInfo with a reason of taximeter.v1.ErrorReason; errors of fields also carry
google.rpc.BadRequest. Whatever is not in the table is a defect: it is logged once with an id, and the caller is told
the id alone.
"""

import secrets
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import structlog
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode

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
from taximeter_server.rate_card_problems import RateCardInvalidError

DOMAIN = "taximeter.dev"

CODES: Mapping[type[errors.RequestError], StatusCode] = MappingProxyType(
    {
        errors.CredentialsRequiredError: StatusCode.UNAUTHENTICATED,
        errors.MalformedMessageError: StatusCode.INVALID_ARGUMENT,
        errors.InvalidFieldsError: StatusCode.INVALID_ARGUMENT,
        errors.PageTokenError: StatusCode.INVALID_ARGUMENT,
        errors.RangeInvalidError: StatusCode.INVALID_ARGUMENT,
        RateCardInvalidError: StatusCode.INVALID_ARGUMENT,
        PlanInvalidError: StatusCode.INVALID_ARGUMENT,
        errors.RoleMissingError: StatusCode.PERMISSION_DENIED,
        errors.TenantForbiddenError: StatusCode.PERMISSION_DENIED,
        errors.TooManyDenialsError: StatusCode.RESOURCE_EXHAUSTED,
        errors.TenantUnknownError: StatusCode.NOT_FOUND,
        errors.TenantHasKeysError: StatusCode.FAILED_PRECONDITION,
        errors.PlanUnknownError: StatusCode.NOT_FOUND,
        errors.PlanInUseError: StatusCode.FAILED_PRECONDITION,
        errors.KeyUnknownError: StatusCode.NOT_FOUND,
        errors.WebhookUnknownError: StatusCode.NOT_FOUND,
        errors.KeyEndedError: StatusCode.FAILED_PRECONDITION,
        errors.LastAdminKeyError: StatusCode.FAILED_PRECONDITION,
        rate_card_errors.RateCardUnknownError: StatusCode.NOT_FOUND,
        rate_card_errors.RateCardVersionConflictError: StatusCode.ABORTED,
        rate_card_errors.EffectiveTooSoonError: StatusCode.FAILED_PRECONDITION,
        rate_card_errors.TimelineEntryUnknownError: StatusCode.NOT_FOUND,
        rate_card_errors.WithdrawTooLateError: StatusCode.FAILED_PRECONDITION,
        rate_card_errors.TenantPricesUnknownError: StatusCode.NOT_FOUND,
        errors.SumOutOfRangeError: StatusCode.OUT_OF_RANGE,
        errors.CostOutOfRangeError: StatusCode.OUT_OF_RANGE,
        errors.TooMuchUsageError: StatusCode.RESOURCE_EXHAUSTED,
        errors.ReportTooLargeError: StatusCode.RESOURCE_EXHAUSTED,
        errors.RecordUnknownError: StatusCode.NOT_FOUND,
        correction_errors.RecordVoidedError: StatusCode.FAILED_PRECONDITION,
        correction_errors.RecordIsCorrectionError: StatusCode.FAILED_PRECONDITION,
        correction_errors.CorrectionConflictError: StatusCode.ABORTED,
        billing_errors.PlanWithoutTermsError: StatusCode.FAILED_PRECONDITION,
        billing_errors.SubscriptionUnknownError: StatusCode.NOT_FOUND,
        billing_errors.SubscriptionExistsError: StatusCode.ALREADY_EXISTS,
        billing_errors.SubscriptionChangedError: StatusCode.ABORTED,
        billing_errors.SubscriptionEndedError: StatusCode.FAILED_PRECONDITION,
        billing_errors.InvoiceUnknownError: StatusCode.NOT_FOUND,
        billing_errors.InvoiceNotDueError: StatusCode.FAILED_PRECONDITION,
        billing_errors.InvoiceStateError: StatusCode.FAILED_PRECONDITION,
        billing_errors.CreditTooLargeError: StatusCode.OUT_OF_RANGE,
        billing_errors.CreditNoteConflictError: StatusCode.ALREADY_EXISTS,
        billing_errors.TopUpConflictError: StatusCode.ALREADY_EXISTS,
        payment_errors.PaymentNotConfiguredError: StatusCode.FAILED_PRECONDITION,
        payment_errors.PaymentAccountUnknownError: StatusCode.NOT_FOUND,
        payment_errors.PaymentProviderError: StatusCode.UNAVAILABLE,
        payment_errors.PaymentSignatureError: StatusCode.UNAUTHENTICATED,
        payment_errors.PaymentUnknownError: StatusCode.NOT_FOUND,
        credit_errors.CreditAccountUnknownError: StatusCode.NOT_FOUND,
        credit_errors.CreditRatePinnedError: StatusCode.FAILED_PRECONDITION,
        credit_errors.CreditGrantConflictError: StatusCode.ALREADY_EXISTS,
        credit_errors.CreditGrantUnknownError: StatusCode.NOT_FOUND,
        errors.StoreUnavailableError: StatusCode.UNAVAILABLE,
        errors.StoreFullError: StatusCode.UNAVAILABLE,
        errors.StoreCorruptError: StatusCode.INTERNAL,
    }
)
"""Total over the leaves of RequestError, which a test proves."""

# A status travels in metadata, twice and in base 64, and clients take 8 KiB of it.
_MESSAGE_LENGTH_MAX = 1_000
_BAD_REQUEST_BYTES_MAX = 3_000

_log = structlog.get_logger(__name__)


def status_of(error: BaseException) -> status_pb2.Status:
    """Return the status that a call ends with. Logs what the caller must not see."""
    known = _domain_error(error)
    if isinstance(known, status_pb2.Status):
        return known
    if known is None:
        return _defect(error)
    if isinstance(known, errors.StoreCorruptError):
        _log.error("store is corrupt", problem=known.problem)
    details: list[Message] = [_error_info(known.reason, known.metadata)]
    if isinstance(known, errors.InvalidFieldsError):
        details.append(_bad_request(known.violations))
    return _status(CODES[type(known)], known.message, details)


def code_of(error: BaseException) -> str:
    """Return the name of the code that a call ends with, and log nothing."""
    known = _domain_error(error)
    if isinstance(known, status_pb2.Status):
        return next(code.name for code in StatusCode if code.value[0] == known.code)
    return StatusCode.INTERNAL.name if known is None else CODES[type(known)].name


def _domain_error(error: BaseException) -> errors.RequestError | status_pb2.Status | None:
    """Return the error in terms of the table, the status where it brings its own, None for a defect."""
    if isinstance(error, errors.RequestError) and type(error) in CODES:
        return error
    if isinstance(error, _native.RpcError):
        return status_pb2.Status.FromString(error.args[2])
    if isinstance(error, _native.StoreUnavailableError):
        return errors.StoreUnavailableError()
    if isinstance(error, _native.StoreCorruptError):
        return errors.StoreCorruptError(str(error))
    return None


def _defect(error: BaseException) -> status_pb2.Status:
    error_id = secrets.token_hex(4)
    _log.error("call failed", error_id=error_id, exc_info=error)
    message = f"internal error {error_id}"
    return _status(StatusCode.INTERNAL, message, [_error_info("INTERNAL", {"error_id": error_id})])


def _error_info(reason: str, metadata: Mapping[str, str]) -> error_details_pb2.ErrorInfo:
    return error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN, metadata=metadata)


def _bad_request(violations: Sequence[errors.FieldViolation]) -> error_details_pb2.BadRequest:
    details = error_details_pb2.BadRequest(
        field_violations=[
            error_details_pb2.BadRequest.FieldViolation(
                field=violation.field, description=violation.description, reason=violation.reason
            )
            for violation in violations
        ]
    )
    while details.ByteSize() > _BAD_REQUEST_BYTES_MAX:
        del details.field_violations[-1]
    return details


def _status(code: StatusCode, message: str, details: Sequence[Message]) -> status_pb2.Status:
    status = status_pb2.Status(code=code.value[0], message=message[:_MESSAGE_LENGTH_MAX])
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return status
