# SPDX-License-Identifier: Apache-2.0
"""What can go wrong, as types that hold their facts.

::

    Exception
    ├── StartError                        the server cannot start; printed, exit status 1
    │   ├── ConfigError                   a setting is wrong; exit status 2
    │   ├── DataDirectoryError            the data directory cannot be used
    │   │   └── DataDirectoryInUseError   another server owns it
    │   ├── StoreStartError               the embedded store does not come up
    │   ├── StoreRefusedError             the store's settings could lose records
    │   └── ListenError                   the public port cannot be bound
    └── RequestError                      one call fails; rpc/status.py maps each leaf to a gRPC status
        ├── CredentialsRequiredError
        ├── MalformedMessageError
        ├── InvalidFieldsError            one or more fields are wrong
        │   ├── PageTokenError
        │   └── RangeInvalidError
        ├── RoleMissingError
        ├── TooManyDenialsError
        ├── TenantForbiddenError
        ├── TenantUnknownError
        ├── TenantHasKeysError
        ├── PlanUnknownError
        ├── PlanInUseError
        ├── KeyUnknownError
        ├── WebhookUnknownError
        ├── KeyEndedError
        ├── LastAdminKeyError
        ├── SumOutOfRangeError
        ├── CostOutOfRangeError
        ├── TooMuchUsageError
        ├── ReportTooLargeError
        ├── RecordUnknownError
        ├── (those of billing_errors.py, correction_errors.py, credit_errors.py, payment_errors.py, rate_card_errors.py)
        ├── StoreUnavailableError         transient: try again
        │   └── StoreFullError
        └── StoreCorruptError             not transient

A ``RequestError`` names its reason (``taximeter.v1.ErrorReason`` without the prefix) and repeats every dynamic
part of its message in ``metadata``. Its message is a fixed sentence plus such facts and is shown to the caller, so
text that came from the store or from a stranger never goes into it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar


class StartError(Exception):
    """The server cannot start. The message is for the operator."""

    exit_status: ClassVar[int] = 1


class ConfigError(StartError):
    """A setting is wrong. The message names the key and where its value came from."""

    exit_status = 2

    def __init__(self, key: str, source: str, problem: str) -> None:
        super().__init__(f"{key} ({source}): {problem}")
        self.key = key
        self.source = source


class DataDirectoryError(StartError):
    """The data directory cannot be used."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"data directory {path}: {problem}")
        self.path = path


class DataDirectoryInUseError(DataDirectoryError):
    """Another server owns the data directory. owner_pid is None when it could not be read."""

    def __init__(self, path: Path, owner_pid: int | None) -> None:
        owner = "another taximeter-server" if owner_pid is None else f"taximeter-server with pid {owner_pid}"
        super().__init__(path, f"in use by {owner}; stop it, or choose another directory with --data")


class StoreStartError(StartError):
    """The embedded store does not come up. log_tail is the end of what it wrote."""

    def __init__(self, problem: str, log_tail: str = "") -> None:
        super().__init__(f"embedded store: {problem}" + (f"\n{log_tail}" if log_tail else ""))


class StoreRefusedError(StartError):
    """The store could lose records or is not one that the server knows. problems are sentences."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__(
            "the store is not fit to keep bills:\n" + "\n".join(f"  - {problem}" for problem in problems)
        )


class ListenError(StartError):
    """The public port cannot be bound."""

    def __init__(self, address: str, problem: str) -> None:
        super().__init__(f"cannot listen on {address}: {problem}")


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One thing wrong in a request: field is its path, such as ``query.start_time``."""

    field: str
    description: str
    reason: str = "FIELD_INVALID"


