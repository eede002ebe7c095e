# SPDX-License-Identifier: Apache-2.0
"""The invoices of all tenants: drafts, which follow the ledger, and documents, which stand."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from taximeter_server.billing_calendar import stamp
from taximeter_server.billing_errors import InvoiceNotDueError, InvoiceStateError, InvoiceUnknownError
from taximeter_server.errors import InvalidFieldsError, StoreUnavailableError
from taximeter_server.invoice import DRAFT, INVOICE, OPEN, PAID, Invoice, minor_digits
from taximeter_server.invoice_draft import billed_amounts, carried_over, draft_lines, top_up_amounts
from taximeter_server.invoice_usage import Owed
from taximeter_server.store_billing import BillingStore, FieldChange, StoredAccount
from taximeter_server.store_names import (
    INVOICE_IDS,
    INVOICE_NUMBERS,
    INVOICED_UNTIL,
    INVOICES_PREFIX,
    SUBSCRIPTIONS,
)
from taximeter_server.subscription import Period, Subscription
from taximeter_server.subscription_credits import NEVER_MS
from taximeter_server.subscriptions import check_root_tenant
from taximeter_server.tenants import Tenant
from taximeter_server.top_up import TopUp

ATTEMPTS_MAX = 50
"""Lost races for the next number after which a change gives up."""
SERIES = {INVOICE: "INV"}
"""Series of numbers by kind of document; all others share CREDIT_SERIES."""
CREDIT_SERIES = "CN"
_MS_PER_SECOND = 1_000
_MS_PER_DAY = 86_400_000


@dataclass(frozen=True, slots=True)
class Account:
    """What is known of one root tenant. documents: by id. subscription: None where there never was one."""

    stored: StoredAccount
    now_ms: int
    subscription: Subscription | None
    documents: Mapping[str, Invoice]

    @property
    def open_periods(self) -> list[Period]:
        """Periods that have begun and are not invoiced, in order."""
        if self.subscription is None:
            return []
        began = self.subscription.periods(self.now_ms + 1)
        return [period for period in began if period.end_ms > self.stored.invoiced_until_ms]


class Invoices:
    """All invoices. Thread-safe. Every method raises StoreUnavailableError and StoreCorruptError, too."""

    def __init__(
        self, store: BillingStore, owed: Owed, *, grace_seconds: int, clock: Callable[[], int]
    ) -> None:
        """grace_seconds: after the end of a period until its invoice is finalised by itself. clock: see Billing."""
        self._clock = clock
        self._store = store
        self._owed = owed
        self._grace_ms = grace_seconds * _MS_PER_SECOND

    def account(self, tenant: str) -> Account:
        """Return what is known of a root tenant. Raises InvalidFieldsError."""
        stored = self._store.account(check_root_tenant(tenant))
        subscription = Subscription.from_json(stored.subscription) if stored.subscription else None
        documents = {
            invoice_id: Invoice.from_json(document) for invoice_id, document in stored.documents.items()
        }
        return Account(stored, self._clock(), subscription, documents)

    def list(self, tenant: str, *, with_drafts: bool = True) -> "list[Invoice]":
        """Return the drafts and documents of a root tenant, newest period and document first."""
        account = self.account(tenant)
        drafts = [self._draft(account, period) for period in account.open_periods if with_drafts]
        found = sorted(
            account.documents.values(),
            key=lambda one: (one.period_start_ms, one.finalize_time_ms or 0, one.number),
        )
        return [*reversed(drafts), *reversed(found)]

    def get(self, invoice_id: str) -> Invoice:
        """Return a document or draft by id, or a document by number. Raises InvoiceUnknownError."""
        account = self.account(self.tenant_of(invoice_id))
        invoice_id = self.id_of(invoice_id)
        if invoice_id in account.documents:
            return account.documents[invoice_id]
        return self._draft(account, _open_period(account, invoice_id))

    def id_of(self, reference: str) -> str:
        """Return the id of a document named by id or number. Raises InvoiceUnknownError."""
        if "/" in reference:
            return reference
        found = self._store.invoice_id(reference)
        if not found:
            raise InvoiceUnknownError(reference)
        return found

    def tenant_of(self, reference: str) -> str:
        """Return the root tenant of a document named by id or number. Raises InvoiceUnknownError."""
        return self.id_of(reference).partition("/")[0]

    def finalize(self, invoice_id: str) -> Invoice:
        """Freeze a draft whose period is over: its lines, number, position in the ledger, and the hash of them all.

        A document that stands already is returned. Raises InvoiceUnknownError, InvoiceNotDueError.
        """
        invoice_id = self.id_of(invoice_id)
        for _ in range(ATTEMPTS_MAX):
            account = self.account(self.tenant_of(invoice_id))
            if invoice_id in account.documents:
                return account.documents[invoice_id]
            period = _open_period(account, invoice_id)
            if period != account.open_periods[0] or period.end_ms > account.now_ms:
                raise InvoiceNotDueError(invoice_id)
            draft = self._draft(account, period)
            if self._keep(account, period, draft):
                return self.get(invoice_id)
        raise StoreUnavailableError

    def next_due(self, tenant: str) -> tuple[str, int]:
        """Return the id of the next draft of a tenant, and when it is finalised by itself; ("", NEVER_MS) for none."""
        account = self.account(tenant)
        subscription = account.subscription
        period = subscription and subscription.period_at(account.stored.invoiced_until_ms)
        return (_draft_id(tenant, period), self._due_time_ms(period)) if period else ("", NEVER_MS)

    def change(self, invoice_id: str, change: "Callable[[Invoice], Invoice]") -> Invoice:
        """Replace what may change of a document: state, payment, url. change: called again where it lost a race.

        What it raises passes through. Raises InvoiceUnknownError.
        """
        invoice_id = self.id_of(invoice_id)
        tenant = self.tenant_of(invoice_id)
        for _ in range(ATTEMPTS_MAX):
            account = self.account(tenant)
            before = account.documents.get(invoice_id)
            if before is None:
                raise InvoiceUnknownError(invoice_id)
            after = change(before)
            if after.computed_sha256() != before.content_sha256:
                raise ValueError("what a document says never changes")
            seen = account.stored.documents[invoice_id]
            if self._store.replace(
                [FieldChange(INVOICES_PREFIX + tenant, invoice_id, seen, after.to_json())]
            ):
                return after
        raise StoreUnavailableError

    def mark_paid(self, invoice_id: str, *, time_ms: int) -> Invoice:
        """Note that an invoice was paid. Idempotent. Raises InvoiceUnknownError, InvoiceStateError."""

        def change(invoice: Invoice) -> Invoice:
            if invoice.state == PAID:
                return invoice
            if invoice.kind != INVOICE or invoice.state != OPEN:
                raise InvoiceStateError(invoice.invoice_id, invoice.state)
            return replace(invoice, state=PAID, paid_time_ms=time_ms)

        return self.change(invoice_id, change)

    def _draft(self, account: Account, period: Period) -> Invoice:
        head = self._head(account, period)
        if account.subscription is None:
            raise AssertionError("a period is one of a subscription")
        billed = billed_amounts(account.documents.values())
        owed, as_of = self._owed.amounts(account.subscription, period, billed)
        owed |= top_up_amounts(TopUp.from_json(one) for one in account.stored.top_ups.values())
        is_first = period == account.open_periods[0]
        lines = draft_lines(
            period, owed, billed, digits=minor_digits(head.currency_code), is_only_own=not is_first
        )
        return replace(head, lines=lines, as_of=as_of)

    def _head(self, account: Account, period: Period) -> Invoice:
        """Return the draft of a period without its lines."""
        subscription = account.subscription
        if subscription is None:
            raise AssertionError("a period is one of a subscription")
        settings = account.stored.tenant_settings
        terms = period.parts[-1].terms
        due_finalize_ms = self._due_time_ms(period)
        return Invoice(
            invoice_id=_draft_id(subscription.tenant, period),
            tenant=subscription.tenant,
            currency_code=terms.currency_code,
            period_start_ms=period.start_ms,
            period_end_ms=period.end_ms,
            time_zone=subscription.time_zone,
            lines=(),
            state=DRAFT,
            customer_name=Tenant.from_json(settings).display_name if settings else "",
            due_finalize_time_ms=due_finalize_ms,
            due_time_ms=due_finalize_ms + terms.due_days * _MS_PER_DAY,
        )

    def _due_time_ms(self, period: Period) -> int:
        return period.end_ms + self._grace_ms

    def _keep(self, account: Account, period: Period, draft: Invoice) -> bool:
        """Make a document of the first draft, if nothing that it follows from has changed. Says whether it did."""
        stored = account.stored
        terms = period.parts[-1].terms
        number, numbering = next_number(stored, SERIES[INVOICE])
        has_next = account.subscription is not None and account.subscription.period_at(period.end_ms)
        if draft.total_minor < 0 and has_next:
            draft = replace(draft, lines=carried_over(draft))
        final = replace(
            draft,
            number=number,
            state=OPEN if draft.total_minor > 0 else PAID,
            paid_time_ms=None if draft.total_minor > 0 else account.now_ms,
            finalize_time_ms=account.now_ms,
            due_finalize_time_ms=None,
            due_time_ms=account.now_ms + terms.due_days * _MS_PER_DAY,
        ).sealed()
        until = "" if stored.invoiced_until_ms < 0 else str(stored.invoiced_until_ms)
        return self._store.replace(
            [
                FieldChange(SUBSCRIPTIONS, final.tenant, stored.subscription, stored.subscription),
                FieldChange(INVOICED_UNTIL, final.tenant, until, str(period.end_ms)),
                *numbering,
                *kept(final),
            ]
        )


def kept(document: Invoice) -> list[FieldChange]:
    """Return the changes that keep a new document, so that it is found by id and by number."""
    return [
        FieldChange(INVOICES_PREFIX + document.tenant, document.invoice_id, "", document.to_json()),
        FieldChange(INVOICE_IDS, document.number, "", document.invoice_id),
    ]


def next_number(stored: StoredAccount, series: str) -> tuple[str, list[FieldChange]]:
    """Return the next number of a series, and the change that takes it: made with its document or not at all."""
    last = stored.numbers.get(series, 0)
    taken = FieldChange(INVOICE_NUMBERS, series, str(last) if last else "", str(last + 1))
    return f"{series}-{last + 1:06}", [taken]


def _draft_id(tenant: str, period: Period) -> str:
    return f"{tenant}/{stamp(period.start_ms)}"


def _open_period(account: Account, invoice_id: str) -> Period:
    """Return the period of a draft. Raises InvoiceUnknownError."""
    for period in account.open_periods:
        if _draft_id(invoice_id.partition("/")[0], period) == invoice_id:
            return period
    raise InvoiceUnknownError(invoice_id)


def check_reason(reason: str, length_max: int = 500) -> str:
    """Return reason. Raises InvalidFieldsError."""
    if not reason:
        raise InvalidFieldsError.required("reason")
    if len(reason) > length_max:
        raise InvalidFieldsError.of("reason", f"at most {length_max} characters")
    return reason
