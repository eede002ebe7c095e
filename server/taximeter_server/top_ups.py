# SPDX-License-Identifier: Apache-2.0
"""Buys credits: by hand, and by itself where few are left. The card is charged first, the credits are granted after.

What is bought is in the store before anything is charged, and has one payment, by whose name the provider charges once
however often it is asked. The grant is known by the purchase's name, so it is made once, too, whoever is killed when,
and whether the charge's answer or the provider's event tells first that it has succeeded.
"""

import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import structlog

from taximeter_server.billing_errors import TopUpConflictError
from taximeter_server.credit_grant import MICROCREDITS_MAX
from taximeter_server.credits import Credits
from taximeter_server.errors import (
    FieldViolation,
    InvalidFieldsError,
    RequestError,
    StoreUnavailableError,
)
from taximeter_server.payment_accounts import PaymentAccounts
from taximeter_server.payment_errors import PaymentNotConfiguredError
from taximeter_server.payment_job import JobKind, JobState, PaymentJob
from taximeter_server.payment_provider import PaymentEvent
from taximeter_server.payment_store import PaymentStore
from taximeter_server.plan_terms import CreditTerms
from taximeter_server.store_billing import BillingStore
from taximeter_server.subscription import Subscription
from taximeter_server.subscriptions import check_root_tenant
from taximeter_server.top_up import (
    AUTOMATIC_PREFIX,
    DECLINED,
    DONE,
    FAILED,
    NO_ACCOUNT,
    NOT_CONFIGURED,
    PENDING,
    READY,
    SUSPENDED,
    TopUp,
    next_time,
    price_minor,
)
from taximeter_server.top_up_store import ATTEMPTS_MAX, TopUpStore, Turn

INTERVAL_MS = 2_000

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Progress:
    """A purchase and the payment that charges for it; None where that is not queued yet, or was long ago."""

    top_up: TopUp
    job: PaymentJob | None


@dataclass(frozen=True, slots=True)
class Automatic:
    """What may happen by itself when few credits are left; see top_up.py. next_time_ms: None for now, or for never."""

    state: str
    problem: str
    next_time_ms: int | None
    last: Progress | None


