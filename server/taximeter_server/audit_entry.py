# SPDX-License-Identifier: Apache-2.0
"""The entries of the audit log, chained by hash. Each seals in the newest hash of the rate-card timeline as well.

An admin's call leaves two entries: an INTENT before anything changes, and an OUTCOME after. An intent without an
outcome is a call in progress, or one whose server died: what it changed is not known, but that it was made is.
"""

import json
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Self

from taximeter_server.document_changes import DocumentChange
from taximeter_server.errors import StoreCorruptError
from taximeter_server.hash_chain import chain_hash


class AuditKind(StrEnum):
    """What an entry says."""

    INTENT = "intent"
    OUTCOME = "outcome"
    DENIALS = "denials"
    """A number of calls that were refused before they were looked at."""


OUTCOME_OK = "OK"
OUTCOME_UNKNOWN = "UNKNOWN"
"""Of an intent that has no outcome."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """One entry. Immutable. time_ms is milliseconds since 1970 UTC by the store's clock."""

    sequence: int = 0
    kind: AuditKind
    call_id: str = ""
    """Joins intent and outcome."""
    time_ms: int = 0
    actor: str
    """Id of the key; "taximeter" for the server itself."""
    method: str
    """Full name, such as "/taximeter.v1.TenantService/PutTenant"."""
    target: str = ""
    """What is changed, as far as the request names it."""
    tenants: tuple[str, ...] = ()
    peer: str = ""
    """"HOST:PORT" that the call came from."""
    request_sha256: str = ""
    outcome: str = ""
    """"OK" or the name of a gRPC status; "" for an intent."""
    changes: tuple[DocumentChange, ...] = ()
    count: int = 1
    """Calls that the entry stands for."""
    timeline_version: int = 0
    timeline_hash: str = ""
    """Newest entry of the rate-card timeline when this one was made, and its hash; 0 and "" for none."""
    chain_hash: str = ""

    def chained(self, previous_hash: str) -> Self:
        """Return the entry with its place after previous_hash sealed in."""
        content = asdict(self)
        del content["chain_hash"]
        return replace(self, chain_hash=chain_hash(previous_hash, content))

    def to_json(self) -> str:
        """Return the entry's document, one line."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, document: str) -> Self:
        """Read a document. Raises StoreCorruptError."""
        try:
            return cls._of(**json.loads(document))
        except (ValueError, TypeError, AttributeError) as error:
            raise StoreCorruptError(f"audit entry: {error}") from error

    @classmethod
    def _of(cls, *, kind: str, tenants: list[str], changes: list[dict[str, str]], **values: object) -> Self:
        return cls(
            kind=AuditKind(kind),
            tenants=tuple(tenants),
            changes=tuple(DocumentChange(**change) for change in changes),
            **values,  # type: ignore[arg-type]
        )
