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
