# SPDX-License-Identifier: Apache-2.0
"""The subscriptions of all tenants: begun, changed and ended, each change by one winner."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace

from taximeter_server.billing_calendar import whole_second
from taximeter_server.billing_errors import (
    PlanWithoutTermsError,
    SubscriptionChangedError,
    SubscriptionEndedError,
    SubscriptionExistsError,
    SubscriptionUnknownError,
)
from taximeter_server.errors import FieldViolation, InvalidFieldsError, StoreUnavailableError
from taximeter_server.plan_terms import Cadence, PlanTerms
from taximeter_server.plans import Plans
from taximeter_server.report_time_zone import is_time_zone
from taximeter_server.store_billing import BillingStore, FieldChange, StoredAccount
from taximeter_server.store_names import SUBSCRIPTIONS
from taximeter_server.subscription import PhaseSettings, Segment, Subscription, begin
from taximeter_server.subscription_credits import AHEAD_MS, SubscriptionCredits
from taximeter_server.tenant_path import check_tenant

PHASES_MAX = 10
START_DISTANCE_MAX_MS = 400 * 86_400_000
ANCHOR_DAY_MAX = 31
SETTLED_MS = 2 * AHEAD_MS
"""What a period includes is settled so long before it begins."""
ATTEMPTS_MAX = 20
"""Lost races for one subscription after which a change gives up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewPhase:
    """A plan of a new subscription, by name. duration: None for one without end, which the last may be."""

    plan: str
    duration: Cadence | None = None
    is_trial: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSubscription:
    """What is asked for. start_ms: None for now. anchor_day: None for that of the start."""

    tenant: str
    phases: tuple[NewPhase, ...]
    time_zone: str = "UTC"
    start_ms: int | None = None
    anchor_day: int | None = None

    def check(self, now_ms: int) -> None:
        """Raise InvalidFieldsError that names every field that is wrong."""
        check_root_tenant(self.tenant)
        problems = []
        if not is_time_zone(self.time_zone):
            problems.append(("time_zone", "an IANA time zone, such as Europe/Berlin"))
        if self.anchor_day is not None and not 1 <= self.anchor_day <= ANCHOR_DAY_MAX:
            problems.append(("anchor_day", f"1 to {ANCHOR_DAY_MAX}"))
        if self.start_ms is not None:
            if self.start_ms != whole_second(self.start_ms):
                problems.append(("start_time", "whole seconds"))
            if abs(self.start_ms - now_ms) > START_DISTANCE_MAX_MS:
                problems.append(("start_time", "at most 400 days back or ahead"))
        if not 1 <= len(self.phases) <= PHASES_MAX:
            problems.append(("phases", f"1 to {PHASES_MAX} of them"))
        for at, phase in enumerate(self.phases):
            path = f"phases[{at}].duration"
            if phase.duration is not None:
                problems += phase.duration.problems(path)
            elif at < len(self.phases) - 1:
                problems.append((path, "needed by all but the last"))
        if problems:
            raise InvalidFieldsError([FieldViolation(*problem) for problem in problems])


def check_root_tenant(tenant: str) -> str:
    """Return tenant unchanged. Raises InvalidFieldsError unless it is a first segment."""
    if "/" in check_tenant(tenant, "tenant"):
        raise InvalidFieldsError.of("tenant", "a root tenant: a first segment alone")
    return tenant


