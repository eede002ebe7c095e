# SPDX-License-Identifier: Apache-2.0
"""What recorded usage would have met under other limits."""

from dataclasses import dataclass
from datetime import datetime

from taximeter.results import LimitKind


@dataclass(frozen=True, slots=True)
class SimulatedDenial:
    """What one limit would have denied of a tenant's calls."""

    tenant: str
    """Level that the limit stands at: the tenant or one of its parents."""
    kind: LimitKind
    """Which limit."""
    denied_calls: int
    """Calls that it would have denied."""
    first_denied_time: datetime
    """When the first of them happened."""


@dataclass(frozen=True, slots=True)
class SimulatedTenant:
    """What limits would have done to one tenant."""

    tenant: str
    """Tenant as recorded. Empty in the total."""
    calls: int
    """Calls recorded."""
    denied_calls: int
    """Calls that would have been denied."""
    first_denied_time: datetime | None
    """When the first of them happened. None when none would have been denied."""
    denials: tuple[SimulatedDenial, ...]
    """The limits that would have denied them; a call may be denied by several. Empty in the total."""


@dataclass(frozen=True, slots=True)
class QuotaSimulation:
    """Recorded usage against other limits."""

    rows: tuple[SimulatedTenant, ...]
    """Tenants with usage, those with most denied calls first."""
    total: SimulatedTenant
    """Sum over all rows."""
    as_of_time: datetime
    """The simulation holds what had been recorded up to here."""
