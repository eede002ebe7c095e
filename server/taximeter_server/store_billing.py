# SPDX-License-Identifier: Apache-2.0
"""Subscriptions and invoices in the store. Used through DocumentStore.billing.

What belongs together is changed together, and only if it is still what the author saw: a subscription, how far it is
invoiced, the next number of a series, documents. So a kill leaves nothing half-done, and of two servers one wins.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from taximeter_server.document_changes import DocumentChanges, document_sha256
from taximeter_server.store_errors import translated
from taximeter_server.store_fsync import StoreFsync
from taximeter_server.store_functions import StoreFunctions
from taximeter_server.store_names import (
    CONFIGURATION,
    INVOICE_IDS,
    INVOICE_NUMBERS,
    INVOICED_UNTIL,
    INVOICES_PREFIX,
    SUBSCRIPTIONS,
    TENANTS,
    TOP_UPS_PREFIX,
)


@dataclass(frozen=True, slots=True)
class FieldChange:
    """A field of a hash: its value as seen and as it is to be, "" for none. Both alike only make sure of it."""

    key: str
    field: str
    seen: str
    value: str


@dataclass(frozen=True, slots=True)
class StoredAccount:
    """Everything about one root tenant, as of one instant; documents are JSON, "" for none.

    invoiced_until_ms: everything before is invoiced, -1 for nothing. numbers: the last of each series.
    """

    subscription: str
    invoiced_until_ms: int
    documents: Mapping[str, str]
    numbers: Mapping[str, int]
    tenant_settings: str
    top_ups: Mapping[str, str]


class BillingStore:
    """Reads and changes. Thread-safe. Every method raises StoreUnavailableError."""

    def __init__(
        self, client: Any, fsync: StoreFsync, functions: StoreFunctions, changes: DocumentChanges
    ) -> None:
        self._client = client
        self._fsync = fsync
        self._functions = functions
        self._changes = changes

    def subscriptions(self) -> dict[str, str]:
        """Return all subscriptions by root tenant."""
        return self.fields(SUBSCRIPTIONS)

    def invoiced_until_ms(self) -> dict[str, int]:
        """Return how far tenants are invoiced, of those that are."""
        with translated():
            return {tenant: int(time_ms) for tenant, time_ms in self._client.hgetall(INVOICED_UNTIL).items()}

    def account(self, tenant: str) -> StoredAccount:
        """Return everything about one root tenant."""
        with translated(), self._client.pipeline(transaction=True) as transaction:
            transaction.hget(SUBSCRIPTIONS, tenant).hget(INVOICED_UNTIL, tenant)
            transaction.hgetall(INVOICES_PREFIX + tenant).hgetall(INVOICE_NUMBERS)
            transaction.hget(TENANTS, tenant).hgetall(TOP_UPS_PREFIX + tenant)
            subscription, until, documents, numbers, settings, top_ups = transaction.execute()
        return StoredAccount(
            subscription or "",
            -1 if until is None else int(until),
            documents,
            {series: int(number) for series, number in numbers.items()},
            settings or "",
            top_ups,
        )

    def invoice_id(self, number: str) -> str:
        """Return the id of the document with a number, "" for none."""
        with translated():
            return self._client.hget(INVOICE_IDS, number) or ""

    def field(self, key: str, field: str) -> str:
        """Return one field of a hash, "" for none."""
        with translated():
            return self._client.hget(key, field) or ""

    def fields(self, key: str) -> dict[str, str]:
        """Return all fields of a hash."""
        with translated():
            return dict(self._client.hgetall(key))

    def replace(self, changes: Sequence[FieldChange]) -> bool:
        """Make all changes, or none when one field is not as seen. Says whether they are made, and on the disk."""
        keys = tuple(dict.fromkeys(change.key for change in changes))
        arguments: list[str | int] = []
        for change in changes:
            arguments += (keys.index(change.key) + 1, change.field, change.seen, change.value)
        with translated():
            if not self._functions.call("replace_fields", keys, *arguments):
                return False
            for change in changes:
                if change.seen != change.value:
                    kind = change.key.removeprefix(CONFIGURATION).partition(":")[0]
                    before, after = (document_sha256(text or None) for text in (change.seen, change.value))
                    self._changes.note(f"{kind}/{change.field}", before, after)
            self._fsync.wait()
        return True
