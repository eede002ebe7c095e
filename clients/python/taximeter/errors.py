# SPDX-License-Identifier: Apache-2.0
"""What can go wrong, one exception per family of gRPC status.

    TaximeterError                     everything below
    ├── ConfigurationError             no server was asked: bad URL, unreadable key or profile
    ├── QuotaDeniedError               `with meter.call(...)` was not allowed; carries the decision
    ├── UsageMissingError              `with meter.call(...)` ended without saying what was used
    ├── SpoolError                     a spool that cannot be opened or written
    │   └── SpoolFullError             a spool without room
    └── ServerError                    a call failed; carries code, reason, metadata, field_violations
        ├── InvalidArgumentError       INVALID_ARGUMENT     the request can never work as it is
        ├── OutOfRangeError            OUT_OF_RANGE         a time, cost or sum outside what is accepted
        ├── UnauthenticatedError       UNAUTHENTICATED      no valid key
        ├── ForbiddenError             PERMISSION_DENIED    the key's role or tenants do not reach this
        ├── NotFoundError              NOT_FOUND            no such card, model, tenant or key
        ├── ConflictError              ALREADY_EXISTS       the record_id was used with another payload
        ├── AbortedError               ABORTED              another publisher was first
        ├── PreconditionError          FAILED_PRECONDITION  not in this state, or not that early
        ├── OverloadedError            RESOURCE_EXHAUSTED   more work than the server takes at once
        ├── NotServedError             UNIMPLEMENTED        the server does not serve this method or field
        ├── UnavailableError           UNAVAILABLE          no server, or its store did not answer
        ├── DeadlineError              DEADLINE_EXCEEDED    no answer in time
        ├── CancelledError             CANCELLED            the call was cancelled
        └── InternalError              INTERNAL, UNKNOWN, DATA_LOSS and codes this client does not know

A quota check that is denied is an answer, see `QuotaDecision`; only the context of a call makes it an exception.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import grpc

if TYPE_CHECKING:
    from taximeter.results import QuotaDecision


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One field of a request that the server refused."""

    field: str
    """Path of the field, such as "record.usage.reasoning_tokens"."""
    description: str
    """One sentence for people."""


class TaximeterError(Exception):
    """Anything that this package raises on purpose."""


class ConfigurationError(TaximeterError):
    """No server was asked, because the connection is not set up right."""


class QuotaDeniedError(TaximeterError):
    """The limits do not let a call go on."""

    def __init__(self, decision: "QuotaDecision") -> None:
        """Takes the answer to the check."""
        exceeded = ", ".join(
            f"{limit.kind.value} of {limit.tenant}" for limit in decision.limits if limit.exceeded
        )
        super().__init__(f"the call is not allowed: {exceeded}")
        self.decision = decision
        """The answer, with all limits, and when to come back."""


class UsageMissingError(TaximeterError):
    """The body of `with meter.call(...)` ended without `used`, so nothing was recorded, and the hold is freed."""

    def __init__(self) -> None:
        """Says what to do."""
        super().__init__("say what the call used: call.used(...)")


class SpoolError(TaximeterError):
    """A spool cannot be opened or written: what was to be kept is not."""


class SpoolFullError(SpoolError):
    """A spool has no room; nothing in it was dropped, and the new record is not kept."""


class ServerError(TaximeterError):
    """A call failed, at the server or on the way."""

    not_recorded: ClassVar[bool] = False
    """True where the status says that Record or one item of RecordBatch changed nothing.

    False means unknown: send the same record again, with the same record_id.
    """

    def __init__(
        self,
        code: grpc.StatusCode,
        message: str,
        *,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
        field_violations: tuple[FieldViolation, ...] = (),
    ) -> None:
        """Takes what the status carried; `message` is one sentence for people."""
        super().__init__(message)
        self.code = code
        """The gRPC status."""
        self.message = message
        """One sentence for people."""
        self.reason = reason
        """Name of the cause, from taximeter.v1.ErrorReason without its prefix. Empty when unknown."""
        self.metadata: dict[str, str] = dict(metadata or {})
        """The dynamic parts of the message, by name."""
        self.field_violations = field_violations
        """The fields that were refused."""

    def __str__(self) -> str:
        """Writes reason, message and fields, each field once."""
        text = f"{self.reason}: {self.message}" if self.reason else f"{self.code.name}: {self.message}"
        fields = [v for v in self.field_violations if v.field not in self.message]
        return text + "".join(f"\n  {v.field}: {v.description}" for v in fields)


class InvalidArgumentError(ServerError):
    """The request can never work as it is; the fields are in `field_violations`."""

    not_recorded = True


class OutOfRangeError(ServerError):
    """A time, cost or sum lies outside what the server accepts."""

    not_recorded = True


class UnauthenticatedError(ServerError):
    """The server knows no such key, or it was revoked or has expired."""

    not_recorded = True


class ForbiddenError(ServerError):
    """The key's role or tenants do not reach this."""

    not_recorded = True


class NotFoundError(ServerError):
    """There is no such card, model, tenant or key."""


class ConflictError(ServerError):
    """The record_id was used before with another payload; nothing was changed."""

    not_recorded = True


class AbortedError(ServerError):
    """Another caller was first; look at the new state and decide again."""


class PreconditionError(ServerError):
    """The server is not in a state that allows this, or the time is too early."""


class OverloadedError(ServerError):
    """The server takes no more work now."""

    not_recorded = True


class NotServedError(ServerError):
    """The server does not serve this method or field."""

    not_recorded = True


class UnavailableError(ServerError):
    """No server answered, or its store did not: no decision, no answer."""


class DeadlineError(ServerError):
    """No answer came in time."""


class CancelledError(ServerError):
    """The call was cancelled."""


class InternalError(ServerError):
    """A defect in the server; `metadata["error_id"]` finds it in its log."""


ERROR_BY_CODE: Mapping[grpc.StatusCode, type[ServerError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidArgumentError,
    grpc.StatusCode.OUT_OF_RANGE: OutOfRangeError,
    grpc.StatusCode.UNAUTHENTICATED: UnauthenticatedError,
    grpc.StatusCode.PERMISSION_DENIED: ForbiddenError,
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.ALREADY_EXISTS: ConflictError,
    grpc.StatusCode.ABORTED: AbortedError,
    grpc.StatusCode.FAILED_PRECONDITION: PreconditionError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: OverloadedError,
    grpc.StatusCode.UNIMPLEMENTED: NotServedError,
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineError,
    grpc.StatusCode.CANCELLED: CancelledError,
    grpc.StatusCode.INTERNAL: InternalError,
    grpc.StatusCode.UNKNOWN: InternalError,
    grpc.StatusCode.DATA_LOSS: InternalError,
}
"""The family of every status except OK."""
