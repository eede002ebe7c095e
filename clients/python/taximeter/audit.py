# SPDX-License-Identifier: Apache-2.0
"""What the audit log says: who has changed what, and whether the log is whole. All values are immutable."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class AuditChange:
    """One document before and after a call."""

    document: str
    """Kind and name, such as "tenants/acme"."""
    before_sha256: str
    """Hex SHA-256 before the call. Empty for a new one."""
    after_sha256: str
    """Hex SHA-256 after the call. Empty for one that is gone."""


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One call that changed something, or was to."""

    sequence: int
    """Place of its entry in the log."""
    time: datetime | None
    """When, by the store's clock."""
    actor: str
    """Id of the key that called; "taximeter" for the server itself."""
    peer: str
    """Where the connection came from, "HOST:PORT"."""
    method: str
    """Full name of the method."""
    target: str
    """What was changed, as far as request and answer name it."""
    tenants: tuple[str, ...]
    """Tenants that it concerns. Empty where it concerns all, or none by name."""
    outcome: str
    """"OK", the name of a gRPC status, or "UNKNOWN"."""
    changes: tuple[AuditChange, ...]
    """Documents that were changed."""
    request_sha256: str
    """Hex SHA-256 of the request message."""
    count: int
    """Calls that the event stands for."""
    chain_hash: str
    """Hash that seals in everything before it."""


@dataclass(frozen=True, slots=True)
class AuditDifference:
    """One thing that is not as the log says."""

    sequence: int
    """Entry of the log; 0 where none is meant."""
    place: str
    """Where."""
    message: str
    """What differs."""


@dataclass(frozen=True, slots=True)
class AuditVerification:
    """What a walk over the whole log has found."""

    entry_count: int
    """Entries in the log."""
    open_call_count: int
    """Calls in progress, or whose server died in them."""
    chain_hash: str
    """Hash of the newest entry. Keep it elsewhere."""
    differences: tuple[AuditDifference, ...]
    """What is not as the log says. Empty when all is good."""
