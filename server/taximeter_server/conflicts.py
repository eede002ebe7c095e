# SPDX-License-Identifier: Apache-2.0
"""Records that were journaled while the store was away and could not be applied on its return.

The engine writes their documents; nobody changes them.
"""

import json
from dataclasses import dataclass
from typing import Self

from taximeter_server.errors import StoreCorruptError
from taximeter_server.store import DocumentStore


@dataclass(frozen=True, slots=True, kw_only=True)
class ConflictLine:
    """One usage class of a record, as taximeter.v1.CostLine. unit_price is a decimal string."""

    usage_class: str
    priced_as: str
    quantity: int
    billed_quantity: int
    unit_price: str
    per: int
    cost_picos: int
    unpriced: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordConflict:
    """A record that is in no total. name identifies the conflict; times are milliseconds since 1970 UTC."""

    name: str
    tenant: str
    record_id: str
    receive_time_ms: int
    find_time_ms: int
    model: str
    lines: tuple[ConflictLine, ...]

    @classmethod
    def from_json(cls, name: str, document: str) -> Self:
        """Read a conflict's document. Raises StoreCorruptError."""
        try:
            values = json.loads(document)
            return cls(
                name=name,
                tenant=values["tenant"],
                record_id=values["record_id"],
                receive_time_ms=values["receive_time_ms"],
                find_time_ms=values["find_time_ms"],
                model=values["model"],
                lines=tuple(ConflictLine(**line) for line in values.get("lines", ())),
            )
        except (ValueError, TypeError, KeyError) as error:
            raise StoreCorruptError(f"conflict {name}: {error}") from error


class RecordConflicts:
    """All conflicts of a store."""

    def __init__(self, store: DocumentStore) -> None:
        self._store = store

    def list(self) -> list[RecordConflict]:
        """Return all conflicts, oldest first."""
        conflicts = [
            RecordConflict.from_json(name, document) for name, document in self._store.conflicts().items()
        ]
        return sorted(conflicts, key=lambda conflict: (conflict.receive_time_ms, conflict.name))
