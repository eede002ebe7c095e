# SPDX-License-Identifier: Apache-2.0
"""Usage for the payment provider's own plans: the cost of accounts by UTC day, in millionths of the currency's unit.

What was queued of each day is kept in the step that queues it, so late usage is the difference, and nothing is sent
twice. What a correction took back is set off against later usage of the same day, or is left: providers take no usage
back.
"""

from collections.abc import Callable, Iterable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Protocol

from taximeter_server.payment_accounts import PaymentAccounts
from taximeter_server.payment_job import JobKind, PaymentJob
from taximeter_server.payment_provider import ReportedUsage
from taximeter_server.payment_store import PaymentStore
from taximeter_server.report_query import ReportQuery, ReportRow

INTERVAL_MS = 300_000
DAYS_BACK = 34
"""Older usage is not accepted, neither here nor by providers."""

_DAY_MS = 86_400_000
_PICOS_PER_MICRO = 1_000_000


class UsageReader(Protocol):
    """Sums usage; the reports do."""

    def rows(self, query: ReportQuery) -> Iterable[ReportRow]:
        """Return the rows of a report."""


class UsageSource:
    """Queues usage of the accounts that have it reported."""

    def __init__(
        self,
        store: PaymentStore,
        accounts: PaymentAccounts,
        reader: UsageReader,
        clock: Callable[[], int],
    ) -> None:
        """clock: the store's, in milliseconds."""
        self._store = store
        self._accounts = accounts
        self._reader = reader
        self._clock = clock

    def queue(self) -> None:
        """Queue what has come since the last time; every INTERVAL_MS is often enough."""
        now_ms = self._clock()
        tenants = {account.tenant for account in self._accounts.list() if account.report_usage}
        if not tenants:
            return
        first_ms = now_ms - now_ms % _DAY_MS - DAYS_BACK * _DAY_MS
        query = ReportQuery(
            start_time_us=first_ms * 1_000,
            end_time_us=(first_ms + (DAYS_BACK + 2) * _DAY_MS) * 1_000,
            group_by=("root_tenant", "day"),
            measures=("cost",),
        )
        reported = self._store.reported()
        for row in self._reader.rows(query):
            tenant, day = row.group
            if tenant in tenants and day is not None:
                micros = row.measures.cost_picos // _PICOS_PER_MICRO
                self._queue(tenant, day, reported.get(f"{tenant}/{day}", 0), micros, now_ms)
        first_day = _day_text(first_ms)
        self._store.forget_reported([mark for mark in reported if mark.rpartition("/")[2] < first_day])

    def _queue(self, tenant: str, day: str, before_micros: int, micros: int, now_ms: int) -> None:
        if micros <= before_micros:
            return
        mark = f"{tenant}/{day}"
        identifier = f"usage/{mark}/{before_micros}-{micros}"
        last_s = int(datetime.fromisoformat(f"{day}T23:59:59Z").timestamp())
        usage = ReportedUsage(
            identifier=identifier,
            amount_micros=micros - before_micros,
            time_s=min(last_s, now_ms // 1_000),
        )
        job = PaymentJob(
            job_id=identifier,
            kind=JobKind.USAGE,
            tenant=tenant,
            payload=asdict(usage),
            create_time_ms=now_ms,
            next_attempt_time_ms=now_ms,
        )
        self._store.queue(identifier, job.to_json(), now_ms, (mark, str(micros)))


def _day_text(time_ms: int) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=time_ms)).date().isoformat()
