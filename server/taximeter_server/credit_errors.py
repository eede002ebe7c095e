# SPDX-License-Identifier: Apache-2.0
"""Why a credit account cannot be read or changed."""

from taximeter_server.errors import RequestError


class CreditAccountUnknownError(RequestError):
    """The tenant has no credit account."""

    reason = "CREDIT_ACCOUNT_UNKNOWN"

    def __init__(self, tenant: str) -> None:
        super().__init__(f"{tenant} has no credit account", {"tenant": tenant})


class CreditRatePinnedError(RequestError):
    """The account has another rate, and what was debited by it stays."""

    reason = "CREDIT_RATE_PINNED"

    def __init__(self, tenant: str) -> None:
        super().__init__(
            f"what a credit of {tenant} stands for was fixed when its account was opened", {"tenant": tenant}
        )


class CreditGrantConflictError(RequestError):
    """The id was used for another grant."""

    reason = "CREDIT_GRANT_CONFLICT"

    def __init__(self, grant_id: str) -> None:
        super().__init__(f"grant_id {grant_id} was used for another grant", {"grant_id": grant_id})


class CreditGrantUnknownError(RequestError):
    """The account has no such grant."""

    reason = "CREDIT_GRANT_UNKNOWN"

    def __init__(self, grant_id: str) -> None:
        super().__init__(f"no grant {grant_id}", {"grant_id": grant_id})
