# SPDX-License-Identifier: Apache-2.0
"""The composition root: the one place that makes the parts, wires them, and takes them down in reverse order.

The embedded store is started before grpc is imported and before the native runtime exists: a process that is about to
fork has neither. Hence the imports within functions.
"""

import asyncio
import contextlib
import importlib.resources
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from taximeter_server.background_thread import start_thread
from taximeter_server.checked_store import check_store
from taximeter_server.config import Config
from taximeter_server.credit_store import CreditStore
from taximeter_server.credits import Credits
from taximeter_server.data_directory import DataDirectory, write_private_file
from taximeter_server.event_store import EventStore
from taximeter_server.payment_store import PaymentStore
from taximeter_server.serve_store import open_engine, start_store
from taximeter_server.store import DocumentStore

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from taximeter_server import _native
    from taximeter_server.audit import Audit
    from taximeter_server.billing import Billing
    from taximeter_server.catalogue import CatalogueFollower
    from taximeter_server.keys import Keys
    from taximeter_server.ledger_directory import LedgerDirectory
    from taximeter_server.pages import PageTokens
    from taximeter_server.payments import Payments
    from taximeter_server.plans import Plans
    from taximeter_server.public_port import PublicPort
    from taximeter_server.quota_simulation import QuotaSimulator
    from taximeter_server.report import Reporter
    from taximeter_server.rpc.credits import CreditMethods
    from taximeter_server.rpc.estimates import Estimates
    from taximeter_server.rpc.server import RpcServer, Service

