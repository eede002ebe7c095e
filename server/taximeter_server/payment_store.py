# SPDX-License-Identifier: Apache-2.0
"""What the store keeps of payments: accounts, what is to be pushed, and which events have come.

Accounts belong to the admins. What is to be pushed is changed by the one server that holds the lease, and put back to
be tried again by any.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from taximeter_server.document_changes import DocumentChanges, document_sha256
from taximeter_server.store import SOCKET_TIMEOUT_SECONDS
from taximeter_server.store_errors import translated
from taximeter_server.store_fsync import StoreFsync
from taximeter_server.store_functions import StoreFunctions

ACCOUNTS = "{tx:cfg}:payment_accounts"
JOBS = "{tx:cfg}:payment_jobs"
TIMES = "{tx:cfg}:payment_times"
"""Job ids by the time at which they were queued."""
DUE = "{tx:cfg}:payment_due"
"""Ids of pending jobs by the time of their next attempt."""
EVENTS = "{tx:cfg}:payment_events"
"""Ids of events that came, by time."""
REPORTED = "{tx:cfg}:payment_reported"
"""Micro-units that were queued as usage, by account and UTC day."""
LEASE = "{tx:cfg}:payment_lease"

JOBS_KEPT = 10_000
EVENTS_KEPT_MS = 40 * 86_400_000
"""Longer than any provider sends an event again."""


class PaymentStore:
    """Thread-safe. Every method raises StoreUnavailableError, StoreCorruptError."""

    def __init__(self, url: str, fsync: StoreFsync, changes: DocumentChanges) -> None:
        """url: as of DocumentStore, whose fsync and notes of changes these are."""
        # Sent twice, everything here does what it does once.
        self._client: Any = redis.Redis.from_url(
            url,
            decode_responses=True,
            driver_info=None,
            socket_timeout=SOCKET_TIMEOUT_SECONDS,
            socket_connect_timeout=SOCKET_TIMEOUT_SECONDS,
            retry=Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
        )
        self._fsync = fsync
        self._changes = changes
        self._functions = StoreFunctions(self._client, "payments")
        self._leases = StoreFunctions(self._client, "events")

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def account(self, tenant: str) -> str | None:
        """Return the document of an account."""
        with translated():
            found = self._client.hget(ACCOUNTS, tenant)
        return None if found is None else str(found)

    def accounts(self) -> dict[str, str]:
        """Return the documents of all accounts."""
        with translated():
            return dict(self._client.hgetall(ACCOUNTS))

    def put_account(self, tenant: str, document: str) -> None:
        """Create or replace an account. It is on disk when this returns."""
        with translated():
            with self._client.pipeline(transaction=True) as transaction:
                transaction.hget(ACCOUNTS, tenant).hset(ACCOUNTS, tenant, document)
                before, _ = transaction.execute()
            self._changes.note(
                f"payment_accounts/{tenant}", document_sha256(before), document_sha256(document)
            )
            self._fsync.wait()

    def queue(self, job_id: str, document: str, time_ms: int, mark: tuple[str, str] = ("", "")) -> bool:
        """Queue a job, due at once, unless there is one of its id. Says whether there was none.

        mark: account and day, and what has been queued as usage of them, kept in the same step.
        """
        keys = (JOBS, TIMES, DUE, REPORTED)
        with translated():
            return bool(
                self._functions.call("queue_payment", keys, job_id, document, time_ms, JOBS_KEPT, *mark)
            )

    def job(self, job_id: str) -> str | None:
        """Return the document of a job."""
        with translated():
            found = self._client.hget(JOBS, job_id)
        return None if found is None else str(found)

    def job_ids(self) -> list[str]:
        """Return the ids of all jobs, newest first."""
        with translated():
            return list(self._client.zrevrange(TIMES, 0, -1))

    def jobs(self, job_ids: Sequence[str]) -> list[str]:
        """Return documents of jobs; those that are gone are left out."""
        if not job_ids:
            return []
        with translated():
            found = self._client.hmget(JOBS, list(job_ids))
        return [document for document in found if document is not None]

    def due(self, now_ms: int, count: int) -> list[str]:
        """Return ids of jobs whose time has come, the longest waiting first."""
        with translated():
            return list(self._client.zrange(DUE, "-inf", now_ms, byscore=True, offset=0, num=count))

    def replace(self, job_id: str, before: str, after: str, *, due_ms: int | None) -> bool:
        """Put after in the place of before; due_ms: of the next attempt, None for none. Says if before was there."""
        arguments = (job_id, before, after, "" if due_ms is None else due_ms)
        with translated():
            return bool(self._functions.call("replace_payment", (JOBS, DUE), *arguments))

    def drop_due(self, job_id: str) -> None:
        """Forget an attempt of a job that is gone."""
        with translated():
            self._client.zrem(DUE, job_id)

    def reported(self) -> Mapping[str, int]:
        """Return the micro-units that were queued as usage, by account and day."""
        with translated():
            return {mark: int(micros) for mark, micros in self._client.hgetall(REPORTED).items()}

    def forget_reported(self, marks: Sequence[str]) -> None:
        """Forget what was queued as usage of days that are over."""
        if marks:
            with translated():
                self._client.hdel(REPORTED, *marks)

    def has_event(self, event_id: str) -> bool:
        """Say whether an event has come before."""
        with translated():
            return self._client.zscore(EVENTS, event_id) is not None

    def note_event(self, event_id: str, now_ms: int) -> None:
        """Remember an event. What it changed and this are on disk when it returns."""
        with translated():
            self._client.zadd(EVENTS, {event_id: now_ms}, nx=True)
            old = self._client.zrange(EVENTS, "-inf", now_ms - EVENTS_KEPT_MS, byscore=True)
            if old:
                self._client.zrem(EVENTS, *old)
            self._fsync.wait()

    def hold_lease(self, owner: str, duration_ms: int) -> bool:
        """Take or renew the lease. Says whether owner has it."""
        with translated():
            return bool(self._leases.call("hold_lease", (LEASE,), owner, duration_ms))

    def release_lease(self, owner: str) -> None:
        """Let another take the lease at once."""
        with translated():
            self._leases.call("release_lease", (LEASE,), owner)
