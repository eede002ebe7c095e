# SPDX-License-Identifier: Apache-2.0
"""Settings of tenants. The document here is what people see; the engine enforces its limits."""

import json
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Protocol, Self

from taximeter_server.errors import InvalidFieldsError, StoreCorruptError, TenantUnknownError
from taximeter_server.store import DocumentStore
from taximeter_server.tenant_path import check_tenant

DISPLAY_NAME_LENGTH_MAX = 200
REQUESTS_PER_MINUTE_MAX = 1_000_000_000
TOKENS_PER_DAY_MAX = 1_000_000_000_000_000
COST_PER_DAY_PICOS_MAX = 2**63 - 1


class LimitSetter(Protocol):
    """Puts limits in force; the engine does."""

    def put_limits(
        self,
        tenant: str,
        *,
        requests_per_minute: int | None,
        tokens_per_day: int | None,
        cost_per_day_picos: int | None,
    ) -> None:
        """Set the limits of one level; None is no limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Maxima at one level; None is no limit, 0 lets nothing pass."""

    requests_per_minute: int | None = None
    tokens_per_day: int | None = None
    cost_per_day_picos: int | None = None

    def check(self, field: str) -> None:
        """Raise InvalidFieldsError for a maximum out of range."""
        maxima = {
            "requests_per_minute": REQUESTS_PER_MINUTE_MAX,
            "tokens_per_day": TOKENS_PER_DAY_MAX,
            "cost_per_day_picos": COST_PER_DAY_PICOS_MAX,
        }
        for name, maximum in maxima.items():
            value = getattr(self, name)
            if value is not None and not 0 <= value <= maximum:
                raise InvalidFieldsError.of(f"{field}.{name}", f"0 to {maximum}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """The settings of one level. update_time_ms is milliseconds since 1970 UTC."""

    name: str
    display_name: str
    limits: Limits
    update_time_ms: int

    def to_json(self) -> str:
        """Return the tenant's document."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, document: str) -> Self:
        """Read a tenant's document. Raises StoreCorruptError."""
        try:
            values = json.loads(document)
            return cls(**{**values, "limits": Limits(**values["limits"])})
        except (ValueError, TypeError, KeyError) as error:
            raise StoreCorruptError(f"tenant document: {error}") from error


class Tenants:
    """All tenants that have settings."""

    def __init__(self, store: DocumentStore, limit_setter: LimitSetter, clock: Callable[[], int]) -> None:
        self._store = store
        self._limit_setter = limit_setter
        self._clock = clock
        # Document and limits are two writes; two changes of one tenant must not mix them.
        self._lock = threading.Lock()

    def put(self, *, name: str, display_name: str, limits: Limits) -> Tenant:
        """Create or replace the settings of one level. In force at once. Raises InvalidFieldsError."""
        check_tenant(name, "tenant.name")
        if len(display_name) > DISPLAY_NAME_LENGTH_MAX:
            raise InvalidFieldsError.of(
                "tenant.display_name", f"at most {DISPLAY_NAME_LENGTH_MAX} characters"
            )
        limits.check("tenant.limits")
        with self._lock:
            tenant = Tenant(name=name, display_name=display_name, limits=limits, update_time_ms=self._clock())
            # The document first: enforce_all() repairs limits from documents, never the other way round.
            self._store.put_tenant(name, tenant.to_json())
            self._enforce(tenant)
        return tenant

    def get(self, name: str) -> Tenant:
        """Return the settings of a tenant. Raises TenantUnknownError."""
        document = self._store.tenant(name)
        if document is None:
            raise TenantUnknownError(name)
        return Tenant.from_json(document)

    def list(self) -> list[Tenant]:
        """Return all tenants that have settings, by name."""
        return sorted(
            (Tenant.from_json(document) for document in self._store.tenants()), key=lambda tenant: tenant.name
        )

    def enforce_all(self) -> None:
        """Put the limits of all documents in force: a kill may have come between a document and its limits.

        Only for a store without other instances, whose change in progress this could undo.
        """
        with self._lock:
            for tenant in self.list():
                self._enforce(tenant)

    def _enforce(self, tenant: Tenant) -> None:
        self._limit_setter.put_limits(tenant.name, **asdict(tenant.limits))