class TopUps:
    """All purchases. Thread-safe. Every method raises StoreUnavailableError and StoreCorruptError, too."""

    def __init__(
        self,
        store: BillingStore,
        payments: PaymentStore,
        accounts: PaymentAccounts,
        account_credits: Credits,
        *,
        is_configured: bool,
        currency_code: Callable[[], str],
        audited: Callable[[str], AbstractContextManager[None]],
        clock: Callable[[], int],
    ) -> None:
        """is_configured: there is a payment provider. audited: audits what the server changes by itself.

        currency_code: that of what is recorded. clock: the store's, in milliseconds.
        """
        self._billing = store
        self._store = TopUpStore(store)
        self._payments = payments
        self._accounts = accounts
        self._credits = account_credits
        self._is_configured = is_configured
        self._currency_code = currency_code
        self._audited = audited
        self._clock = clock
        # By tenant: what was read last, so that it is read again only where it has changed.
        self._read: dict[str, tuple[str, Subscription]] = {}

    def buy(self, tenant: str, request_id: str, amount_microcredits: int) -> Progress:
        """Begin a purchase, or return the one of its id, or else the one that is pending. Nothing is charged yet.

        Raises InvalidFieldsError, PaymentNotConfiguredError, PaymentAccountUnknownError, CreditAccountUnknownError,
        TopUpConflictError.
        """
        check_root_tenant(tenant)
        _check(request_id, amount_microcredits)
        for _ in range(ATTEMPTS_MAX):
            turn = self._store.turn(tenant)
            existing = self._store.get(tenant, request_id)
            if existing is not None:
                if existing.amount_microcredits != amount_microcredits:
                    raise TopUpConflictError(request_id)
                return self._progress(existing)
            if not self._is_configured:
                raise PaymentNotConfiguredError
            pending = self._store.get(tenant, turn.pending) if turn.pending else None
            if pending is not None:
                return self._progress(pending)
            top_up = self._priced(tenant, request_id, amount_microcredits)
            if top_up.price_minor < 1:
                raise InvalidFieldsError.of("amount_microcredits", "costs nothing: grant it")
            if self._store.begin(top_up, turn):
                self._queue(top_up)
                return self._progress(top_up)
        raise StoreUnavailableError

    def _priced(self, tenant: str, request_id: str, amount_microcredits: int) -> TopUp:
        """Return a new purchase. Raises PaymentAccountUnknownError, CreditAccountUnknownError."""
        self._accounts.get(tenant)
        rate_picos = self._credits.account(tenant).settings.picos_per_microcredit
        document = self._billing.account(tenant).subscription
        now_ms = self._clock()
        segment = Subscription.from_json(document).segment_at(now_ms) if document else None
        terms = segment.terms if segment is not None else None
        currency_code = terms.currency_code if terms is not None else self._currency_code()
        credit_terms = terms.credits if terms is not None else None
        return TopUp(
            tenant=tenant,
            request_id=request_id,
            amount_microcredits=amount_microcredits,
            price_minor=price_minor(credit_terms, rate_picos, amount_microcredits, currency_code),
            currency_code=currency_code,
            create_time_ms=now_ms,
        )

    def list(self, tenant: str) -> "list[Progress]":
        """Return what an account has bought, newest first. Raises InvalidFieldsError."""
        return [self._progress(one) for one in self._store.all_of(check_root_tenant(tenant))]

    def automatic(self, subscription: Subscription) -> Automatic | None:
        """Return what may happen by itself; None where the plan in force does not have it."""
        now_ms = self._clock()
        terms = _credit_terms(subscription, now_ms)
        if terms is None or terms.top_up is None:
            return None
        top_ups = self._store.all_of(subscription.tenant)
        state, next_time_ms = next_time(terms.top_up, top_ups, now_ms)
        last = next((self._progress(one) for one in top_ups if one.is_automatic), None)
        problem = ""
        if not self._is_configured:
            state, next_time_ms, problem = NOT_CONFIGURED, None, PaymentNotConfiguredError().message
        elif subscription.tenant not in {account.tenant for account in self._accounts.list()}:
            state, next_time_ms, problem = NO_ACCOUNT, None, "put a payment account first"
        elif state in {PENDING, SUSPENDED}:
            pending = next((self._progress(one) for one in top_ups if one.state == PENDING), last)
            job = pending.job if pending is not None else None
            problem = "" if job is None else job.last_problem
            if state == PENDING and job is not None:
                state = DECLINED if job.decline_count else PENDING
                next_time_ms = job.next_attempt_time_ms
        return Automatic(state, problem, next_time_ms, last)

    def queue(self) -> None:
        """Begin what is due by itself, and queue what is to be charged; every INTERVAL_MS is often enough."""
        turns = self._store.turns()
        paying = {account.tenant for account in self._accounts.list()}
        for tenant, document in self._billing.subscriptions().items():
            turn = turns.get(tenant, Turn())
            if tenant in paying and not turn.pending:
                try:
                    self._begin_if_due(self._subscription(tenant, document), turn)
                except RequestError as error:
                    # Of one account: the others go on.
                    _log.warning("credits are bought later", tenant=tenant, problem=error.reason)
        for top_up in self._store.pending():
            job = self._progress(top_up).job
            if job is None:
                self._queue(top_up)
            elif job.state == JobState.FAILED:
                with self._audited("give up a top-up"):
                    self._store.end(top_up, state=FAILED, time_ms=self._clock())

    def _subscription(self, tenant: str, document: str) -> Subscription:
        known = self._read.get(tenant)
        if known is None or known[0] != document:
            known = self._read[tenant] = (document, Subscription.from_json(document))
        return known[1]

    def _begin_if_due(self, subscription: Subscription, turn: Turn) -> None:
        tenant, now_ms = subscription.tenant, self._clock()
        terms = _credit_terms(subscription, now_ms)
        if terms is None or terms.top_up is None:
            return
        # After the turn: what was bought meanwhile has changed it.
        account = self._credits.account(tenant)
        if account.balance_microcredits >= terms.top_up.threshold_microcredits:
            return
        if next_time(terms.top_up, self._store.all_of(tenant), now_ms)[0] != READY:
            return
        request_id = f"{AUTOMATIC_PREFIX}{turn.count + 1}"
        top_up = self._priced(tenant, request_id, terms.top_up.amount_microcredits)
        with self._audited("begin a top-up"):
            if self._store.begin(top_up, turn):
                _log.info("buying credits", tenant=tenant, top_up=request_id, price_minor=top_up.price_minor)

    def _queue(self, top_up: TopUp) -> None:
        now_ms = self._clock()
        job = PaymentJob(
            job_id=top_up.payment_id,
            kind=JobKind.TOP_UP,
            tenant=top_up.tenant,
            payload={"request_id": top_up.request_id},
            create_time_ms=now_ms,
            next_attempt_time_ms=now_ms,
        )
        self._payments.queue(job.job_id, job.to_json(), now_ms)

    def get(self, tenant: str, request_id: str) -> TopUp | None:
        """Return a purchase."""
        return self._store.get(tenant, request_id)

    def settle(self, tenant: str, request_id: str, external_id: str) -> None:
        """Grant what was paid for. Idempotent. Raises what granting raises."""
        for _ in range(ATTEMPTS_MAX):
            top_up = self._store.get(tenant, request_id)
            if top_up is None or top_up.state == DONE:
                return
            with self._audited("grant a top-up"):
                self._credits.grant(tenant, top_up.grant)
                if self._store.end(top_up, state=DONE, time_ms=self._clock(), external_id=external_id):
                    return
        raise StoreUnavailableError

    def apply(self, event: PaymentEvent) -> None:
        """Grant what an event says was paid for, and push it no more."""
        tenant, _, request_id = event.subject.partition("/")
        top_up = self._store.get(tenant, request_id)
        if top_up is None:
            return
        self.settle(tenant, request_id, event.pushed.provider_id)
        document = self._payments.job(top_up.payment_id)
        while document is not None:
            job = PaymentJob.from_json(document)
            done = job.done(event.pushed.provider_id, "")
            if job.state == JobState.DONE or self._payments.replace(
                job.job_id, document, done.to_json(), due_ms=None
            ):
                return
            document = self._payments.job(top_up.payment_id)

    def _progress(self, top_up: TopUp) -> Progress:
        document = None if top_up.state == DONE else self._payments.job(top_up.payment_id)
        return Progress(top_up, None if document is None else PaymentJob.from_json(document))


def _credit_terms(subscription: Subscription, now_ms: int) -> CreditTerms | None:
    segment = subscription.segment_at(now_ms)
    return None if segment is None or segment.terms is None else segment.terms.credits


def _check(request_id: str, amount_microcredits: int) -> None:
    """Raise InvalidFieldsError with all that is wrong."""
    violations = []
    if not request_id:
        violations.append(FieldViolation("request_id", "required", "FIELD_REQUIRED"))
    elif not _REQUEST_ID.fullmatch(request_id) or request_id.startswith(AUTOMATIC_PREFIX):
        description = "1 to 64 of A-Z a-z 0-9 . _ -, not beginning with auto."
        violations.append(FieldViolation("request_id", description))
    if not 1 <= amount_microcredits <= MICROCREDITS_MAX:
        violations.append(FieldViolation("amount_microcredits", f"1 to {MICROCREDITS_MAX}"))
    if violations:
        raise InvalidFieldsError(violations)
