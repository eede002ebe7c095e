# SPDX-License-Identifier: Apache-2.0
"""Purchases of credits in the store. An account's turn says how many it has begun, and which one is pending.

Every purchase begins and ends by changing the turn with the document, if both are as they were seen: so there is one at
a time, of two servers one begins it, and a kill leaves nothing between.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from taximeter_server.errors import StoreUnavailableError
from taximeter_server.store_billing import BillingStore, FieldChange
from taximeter_server.store_names import TOP_UP_TURNS, TOP_UPS_PREFIX
from taximeter_server.top_up import PENDING, TopUp

ATTEMPTS_MAX = 20


@dataclass(frozen=True, slots=True)
class Turn:
    """count: purchases that were begun. pending: request id, "" for none."""

    text: str = ""

    @property
    def count(self) -> int:
        """Purchases that were begun."""
        return int(self.text.partition(" ")[0] or 0)

    @property
    def pending(self) -> str:
        """Request id of the one that is pending, "" for none."""
        return self.text.partition(" ")[2]


class TopUpStore:
    """Begins and ends purchases. Thread-safe. Every method raises StoreUnavailableError and StoreCorruptError."""

    def __init__(self, store: BillingStore) -> None:
        self._store = store

    def turns(self) -> Mapping[str, Turn]:
        """Return the turns of all accounts that have ever bought."""
        return {tenant: Turn(text) for tenant, text in self._store.fields(TOP_UP_TURNS).items()}

    def turn(self, tenant: str) -> Turn:
        """Return the turn of an account."""
        return Turn(self._store.field(TOP_UP_TURNS, tenant))

    def get(self, tenant: str, request_id: str) -> TopUp | None:
        """Return a purchase."""
        document = self._store.field(TOP_UPS_PREFIX + tenant, request_id)
        return TopUp.from_json(document) if document else None

    def all_of(self, tenant: str) -> list[TopUp]:
        """Return the purchases of an account, newest first."""
        found = [TopUp.from_json(one) for one in self._store.fields(TOP_UPS_PREFIX + tenant).values()]
        return sorted(found, key=lambda one: (one.create_time_ms, one.request_id), reverse=True)

    def begin(self, top_up: TopUp, turn: Turn) -> bool:
        """Keep a new purchase, if the account's turn is as it was seen and none is pending. Says whether it is."""
        after = f"{turn.count + 1} {top_up.request_id}"
        return self._store.replace(
            [
                FieldChange(TOP_UP_TURNS, top_up.tenant, turn.text, after),
                FieldChange(TOP_UPS_PREFIX + top_up.tenant, top_up.request_id, "", top_up.to_json()),
            ]
        )

    def end(self, before: TopUp, *, state: str, time_ms: int, external_id: str = "") -> bool:
        """Note what became of a purchase. Says whether it was still as before."""
        after = replace(before, state=state, external_id=external_id, finish_time_ms=time_ms)
        document = FieldChange(
            TOP_UPS_PREFIX + before.tenant, before.request_id, before.to_json(), after.to_json()
        )
        for _ in range(ATTEMPTS_MAX):
            turn = self.turn(before.tenant)
            changes = [document]
            if turn.pending == before.request_id:
                changes.append(FieldChange(TOP_UP_TURNS, before.tenant, turn.text, str(turn.count)))
            if self._store.replace(changes):
                return True
            found = self.get(before.tenant, before.request_id)
            if found != before:
                return False
        raise StoreUnavailableError

    def pending(self) -> list[TopUp]:
        """Return all purchases that are pending."""
        found = [self.get(tenant, turn.pending) for tenant, turn in self.turns().items() if turn.pending]
        return [one for one in found if one is not None and one.state == PENDING]
