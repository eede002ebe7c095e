# SPDX-License-Identifier: Apache-2.0
"""The parts of payments, put together: the provider that the settings name, accounts, events, and who pushes."""

import importlib.util
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from taximeter_server import payment_invoices, payment_usage
from taximeter_server.config import Config
from taximeter_server.credits import Credits
from taximeter_server.errors import ConfigError
from taximeter_server.invoice_documents import InvoiceDocuments
from taximeter_server.invoices import Invoices
from taximeter_server.payment_accounts import PaymentAccounts
from taximeter_server.payment_courier import PaymentCourier, Source
from taximeter_server.payment_events import PaymentEvents
from taximeter_server.payment_invoices import InvoiceSource
from taximeter_server.payment_none import NoPayments
from taximeter_server.payment_provider import PaymentProvider, SubjectKind
from taximeter_server.payment_sender import PaymentSender
from taximeter_server.payment_store import PaymentStore
from taximeter_server.payment_stripe import StripePayments
from taximeter_server.payment_usage import UsageReader, UsageSource
from taximeter_server.store_billing import BillingStore
from taximeter_server.top_ups import INTERVAL_MS as TOP_UPS_INTERVAL_MS
from taximeter_server.top_ups import TopUps

SECRET_BYTES_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Payments:
    """What others use of payments. courier is None where there is nobody to push to."""

    accounts: PaymentAccounts
    events: PaymentEvents
    courier: PaymentCourier | None
    store: PaymentStore
    documents: InvoiceDocuments
    top_ups: TopUps
    clock: Callable[[], int]


@dataclass(frozen=True, slots=True)
class Sales:
    """What top-ups need of billing. currency_code: that of what is recorded."""

    store: BillingStore
    credits: Credits
    currency_code: Callable[[], str]


def make_payments(
    provider: PaymentProvider,
    store: PaymentStore,
    reader: UsageReader,
    invoices: Invoices,
    sales: Sales,
    *,
    audited: Callable[[str], AbstractContextManager[None]],
    clock: Callable[[], int],
    config: Config,
) -> Payments:
    """Put the parts together. audited: audits what the server changes. clock: the store's, in milliseconds.

    Raises ConfigError.
    """
    accounts = PaymentAccounts(store, provider, clock)
    pushed_invoices = InvoiceSource(store, accounts, invoices, clock)
    top_ups = TopUps(
        sales.store,
        store,
        accounts,
        sales.credits,
        is_configured=provider.is_configured,
        currency_code=sales.currency_code,
        audited=audited,
        clock=clock,
    )
    courier = None
    if provider.is_configured:
        usage = UsageSource(store, accounts, reader, clock)
        sender = PaymentSender(provider, accounts, pushed_invoices, top_ups)
        sources = [
            Source(top_ups.queue, TOP_UPS_INTERVAL_MS),
            Source(pushed_invoices.queue, payment_invoices.INTERVAL_MS),
            Source(usage.queue, payment_usage.INTERVAL_MS),
        ]
        courier = PaymentCourier(store, sender, sources, clock, is_exclusive=config.store is None)
    appliers = {SubjectKind.INVOICE: pushed_invoices.apply, SubjectKind.TOP_UP: top_ups.apply}
    events = PaymentEvents(store, provider, appliers, audited=audited, clock=clock)
    documents = InvoiceDocuments(accounts, config.invoice_issuer)
    return Payments(accounts, events, courier, store, documents, top_ups, clock)


def make_provider(config: Config, instance: str) -> PaymentProvider:
    """Return the provider that the settings name. instance: tells this ledger from others at the same provider.

    Raises ConfigError.
    """
    if config.stripe_key_file is None:
        return NoPayments()
    if importlib.util.find_spec("stripe") is None:
        raise ConfigError(
            "stripe_key_file",
            str(config.stripe_key_file),
            "needs the stripe library: pip install 'taximeter-server[stripe]'",
        )
    secret_file = config.stripe_webhook_secret_file
    return StripePayments(
        key=_read_secret("stripe_key_file", config.stripe_key_file),
        webhook_secret="" if secret_file is None else _read_secret("stripe_webhook_secret_file", secret_file),
        url=config.stripe_url,
        instance=instance,
        meter_event=config.stripe_meter_event,
    )


def _read_secret(name: str, path: Path) -> str:
    """Return a file's text. Raises ConfigError, which does not repeat it."""
    try:
        with path.open("rb") as file:
            secret = file.read(SECRET_BYTES_MAX + 1).decode("ascii").strip()
    except OSError as error:
        raise ConfigError(name, str(path), error.strerror or "cannot be read") from None
    except UnicodeDecodeError:
        raise ConfigError(name, str(path), "not one line of ASCII") from None
    if not secret or len(secret) > SECRET_BYTES_MAX or len(secret.split()) > 1:
        raise ConfigError(name, str(path), "must hold the secret and nothing else")
    return secret
