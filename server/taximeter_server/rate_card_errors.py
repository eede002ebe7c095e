# SPDX-License-Identifier: Apache-2.0
"""What can be wrong with a request that concerns rate cards and their timeline."""

from taximeter_server.errors import RequestError


class RateCardUnknownError(RequestError):
    """No card has this id, or more than one begins with it, or none is in force."""

    reason = "CARD_UNKNOWN"

    def __init__(self, problem: str) -> None:
        super().__init__(problem)


class RateCardVersionConflictError(RequestError):
    """Another publisher was first. current_version is the newest version now."""

    reason = "CARD_VERSION_CONFLICT"

    def __init__(self, current_version: int) -> None:
        super().__init__(
            f"the newest version is {current_version}: look at it, then publish again",
            {"current_version": str(current_version)},
        )
        self.current_version = current_version


class TimelineEntryUnknownError(RequestError):
    """The timeline has no entry of this version."""

    reason = "TIMELINE_ENTRY_UNKNOWN"

    def __init__(self, version: int) -> None:
        super().__init__(f"version: the timeline has no entry {version}", {"version": str(version)})


class WithdrawTooLateError(RequestError):
    """The entry may have priced usage, or is a withdrawal itself."""

    reason = "WITHDRAW_TOO_LATE"

    def __init__(self, version: int, problem: str) -> None:
        super().__init__(f"version: entry {version} {problem}", {"version": str(version)})


class TenantPricesUnknownError(RequestError):
    """The tenant has no prices of its own, and no parent of it has."""

    reason = "TENANT_PRICES_UNKNOWN"

    def __init__(self, tenant: str) -> None:
        super().__init__("tenant: has no prices of its own", {"tenant": tenant})


class EffectiveTooSoonError(RequestError):
    """A card cannot take force that early. earliest_time_ms is the first instant at which it could have."""

    reason = "EFFECTIVE_TOO_SOON"

    def __init__(self, earliest_time_ms: int) -> None:
        super().__init__(
            f"effective_time: the earliest possible was {earliest_time_ms} ms after 1970-01-01 UTC",
            {"earliest_time_ms": str(earliest_time_ms)},
        )