DRAIN_TIMEOUT_MS = 10_000
"""With what follows, a stop takes at most 15 s."""
RPC_GRACE_SECONDS = 0.5
HEALTH_INTERVAL_SECONDS = 1.0
COMPARE_MEMORY_BYTES_MAX = 256 << 20
"""Of all comparisons of cards and simulations of limits together; what does not fit is computed on disk."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Parts:
    """What the services are made of."""

    config: Config
    clock: Callable[[], int]
    directory: DataDirectory
    documents: DocumentStore
    events: EventStore
    payments: PaymentStore
    credit_store: CreditStore
    credits: Credits
    engine: "_native.Engine"
    store_version: str
    start_time_ms: int


async def serve(
    config: Config,
    *,
    clock: Callable[[], int],
    stop: asyncio.Event,
    on_serving: Callable[[str], None] = lambda _address: None,
) -> None:
    """Run until stop is set, then stop in order. on_serving: called once with "HOST:PORT" as bound.

    clock: milliseconds since 1970 UTC. Raises StartError when it cannot start.
    """
    async with contextlib.AsyncExitStack() as stack:
        directory = stack.enter_context(
            DataDirectory(config.data, runtime_parent=config.runtime_parent, ledger=config.ledger)
        )
        store_url, fsync_url = await start_store(config, directory, stack, stop)
        documents = DocumentStore(store_url, is_exclusive=config.store is None, fsync_url=fsync_url)
        events, credit_store = EventStore(store_url), CreditStore(store_url)
        payments = PaymentStore(store_url, documents.fsync, documents.changes)
        for opened in (documents, events, credit_store, payments):
            stack.callback(opened.close)
        checked = await asyncio.to_thread(check_store, documents, config, directory.ledger)
        engine = await open_engine(config, directory, store_url, stack, checked)
        account_credits = Credits(engine, credit_store, documents.changes, documents.time_ms)
        stores = documents, events, payments, credit_store, account_credits
        parts = Parts(config, clock, directory, *stores, engine, checked.version, start_time_ms=clock())
        rpc_server = await _start_services(parts, stack)
        if stop.is_set():
            return
        port = await _open_port(parts, rpc_server, stack)
        address = port.address
        write_private_file(directory.address_file, f"{port.local_address}\n".encode())
        stack.callback(directory.address_file.unlink, missing_ok=True)
        _log.info(f"serving on {address}", data=str(directory.path), store=checked.version)
        on_serving(address)
        await _watch_health(rpc_server, engine, stop)
        _log.info("stopping")
    _log.info("stopped")


async def _start_services(parts: Parts, stack: contextlib.AsyncExitStack) -> "RpcServer":
    """Make first documents, hand the engine its catalogue, start background threads and the private server."""
    from taximeter_server._native import PARTITION_COUNT  # noqa: PLC0415 (see above)
    from taximeter_server.audit import Audit  # noqa: PLC0415 (see above)
    from taximeter_server.catalogue import CatalogueFollower  # noqa: PLC0415
    from taximeter_server.credit_expiry import CreditExpirer  # noqa: PLC0415
    from taximeter_server.ledger_directory import LedgerDirectory  # noqa: PLC0415
    from taximeter_server.rpc.audit import CallAuditor  # noqa: PLC0415
    from taximeter_server.rpc.server import RpcServer  # noqa: PLC0415
    from taximeter_server.webhook_courier import WebhookCourier  # noqa: PLC0415

    follower = CatalogueFollower(parts.documents, parts.engine)
    ledger = LedgerDirectory(parts.directory.ledger)
    audit = Audit(parts.documents, parts.engine, parts.directory.ledger / "audit")
    auditor = CallAuditor(audit.log, audit.changes)
    services, billing, payments = await asyncio.to_thread(_make_services, parts, follower, ledger, audit)
    start_thread("catalogue", follower.run, stack)
    start_thread("archiver", _archive(parts, ledger), stack)
    start_thread("audit", audit.keeper(auditor.take_denials).run, stack)
    start_thread("billing", billing.keeper.run, stack)
    courier = WebhookCourier(parts.events, clock=parts.documents.time_ms, partition_count=PARTITION_COUNT)
    start_thread("webhooks", courier.run, stack)
    if payments.courier is not None:
        start_thread("payments", payments.courier.run, stack)
    expirer = CreditExpirer(parts.credits, parts.credit_store, parts.documents.time_ms)
    start_thread("credits", expirer.run, stack)
    socket_path = parts.directory.socket_path("rpc.sock")
    rpc_server = RpcServer(services, auditor, has_reflection=not parts.config.no_reflection)
    stack.callback(socket_path.unlink, missing_ok=True)
    stack.push_async_callback(rpc_server.stop, grace_seconds=RPC_GRACE_SECONDS)
    await rpc_server.start(socket_path)
    return rpc_server


def _make_services(
    parts: Parts, follower: "CatalogueFollower", ledger: "LedgerDirectory", audit: "Audit"
) -> "tuple[list[Service], Billing, Payments]":
    from taximeter_server.keys import Keys  # noqa: PLC0415 (see above)
    from taximeter_server.pages import PageTokens  # noqa: PLC0415
    from taximeter_server.plans import Plans  # noqa: PLC0415
    from taximeter_server.quota_simulation import QuotaSimulator  # noqa: PLC0415
    from taximeter_server.rate_card_snapshots import RateCardSnapshots  # noqa: PLC0415
    from taximeter_server.rate_card_timeline import RateCardTimeline  # noqa: PLC0415
    from taximeter_server.rate_card_verification import RateCardVerifier  # noqa: PLC0415
    from taximeter_server.report import Reporter  # noqa: PLC0415
    from taximeter_server.report_database import open_report_database  # noqa: PLC0415
    from taximeter_server.rpc.access import AccessService  # noqa: PLC0415
    from taximeter_server.rpc.billing import BillingService  # noqa: PLC0415
    from taximeter_server.rpc.ledger_tools import make_ledger_tools  # noqa: PLC0415
    from taximeter_server.rpc.levels import LevelReadings  # noqa: PLC0415
    from taximeter_server.rpc.metering import MeteringService  # noqa: PLC0415
    from taximeter_server.rpc.rate_cards import RateCardService  # noqa: PLC0415

    documents, engine, directory = parts.documents, parts.engine, parts.directory
    keys = Keys(documents, parts.clock)
    snapshots = RateCardSnapshots(directory.ledger / "rate-cards")
    timeline = RateCardTimeline(documents, snapshots)
    # Only the very first start changes what an admin could have changed.
    with contextlib.nullcontext() if keys.list() else audit.log.own_call("first start"):
        _make_first_documents(parts, keys.ensure_admin_key, timeline.ensure_first)
    follower.refresh()
    page_tokens = PageTokens(token_key := documents.page_token_key())
    reporter = Reporter(engine, ledger, token_secret=token_key, temporary_directory=directory.overflow)
    estimates = _make_estimates(parts, reporter, follower)
    readings = LevelReadings(
        documents, record=engine.record, currency_code=lambda: follower.currency_code, clock=parts.clock
    )
    # Not that of the reports, whose memory a comparison must not take. Each database has a folder of its own: in one
    # that they share, files are named alike.
    database = open_report_database(
        directory.overflow / "comparisons", memory_limit_bytes=COMPARE_MEMORY_BYTES_MAX
    )
    tools, corrections = make_ledger_tools(
        engine, ledger, timeline, database, parts.credits, currency_code=lambda: follower.currency_code
    )
    plans = Plans(documents, engine, parts.clock)
    billing = _make_billing(parts, follower, reporter, audit, plans)
    payments = _make_payments(parts, follower, reporter, billing, audit)
    credit_methods = _make_credit_methods(parts, ledger, database, page_tokens)
    services: list[Service] = [
        MeteringService(
            reporter, estimates, readings, corrections, currency_code=lambda: follower.currency_code
        ),
        RateCardService(
            timeline,
            verifier=RateCardVerifier(documents, snapshots),
            ledger=tools,
            apply=follower.refresh,
            page_tokens=page_tokens,
            clock=parts.clock,
        ),
        *_make_limits(
            parts, plans, keys, QuotaSimulator(engine, ledger, database=database), follower, page_tokens
        ),
        _make_events(parts, page_tokens),
        AccessService(keys, audit, apply=follower.refresh, page_tokens=page_tokens),
        _make_operations(parts, follower, page_tokens),
        BillingService(billing, payments, credit_methods, page_tokens=page_tokens),
    ]
    return services, billing, payments


def _make_estimates(parts: Parts, reporter: "Reporter", follower: "CatalogueFollower") -> "Estimates":
    from taximeter_server.rpc.estimates import Estimates  # noqa: PLC0415 (see above)

    return Estimates(
        reporter,
        price=parts.engine.estimate,
        quota_status=parts.engine.quota_status,
        credit_account=parts.credits.of_root,
        currency_code=lambda: follower.currency_code,
        clock=parts.clock,
    )


def _make_billing(
    parts: Parts, follower: "CatalogueFollower", reporter: "Reporter", audit: "Audit", plans: "Plans"
) -> "Billing":
    from taximeter_server.billing import Billing  # noqa: PLC0415 (see above)

    return Billing(
        parts.documents,
        plans,
        reporter,
        parts.credits,
        audited=audit.log.own_call,
        clock=parts.documents.time_ms,
        currency_code=lambda: follower.currency_code,
        grace_seconds=parts.config.invoice_grace_s,
    )


def _make_payments(
    parts: Parts, follower: "CatalogueFollower", reporter: "Reporter", billing: "Billing", audit: "Audit"
) -> "Payments":
    from taximeter_server.payments import Sales, make_payments, make_provider  # noqa: PLC0415 (see above)

    return make_payments(
        make_provider(parts.config, reporter.ledger_id),
        parts.payments,
        reporter,
        billing.invoices,
        Sales(parts.documents.billing, parts.credits, lambda: follower.currency_code),
        audited=audit.log.own_call,
        clock=parts.documents.time_ms,
        config=parts.config,
    )


def _make_credit_methods(
    parts: Parts, ledger: "LedgerDirectory", database: "DuckDBPyConnection", page_tokens: "PageTokens"
) -> "CreditMethods":
    from taximeter_server.credit_entries import CreditEntries  # noqa: PLC0415 (see above)
    from taximeter_server.rpc.credits import CreditMethods  # noqa: PLC0415

    entries = CreditEntries(parts.engine, ledger, database=database)
    return CreditMethods(parts.credits, entries, page_tokens=page_tokens)


def _make_limits(
    parts: Parts,
    plans: "Plans",
    keys: "Keys",
    simulator: "QuotaSimulator",
    follower: "CatalogueFollower",
    page_tokens: "PageTokens",
) -> "Sequence[Service]":
    from taximeter_server.rpc.limit_services import make_limit_services  # noqa: PLC0415 (see above)
    from taximeter_server.tenants import Tenants  # noqa: PLC0415

    return make_limit_services(
        plans,
        Tenants(parts.documents, parts.engine, parts.clock),
        keys,
        simulator,
        quota_status=parts.engine.quota_status,
        apply=follower.refresh,
        page_tokens=page_tokens,
        is_exclusive=parts.config.store is None,
    )


def _make_events(parts: Parts, page_tokens: "PageTokens") -> "Service":
    from taximeter_server.rpc.events import EventService  # noqa: PLC0415 (see above)

    return EventService(
        parts.events,
        page_tokens=page_tokens,
        clock=parts.documents.time_ms,
        allow_plaintext=parts.config.insecure_webhooks,
    )


def _make_operations(parts: Parts, follower: "CatalogueFollower", page_tokens: "PageTokens") -> "Service":
    from taximeter_server.conflicts import RecordConflicts  # noqa: PLC0415 (see above)
    from taximeter_server.rpc.operations import OperationsService  # noqa: PLC0415
    from taximeter_server.server_status import take_status  # noqa: PLC0415

    return OperationsService(
        status=lambda: take_status(
            parts.engine,
            store_version=parts.store_version,
            rate_card_version=follower.timeline_version,
            start_time_ms=parts.start_time_ms,
        ),
        conflicts=RecordConflicts(parts.documents),
        page_tokens=page_tokens,
    )


def _make_first_documents(
    parts: Parts,
    ensure_admin_key: Callable[[Path], None],
    ensure_first_card: Callable[[str], None],
) -> None:
    card = importlib.resources.files("taximeter_server") / "default_rate_card.yaml"
    ensure_first_card(card.read_text(encoding="utf-8"))
    ensure_admin_key(parts.directory.admin_key_file)


def _archive(parts: Parts, ledger: "LedgerDirectory") -> Callable[[threading.Event], None]:
    from taximeter_server.archiver import Archiver  # noqa: PLC0415 (see above)
    from taximeter_server.archiver_pace import ArchiverPace  # noqa: PLC0415
    from taximeter_server.ledger_merge import FileMerger  # noqa: PLC0415

    archiver = Archiver(
        parts.engine,
        ledger,
        merger=FileMerger(temporary_directory=parts.directory.overflow / "archiver"),
        clock=parts.clock,
        pace=ArchiverPace(parts.engine.recorded_count, time.monotonic),
    )

    def report_failure(error: Exception) -> None:
        _log.error("archiving failed and will be tried again", exc_info=error)

    def run(stop: threading.Event) -> None:
        archiver.run(stop, report_failure)

    return run


async def _open_port(parts: Parts, rpc_server: "RpcServer", stack: contextlib.AsyncExitStack) -> "PublicPort":
    """Open the public port."""
    from taximeter_server.public_port import PublicPort  # noqa: PLC0415 (see above)

    def open_port() -> PublicPort:
        return PublicPort(parts.engine, parts.config, forward_socket=parts.directory.socket_path("rpc.sock"))

    port = await asyncio.to_thread(open_port)

    async def drain() -> None:
        await rpc_server.set_not_serving()
        if not await asyncio.to_thread(port.drain, timeout_ms=DRAIN_TIMEOUT_MS):
            _log.warning("calls were cut off", after_ms=DRAIN_TIMEOUT_MS)

    stack.push_async_callback(drain)
    start_thread("public port", port.run, stack)
    return port


async def _watch_health(rpc_server: "RpcServer", engine: "_native.Engine", stop: asyncio.Event) -> None:
    """Keep health as the store is, until stop is set."""
    was_available: bool | None = None
    while not stop.is_set():
        is_available = bool((await asyncio.to_thread(engine.status))["store_available"])
        if is_available != was_available:
            await rpc_server.set_serving(store_available=is_available)
            if was_available is not None:
                _log.warning("the store is back" if is_available else "the store is away")
            was_available = is_available
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), HEALTH_INTERVAL_SECONDS)
