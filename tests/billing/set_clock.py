# SPDX-License-Identifier: Apache-2.0
"""What billing needs of a server, without one."""

from dataclasses import dataclass

from taximeter_server.limits import Limits


@dataclass
class SetClock:
    """A clock that shows what it is told: milliseconds since 1970 UTC."""

    now_ms: int

    def __call__(self) -> int:
        """Return the time."""
        return self.now_ms


class NoLimits:
    """Plans of these tests have no limits to enforce."""

    def put_plan(self, name: str, limits: Limits | None) -> None:
        """Do nothing."""


class NoAccounts:
    """No tenant of these tests has credits: those are the engine's, which has tests of its own."""

    def credit_account(self, root: str) -> bytes | None:  # noqa: ARG002 (the shape)
        """Return none."""
        return None

    def change_credits(self, **change: object) -> tuple[str, str]:
        """Nothing may ask for it."""
        raise AssertionError(change)

    def put_expiry(self, tenant: str, grant_id: str, time_ms: int) -> None:
        """Nothing may ask for it."""
        raise AssertionError((tenant, grant_id, time_ms))