class Subscriptions:
    """All subscriptions. Thread-safe. Every method raises StoreUnavailableError and StoreCorruptError, too."""

    def __init__(
        self,
        store: BillingStore,
        plans: Plans,
        included: SubscriptionCredits,
        *,
        currency_code: Callable[[], str],
        clock: Callable[[], int],
    ) -> None:
        """currency_code: that of what is recorded, "" as long as nothing says. clock: see Billing."""
        self.clock = clock
        self._store = store
        self._plans = plans
        self._included = included
        self._currency_code = currency_code

    def account(self, tenant: str) -> StoredAccount:
        """Return what the store has of a root tenant. Raises InvalidFieldsError."""
        return self._store.account(check_root_tenant(tenant))

    def tenants(self) -> list[str]:
        """Return the root tenants that have, or had, a subscription, in order."""
        return sorted(self._store.subscriptions())

    def put(self, asked: NewSubscription) -> Subscription:
        """Begin a subscription, or return the one that was begun by the same settings.

        Raises InvalidFieldsError, PlanUnknownError, PlanWithoutTermsError, SubscriptionExistsError.
        """
        request_sha256 = hashlib.sha256(repr(asked).encode()).hexdigest()

        def change(account: StoredAccount, now_ms: int) -> Subscription:
            asked.check(now_ms)
            start_ms = whole_second(now_ms) if asked.start_ms is None else asked.start_ms
            past: tuple[Segment, ...] = ()
            revision = 0
            if account.subscription:
                before = Subscription.from_json(account.subscription)
                is_over = before.end_ms is not None and before.end_ms <= now_ms
                if before.request_sha256 == request_sha256 and not is_over:
                    return before
                past, revision = self._past(before, now_ms, start_ms), before.revision
            made = begin(
                tenant=asked.tenant,
                time_zone=asked.time_zone,
                start_ms=start_ms,
                anchor_day=asked.anchor_day,
                phases=[self._phase(phase) for phase in asked.phases],
            )
            return replace(
                made,
                segments=(*past, *made.segments),
                revision=revision + 1,
                request_sha256=request_sha256,
            )

        return self._change(asked.tenant, change)

    def _past(self, before: Subscription, now_ms: int, start_ms: int) -> tuple[Segment, ...]:
        """Return what stays of a subscription when another begins. Raises SubscriptionExistsError."""
        ends = [at for at, one in enumerate(before.segments) if one.terms is None and one.start_ms <= now_ms]
        past = before.segments[: ends[-1] + 1] if ends else ()
        to_come = before.segments[len(past) :]
        if to_come and to_come[0].start_ms <= now_ms + SETTLED_MS:
            raise SubscriptionExistsError(before.tenant)
        if past and past[-1].start_ms > start_ms:
            raise InvalidFieldsError.of("start_time", "not before the end of the last subscription")
        return tuple(one for one in past if one.start_ms < start_ms)

    def _phase(self, phase: NewPhase) -> PhaseSettings:
        return PhaseSettings(
            plan=phase.plan,
            terms=self._terms(phase.plan),
            duration=phase.duration,
            is_trial=phase.is_trial,
        )

    def _terms(self, plan: str) -> PlanTerms:
        terms = self._plans.get(plan).terms
        if terms is None:
            raise PlanWithoutTermsError(plan)
        currency_code = self._currency_code()
        if currency_code and terms.currency_code != currency_code:
            raise InvalidFieldsError.of(
                "plan", f"its currency is not {currency_code}, in which usage is priced"
            )
        return terms

    def change_plan(
        self, tenant: str, plan: str, *, at_period_end: bool, expected_revision: int | None = None
    ) -> Subscription:
        """Take another plan, at once or at the end of the period.

        Raises InvalidFieldsError, PlanUnknownError, PlanWithoutTermsError, SubscriptionUnknownError,
        SubscriptionEndedError, SubscriptionChangedError.
        """

        def change(account: StoredAccount, now_ms: int) -> Subscription:
            before = _in_force(tenant, account, expected_revision, now_ms)
            terms = self._terms(plan)
            at_ms, active = _instant(before, account, now_ms, at_period_end=at_period_end)
            last = before.segments[-1]
            if (last.plan, last.terms) == (plan, terms) and last.start_ms <= at_ms and not last.is_trial:
                return before
            if terms.credits is not None or (active.terms is not None and active.terms.credits is not None):
                _require_time(before, now_ms)
            return before.with_plan(plan, terms, at_ms, continues=at_period_end or not active.is_trial)

        return self._change(tenant, change)

    def cancel(self, tenant: str, *, at_once: bool) -> Subscription:
        """End a subscription. Raises InvalidFieldsError, SubscriptionUnknownError."""

        def change(account: StoredAccount, now_ms: int) -> Subscription:
            before = _found(tenant, account)
            if before.end_ms is not None and before.end_ms <= now_ms:
                return before
            at_ms, _ = _instant(before, account, now_ms, at_period_end=not at_once)
            return before if before.end_ms == at_ms else before.ended(at_ms)

        return self._change(tenant, change)

    def _check_rates(self, subscription: Subscription) -> None:
        """Raise InvalidFieldsError unless a credit is worth the same in all plans, and in the account."""
        rates = {
            one.terms.credits.picos_per_microcredit
            for one in subscription.segments
            if one.terms is not None and one.terms.credits is not None
        }
        account = self._included.account(subscription.tenant) if rates else None
        if len(rates | ({account.settings.picos_per_microcredit} if account else set())) > 1:
            raise InvalidFieldsError.of("plan", "its credits are worth other than those that the tenant has")

    def _change(self, tenant: str, change: Callable[[StoredAccount, int], Subscription]) -> Subscription:
        for _ in range(ATTEMPTS_MAX):
            account = self.account(tenant)
            changed = change(account, self.clock())
            document = changed.to_json()
            if document == account.subscription:
                return changed
            self._check_rates(changed)
            if self._store.replace([FieldChange(SUBSCRIPTIONS, tenant, account.subscription, document)]):
                return changed
        raise StoreUnavailableError


def _require_time(subscription: Subscription, now_ms: int) -> None:
    """Raise InvalidFieldsError when credits of a period that is to begin may have been granted already."""
    period = subscription.period_at(now_ms)
    if period is not None and any(
        0 < begin_ms - now_ms < SETTLED_MS for begin_ms in (period.start_ms, period.end_ms)
    ):
        raise InvalidFieldsError.of(
            "plan", "credits of the period that begins within 10 minutes are granted: change it then"
        )


def _found(tenant: str, account: StoredAccount) -> Subscription:
    if not account.subscription:
        raise SubscriptionUnknownError(tenant)
    return Subscription.from_json(account.subscription)


def _in_force(
    tenant: str, account: StoredAccount, expected_revision: int | None, now_ms: int
) -> Subscription:
    found = _found(tenant, account)
    if expected_revision is not None and expected_revision != found.revision:
        raise SubscriptionChangedError(found.revision)
    if found.end_ms is not None and found.end_ms <= now_ms:
        raise SubscriptionEndedError(tenant)
    return found


def _instant(
    subscription: Subscription, account: StoredAccount, now_ms: int, *, at_period_end: bool
) -> tuple[int, Segment]:
    """Return when a change takes force, and what holds before it. What is invoiced stays as it is."""
    now_ms = max(whole_second(now_ms), account.invoiced_until_ms)
    period = subscription.period_at(now_ms)
    if period is None:
        raise SubscriptionEndedError(subscription.tenant)
    # Before the first period everything changes at its start.
    is_begun = period.start_ms <= now_ms
    at_once_ms = subscription.free_second(now_ms) if is_begun else period.start_ms
    at_ms = period.end_ms if at_period_end else at_once_ms
    active = subscription.segment_at(at_ms - 1) or subscription.segments[0]
    return at_ms, active
