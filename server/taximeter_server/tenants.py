# SPDX-License-Identifier: Apache-2.0
"""Settings of tenants. The document here is what people see; the engine enforces its limits."""

import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Protocol, Self

from taximeter_server.errors import (
    PlanUnknownError,
    RequestError,
    StoreCorruptError,
    TenantUnknownError,
)
from taximeter_server.limits import Limits, TemporaryLimits
from taximeter_server.store import DocumentStore
from taximeter_server.tenant_path import check_tenant, is_within
from taximeter_server.violations import Violations

DISPLAY_NAME_LENGTH_MAX = 200
FAIL_OPEN_REQUESTS_MAX = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """The settings of one level. update_time_ms is milliseconds since 1970 UTC. plan: its name, empty for none.

    fail_open_requests: what each instance may let pass while the store cannot decide.
    """

    name: str
    display_name: str = ""
    limits: Limits
    plan: str = ""
    temporary_limits: TemporaryLimits | None = None
    fail_open_requests: int = 0
    update_time_ms: int = 0

    def check(self) -> None:
        """Raise InvalidFieldsError with all that is wrong."""
        violations = Violations()
        with violations:
            check_tenant(self.name, "tenant.name")
        if len(self.display_name) > DISPLAY_NAME_LENGTH_MAX:
            violations.add("tenant.display_name", f"at most {DISPLAY_NAME_LENGTH_MAX} characters")
        with violations:
            self.limits.check("tenant.limits")
        if self.temporary_limits is not None:
            with violations:
                self.temporary_limits.check("tenant.temporary_limits")
        if not 0 <= self.fail_open_requests <= FAIL_OPEN_REQUESTS_MAX:
            violations.add("tenant.fail_open_requests", f"0 to {FAIL_OPEN_REQUESTS_MAX}")
        violations.raise_any()

    def at(self, now_ms: int) -> Self:
        """Return what of the settings is in force: temporary limits end by themselves."""
        is_over = self.temporary_limits is not None and self.temporary_limits.until_ms <= now_ms
        return replace(self, temporary_limits=None) if is_over else self

    def to_json(self) -> str:
        """Return the tenant's document."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, document: str) -> Self:
        """Read a tenant's document. Raises StoreCorruptError."""
        try:
            values = json.loads(document)
            temporary = values.get("temporary_limits")
            return cls(
                **{
                    **values,
                    "limits": Limits.of_document(values["limits"]),
                    "temporary_limits": temporary and TemporaryLimits.of_document(temporary),
                }
            )
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise StoreCorruptError(f"tenant document: {error}") from error


class LimitSetter(Protocol):
    """Puts limits in force; the engine does."""

    def put_limits(self, levels: Sequence[Tenant]) -> None:
        """Set the limits of levels."""

    def remove_limits(self, names: Sequence[str]) -> None:
        """Take the settings of levels away."""


class Tenants:
    """All tenants that have settings."""

    def __init__(self, store: DocumentStore, limit_setter: LimitSetter, clock: Callable[[], int]) -> None:
        self._store = store
        self._limit_setter = limit_setter
        self._clock = clock
        # Document and limits are two writes; two changes of one tenant must not mix them.
        self._lock = threading.Lock()

    def put(self, settings: Tenant) -> Tenant:
        """Create or replace the settings of one level. In force at once.

        Raises InvalidFieldsError, PlanUnknownError.
        """
        (outcome,) = self.put_all([settings])
        if isinstance(outcome, RequestError):
            raise outcome
        return outcome

    def put_all(self, many: Sequence[Tenant]) -> "list[Tenant | RequestError]":
        """Create or replace settings, each as put() would, alone. Returns the settings or what put() would raise.

        Where one tenant comes twice, the later settings stay.
        """
        outcomes: list[Tenant | RequestError] = []
        with self._lock:
            now_ms = self._clock()
            for settings in many:
                try:
                    settings.check()
                    outcomes.append(replace(settings, update_time_ms=now_ms).at(now_ms))
                except RequestError as error:
                    outcomes.append(error)
            accepted = [at for at, outcome in enumerate(outcomes) if isinstance(outcome, Tenant)]
            tenants = [outcome for outcome in outcomes if isinstance(outcome, Tenant)]
            for position in self._put(tenants):
                outcomes[accepted[position]] = PlanUnknownError(tenants[position].plan)
        return outcomes

    def _put(self, tenants: Sequence[Tenant]) -> frozenset[int]:
        """Put settings and enforce them. Returns the positions of those whose plan does not exist."""
        if not tenants:
            return frozenset()
        # The document first: enforce_all() repairs limits from documents, never the other way round.
        documents = [
            (tenant.name, tenant.to_json(), tenant.plan, tenant.fail_open_requests) for tenant in tenants
        ]
        refused = frozenset(self._store.put_tenants(documents))
        self._limit_setter.put_limits([tenant for at, tenant in enumerate(tenants) if at not in refused])
        return refused

    def remove(self, name: str) -> tuple[str, ...]:
        """Remove the settings of a tenant and of everything below it. Returns the names of those that had any."""
        with self._lock:
            names = tuple(tenant.name for tenant in self.list() if is_within(tenant.name, name))
            if names:
                # The limits first: after a kill in between, enforce_all() puts them in force again.
                self._limit_setter.remove_limits(names)
                self._store.remove_tenants(names)
        return names

    def get(self, name: str) -> Tenant:
        """Return the settings of a tenant. Raises TenantUnknownError."""
        document = self._store.tenant(name)
        if document is None:
            raise TenantUnknownError(name)
        return Tenant.from_json(document).at(self._clock())

    def list(self) -> list[Tenant]:
        """Return all tenants that have settings, by name."""
        now_ms = self._clock()
        tenants = (Tenant.from_json(document).at(now_ms) for document in self._store.tenants())
        return sorted(tenants, key=lambda tenant: tenant.name)

    def enforce_all(self) -> None:
        """Put the limits of all documents in force: a kill may have come between a document and its limits.

        Only for a store without other instances, whose change in progress this could undo.
        """
        with self._lock:
            self._limit_setter.put_limits(self.list())