class RequestError(Exception):
    """One call fails. The message is shown to the caller."""

    reason: str = ""

    def __init__(self, message: str, metadata: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.metadata = dict(metadata or {})


class CredentialsRequiredError(RequestError):
    """The call did not come with a principal."""

    reason = "CREDENTIALS_REQUIRED"

    def __init__(self) -> None:
        super().__init__("credentials required")


class MalformedMessageError(RequestError):
    """The bytes are not a message of the method's request type."""

    reason = "MALFORMED_MESSAGE"

    def __init__(self) -> None:
        super().__init__("request is not a valid message")


KEY_IDS_SHOWN_MAX = 20
"""More keys than this are not named in an error."""
VIOLATIONS_SHOWN_MAX = 20
"""More violations than this are not listed: the first ones are enough to act on."""


class InvalidFieldsError(RequestError):
    """One or more fields are wrong. violations holds the first VIOLATIONS_SHOWN_MAX."""

    reason = "FIELD_INVALID"

    def __init__(self, violations: Sequence[FieldViolation]) -> None:
        shown = tuple(violations[:VIOLATIONS_SHOWN_MAX])
        message = "; ".join(f"{violation.field}: {violation.description}" for violation in shown)
        super().__init__(message, {"field": shown[0].field})
        self.reason = shown[0].reason if type(self) is InvalidFieldsError else type(self).reason
        self.violations = shown

    @classmethod
    def of(cls, field: str, description: str) -> "InvalidFieldsError":
        """Return the error of one field outside its range or alphabet."""
        return cls([FieldViolation(field, description, cls.reason)])

    @classmethod
    def required(cls, field: str) -> "InvalidFieldsError":
        """Return the error of one required field that is empty."""
        return InvalidFieldsError([FieldViolation(field, "required", "FIELD_REQUIRED")])


class PageTokenError(InvalidFieldsError):
    """A page token that this query did not make."""

    reason = "PAGE_TOKEN"

    def __init__(self) -> None:
        super().__init__([FieldViolation("page_token", "not a token of this query", "PAGE_TOKEN")])


class RangeInvalidError(InvalidFieldsError):
    """An interval that is reversed, empty or too long."""

    reason = "RANGE_INVALID"

    def __init__(self, field: str, description: str) -> None:
        super().__init__([FieldViolation(field, description, "RANGE_INVALID")])


class RoleMissingError(RequestError):
    """The key's role reaches the method, but not what this call asks of it."""

    reason = "ROLE_MISSING"

    def __init__(self) -> None:
        super().__init__("the key's role does not reach what is asked for")


class TooManyDenialsError(RequestError):
    """A key was denied so many admin calls that no more of it are looked at within the minute."""

    reason = "TOO_MANY_DENIALS"

    def __init__(self) -> None:
        super().__init__("too many admin calls of this key were denied: wait a minute")


class TenantForbiddenError(RequestError):
    """The key is not bound to this tenant. Says the same whether the tenant exists or not."""

    reason = "TENANT_FORBIDDEN"

    def __init__(self) -> None:
        super().__init__("not allowed for this tenant")


class TenantUnknownError(RequestError):
    """The tenant has no settings."""

    reason = "TENANT_UNKNOWN"

    def __init__(self, tenant: str) -> None:
        super().__init__("the tenant has no settings", {"tenant": tenant})


class TenantHasKeysError(RequestError):
    """Keys work that are bound to the tenant, or to one below it."""

    reason = "TENANT_HAS_KEYS"

    def __init__(self, tenant: str, key_ids: Sequence[str]) -> None:
        super().__init__(
            "keys work that are bound to the tenant or to one below it: revoke them first",
            {"tenant": tenant, "key_ids": ",".join(key_ids[:KEY_IDS_SHOWN_MAX])},
        )


class PlanUnknownError(RequestError):
    """No plan has this name."""

    reason = "PLAN_UNKNOWN"

    def __init__(self, plan: str) -> None:
        super().__init__("plan: there is none of this name", {"plan": plan})


class PlanInUseError(RequestError):
    """A tenant has the plan."""

    reason = "PLAN_IN_USE"

    def __init__(self, plan: str) -> None:
        super().__init__("plan: a tenant has it", {"plan": plan})


class KeyUnknownError(RequestError):
    """No such key."""

    reason = "KEY_UNKNOWN"

    def __init__(self) -> None:
        super().__init__("no such key")


class WebhookUnknownError(RequestError):
    """No such webhook endpoint, or the key does not reach its tenants."""

    reason = "WEBHOOK_UNKNOWN"

    def __init__(self) -> None:
        super().__init__("no such webhook endpoint")


class KeyEndedError(RequestError):
    """A key that was revoked, has expired or has a successor. state: REVOKED, EXPIRED, ROTATED."""

    reason = "KEY_ENDED"

    def __init__(self, state: str) -> None:
        super().__init__(f"the key is {state.lower()}", {"state": state})


class LastAdminKeyError(RequestError):
    """Without this key nobody could make another."""

    reason = "LAST_ADMIN_KEY"

    def __init__(self) -> None:
        super().__init__("no other admin key works that is bound to no tenant: make one first")


class SumOutOfRangeError(RequestError):
    """A sum does not fit its field."""

    reason = "SUM_OUT_OF_RANGE"

    def __init__(self) -> None:
        super().__init__("a sum does not fit its field: ask for a shorter interval")


class CostOutOfRangeError(RequestError):
    """A card makes a recorded line too expensive to be charged."""

    reason = "COST_OUT_OF_RANGE"

    def __init__(self, field: str, tenant: str, record_id: str) -> None:
        super().__init__(
            f"{field}: the record {record_id} of {tenant} would cost more than 2^63 - 1 pico-units",
            {"field": field, "tenant": tenant, "record_id": record_id},
        )


class TooMuchUsageError(RequestError):
    """More usage than can be priced again in one call."""

    reason = "TOO_MUCH_USAGE"

    def __init__(self, duration_s: int) -> None:
        super().__init__(
            f"more usage than can be priced again within {duration_s} s: name a shorter interval, or a tenant",
            {"duration_s": str(duration_s)},
        )


class ReportTooLargeError(RequestError):
    """More groups than a report may hold."""

    reason = "REPORT_TOO_LARGE"

    def __init__(self) -> None:
        super().__init__(
            "more groups than a report may hold: name a shorter interval or fewer dimensions, or export them"
        )


class RecordUnknownError(RequestError):
    """The ledger has no record of this id that the caller may read."""

    reason = "RECORD_UNKNOWN"

    def __init__(self) -> None:
        super().__init__("no such record")


class StoreUnavailableError(RequestError):
    """The store did not answer in time or cannot serve. Transient: try again."""

    reason = "STORE_UNAVAILABLE"

    def __init__(self, message: str = "the store did not answer") -> None:
        super().__init__(message)


class StoreFullError(StoreUnavailableError):
    """The store has no memory left."""

    reason = "STORE_FULL"

    def __init__(self) -> None:
        super().__init__("the store has no memory left")


class StoreCorruptError(RequestError):
    """A key in the store is not what it must be. The log says which; the caller does not learn it."""

    reason = "STORE_CORRUPT"

    def __init__(self, problem: str) -> None:
        super().__init__("a key in the store is not what it must be")
        self.problem = problem
