# SPDX-License-Identifier: Apache-2.0
"""Pushes what is due to the payment provider. One server does at a time, the one that holds the lease in the store.

An attempt is in the store before it is made, and what came of it right after. Whoever is killed in between, the next
one makes it again by the same key, and the provider makes nothing twice.
"""

import secrets
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from taximeter_server.errors import StoreUnavailableError
from taximeter_server.payment_job import PaymentJob
from taximeter_server.payment_provider import PushError
from taximeter_server.payment_sender import PaymentSender
from taximeter_server.payment_store import PaymentStore
from taximeter_server.retry_schedule import draw_jitter_percent

POLL_SECONDS = 1.0
LEASE_MS = 15_000
"""An attempt that takes longer may be made by another server at the same time, by the same keys."""
JOBS_AT_ONCE = 16

_OWNER_BYTES = 8
_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Source:
    """Queues what is to be pushed by now; asked again when interval_ms have passed."""

    queue: Callable[[], None]
    interval_ms: int
    next_time_ms: int = 0


class PaymentCourier:
    """Queues what the sources find and pushes what is due, until told to stop."""

    def __init__(
        self,
        store: PaymentStore,
        sender: PaymentSender,
        sources: Sequence[Source],
        clock: Callable[[], int],
        *,
        is_exclusive: bool,
    ) -> None:
        """clock: the store's, in milliseconds.

        is_exclusive: the store is this server's alone, so a lease that is held is its own from before.
        """
        self._store = store
        self._sender = sender
        self._sources = sources
        self._clock = clock
        self._owner = "exclusive" if is_exclusive else secrets.token_hex(_OWNER_BYTES)

    def run(self, stop: threading.Event) -> None:
        """Work until stop is set. An attempt under way then is made again by whoever is next."""
        while not stop.wait(POLL_SECONDS):
            try:
                if self._store.hold_lease(self._owner, LEASE_MS):
                    self._work(stop)
            except StoreUnavailableError:
                # Nothing is lost: what is due stays due.
                continue
            except Exception as error:  # noqa: BLE001 (a defect must not end all payments)
                _log.error("pushing payments failed and will be tried again", exc_info=error)
        try:
            self._store.release_lease(self._owner)
        except StoreUnavailableError:
            # It ends by itself.
            return

    def _work(self, stop: threading.Event) -> None:
        for source in self._sources:
            now_ms = self._clock()
            if now_ms >= source.next_time_ms:
                source.next_time_ms = now_ms + source.interval_ms
                source.queue()
        for job_id in self._store.due(self._clock(), JOBS_AT_ONCE):
            if stop.is_set():
                return
            if not self._store.hold_lease(self._owner, LEASE_MS):
                _log.info("another server pushes payments now")
                return
            document = self._store.job(job_id)
            if document is None:
                self._store.drop_due(job_id)
            else:
                self._attempt(document)

    def _attempt(self, document: str) -> None:
        job = PaymentJob.from_json(document).begun(self._clock())
        # So that it comes up again if this server dies within the attempt.
        if not self._replace(document, job, due_ms=job.last_attempt_time_ms):
            return
        try:
            pushed = self._sender.send(job)
        except PushError as error:
            after = job.failed(error, time_ms=self._clock(), jitter_percent=draw_jitter_percent())
            _log.warning("a payment was not pushed", payment=job.job_id, problem=error.problem)
        else:
            after = job.done(pushed.provider_id, pushed.url)
        self._replace(job.to_json(), after, due_ms=after.next_attempt_time_ms)

    def _replace(self, before: str, after: PaymentJob, *, due_ms: int | None) -> bool:
        """Keep a job unless somebody else has changed it meanwhile. Says whether it was kept."""
        return self._store.replace(after.job_id, before, after.to_json(), due_ms=due_ms)
