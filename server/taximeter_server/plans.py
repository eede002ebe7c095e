# SPDX-License-Identifier: Apache-2.0
"""Plans: named sets of limits, and what a subscription costs. The engine enforces the limits of the document here."""

import json
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Protocol, Self

from taximeter_server.errors import (
    InvalidFieldsError,
    PlanInUseError,
    PlanUnknownError,
    StoreCorruptError,
)
from taximeter_server.limits import Limits
from taximeter_server.plan_terms import PlanTerms
from taximeter_server.store import DocumentStore
from taximeter_server.tenants import DISPLAY_NAME_LENGTH_MAX, Tenant
from taximeter_server.violations import Violations

DEFAULT_PLANS = ("default", "default-2", "default-3", "default-4")
"""Plans of levels without settings, by depth. The engine knows them."""
_NAME = re.compile(r"[a-z0-9._-]{1,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A named set of limits. terms: None for a plan that nobody can subscribe to. update_time_ms: since 1970 UTC."""

    name: str
    display_name: str = ""
    limits: Limits
    terms: PlanTerms | None = None
    update_time_ms: int = 0

    def check(self) -> None:
        """Raise InvalidFieldsError with all that is wrong."""
        violations = Violations()
        with violations:
            check_plan_name(self.name, "plan.name")
        if len(self.display_name) > DISPLAY_NAME_LENGTH_MAX:
            violations.add("plan.display_name", f"at most {DISPLAY_NAME_LENGTH_MAX} characters")
        with violations:
            self.limits.check("plan.limits")
        if self.terms is not None:
            with violations:
                self.terms.check("plan.terms")
        violations.raise_any()

    def to_json(self) -> str:
        """Return the plan's document."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, document: str) -> Self:
        """Read a plan's document. Raises StoreCorruptError."""
        try:
            values = json.loads(document)
            terms = values.get("terms")
            return cls(
                **{
                    **values,
                    "limits": Limits.of_document(values["limits"]),
                    "terms": terms and PlanTerms.of_document(terms),
                }
            )
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise StoreCorruptError(f"plan document: {error}") from error


class PlanSetter(Protocol):
    """Puts plans in force; the engine does."""

    def put_plan(self, name: str, limits: Limits | None) -> None:
        """Set the limits of a plan; None removes it."""


class Plans:
    """All plans."""

    def __init__(self, store: DocumentStore, setter: PlanSetter, clock: Callable[[], int]) -> None:
        self._store = store
        self._setter = setter
        self._clock = clock
        # Document and limits are two writes; two changes of one plan must not mix them.
        self._lock = threading.Lock()

    def put(self, settings: Plan) -> Plan:
        """Create or replace a plan. In force at once. Raises InvalidFieldsError."""
        settings.check()
        with self._lock:
            plan = replace(settings, update_time_ms=self._clock())
            # The document first: enforce_all() repairs limits from documents, never the other way round.
            self._store.put_plan(plan.name, plan.to_json())
            self._setter.put_plan(plan.name, plan.limits)
        return plan

    def get(self, name: str) -> Plan:
        """Return a plan. Raises PlanUnknownError."""
        document = self._store.plan(check_plan_name(name, "plan"))
        if document is None:
            raise PlanUnknownError(name)
        return Plan.from_json(document)

    def list(self) -> list[Plan]:
        """Return all plans, by name."""
        plans = (Plan.from_json(document) for document in self._store.plans())
        return sorted(plans, key=lambda plan: plan.name)

    def remove(self, name: str) -> None:
        """Remove a plan that no tenant has. Raises PlanUnknownError, PlanInUseError."""

        def require_unused(tenant_documents: Sequence[str]) -> None:
            if any(Tenant.from_json(document).plan == name for document in tenant_documents):
                raise PlanInUseError(name)

        check_plan_name(name, "plan")
        with self._lock:
            if not self._store.remove_plan(name, require_unused):
                raise PlanUnknownError(name)
            self._setter.put_plan(name, None)

    def enforce_all(self) -> None:
        """Put all plans in force, and no other default: a kill may have come between a document and its limits."""
        with self._lock:
            limits = {plan.name: plan.limits for plan in self.list()}
            for name in {*DEFAULT_PLANS, *limits}:
                self._setter.put_plan(name, limits.get(name))


def check_plan_name(name: str, field: str) -> str:
    """Return name. Raises InvalidFieldsError naming field."""
    if not name:
        raise InvalidFieldsError.required(field)
    if not _NAME.fullmatch(name):
        raise InvalidFieldsError.of(field, "1 to 64 characters of a-z 0-9 . _ -")
    return name
