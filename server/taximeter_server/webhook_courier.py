# SPDX-License-Identifier: Apache-2.0
"""Sends events to webhook endpoints. One server does at a time, the one that holds the lease in the store.

What is to be sent is in the store before anything is sent, and what came of it right after: whoever is killed in
between, the next one sends again, by the same id. So an endpoint gets each event at least once.
"""

import secrets
import threading
from collections.abc import Callable, Mapping

import structlog

from taximeter_server.errors import StoreUnavailableError
from taximeter_server.event_store import EventStore, LeaseLostError
from taximeter_server.quota_events import QuotaEvent
from taximeter_server.retry_schedule import draw_jitter_percent
from taximeter_server.webhook_deliveries import Delivery
from taximeter_server.webhook_endpoints import Endpoint
from taximeter_server.webhook_message import PostResult, body_of, headers_of, post

POLL_SECONDS = 0.5
LEASE_MS = 15_000
DISABLE_AFTER_MS = 5 * 24 * 3_600 * 1_000
ATTEMPTS_AT_ONCE = 16
EVENTS_AT_ONCE = 100
GONE_STATUS = 410

_OWNER_BYTES = 8
_log = structlog.get_logger(__name__)


class WebhookCourier:
    """Queues events for endpoints and posts what is due, until told to stop."""

    def __init__(self, store: EventStore, *, clock: Callable[[], int], partition_count: int) -> None:
        """clock: the store's, in milliseconds."""
        self._store = store
        self._clock = clock
        self._partition_count = partition_count
        self._owner = secrets.token_hex(_OWNER_BYTES)
        self._lock = threading.Lock()
        self._under_way: set[tuple[str, str]] = set()

    def run(self, stop: threading.Event) -> None:
        """Work until stop is set. Attempts under way then are made again by whoever is next."""
        while not stop.wait(POLL_SECONDS):
            try:
                if self._store.hold_lease(self._owner, LEASE_MS):
                    self._work()
            except LeaseLostError:
                _log.info("another server sends webhooks now")
            except StoreUnavailableError:
                # Nothing is lost: what is due stays due.
                continue
            except Exception as error:  # noqa: BLE001 (a defect must not end all deliveries)
                _log.error("sending webhooks failed and will be tried again", exc_info=error)
        try:
            self._store.release_lease(self._owner)
        except StoreUnavailableError:
            # It ends by itself.
            return

    def _work(self) -> None:
        documents = self._store.endpoints()
        endpoints = {name: Endpoint.from_json(document) for name, document in documents.items()}
        if not endpoints:
            return
        _, disabled = self._store.endpoint_health()
        self._queue_events(
            {name: found for name, found in endpoints.items() if name not in disabled}, endpoints
        )
        with self._lock:
            room = ATTEMPTS_AT_ONCE - len(self._under_way)
            busy = set(self._under_way)
        if room <= 0:
            return
        due = self._store.due(self._clock(), ATTEMPTS_AT_ONCE + room)
        for endpoint_id, event_id in [pair for pair in due if pair not in busy][:room]:
            endpoint = endpoints.get(endpoint_id)
            found = self._store.deliveries(endpoint_id, [event_id])
            if endpoint is None or not found:
                self._store.drop_due(self._owner, endpoint_id, event_id)
            elif endpoint_id in disabled:
                delivery = Delivery.from_json(found[0]).given_up("the endpoint is disabled")
                self._note(endpoint_id, delivery)
            else:
                self._start(endpoint, Delivery.from_json(found[0]))

    def _queue_events(self, enabled: Mapping[str, Endpoint], endpoints: Mapping[str, Endpoint]) -> None:
        """Queue what has happened since the last time."""
        # No endpoint wants anything from before it was created.
        first = f"{min(endpoint.start_time_ms for endpoint in endpoints.values())}-0"
        positions = dict.fromkeys(range(self._partition_count), first) | self._store.positions()
        while events := self._store.read_events(positions, EVENTS_AT_ONCE):
            for stored in events:
                event = QuotaEvent.from_stored(stored)
                document = Delivery(event=event).to_json()
                for endpoint_id, endpoint in enabled.items():
                    if endpoint.wants(event):
                        self._store.queue(self._owner, endpoint_id, event.event_id, document, event.time_ms)
            reached = {stored.partition: stored.stream_id for stored in events}
            self._store.advance(self._owner, reached)
            positions |= reached

    def _start(self, endpoint: Endpoint, delivery: Delivery) -> None:
        pair = (endpoint.endpoint_id, delivery.event.event_id)
        with self._lock:
            self._under_way.add(pair)
        # A daemon: a server that stops does not wait for somebody else's.
        threading.Thread(target=self._attempt, args=(endpoint, delivery), name="webhook", daemon=True).start()

    def _attempt(self, endpoint: Endpoint, delivery: Delivery) -> None:
        event = delivery.event
        try:
            now_ms = self._clock()
            body = body_of(event)
            headers = headers_of(event.event_id, body, endpoint.live_secrets(now_ms), now_ms)
            self._note_result(endpoint.endpoint_id, delivery, post(endpoint.settings.url, headers, body))
        except (LeaseLostError, StoreUnavailableError):
            # It stays due, and is made again.
            return
        except Exception as error:  # noqa: BLE001 (the end of a thread; nobody else would hear of it)
            _log.error("an attempt failed and will be made again", exc_info=error)
        finally:
            with self._lock:
                self._under_way.discard((endpoint.endpoint_id, event.event_id))

    def _note_result(self, endpoint_id: str, delivery: Delivery, result: PostResult) -> None:
        time_ms = self._clock()
        done = delivery.after_attempt(result, time_ms=time_ms, jitter_percent=draw_jitter_percent())
        if not result.problem:
            self._store.note_success(self._owner, endpoint_id)
        else:
            self._store.note_failure(self._owner, endpoint_id, time_ms)
            failing, _ = self._store.endpoint_health()
            is_hopeless = time_ms - failing.get(endpoint_id, time_ms) >= DISABLE_AFTER_MS
            if result.status == GONE_STATUS or is_hopeless:
                self._store.disable(self._owner, endpoint_id, time_ms)
                done = done.given_up(result.problem)
                _log.warning("webhook endpoint disabled", endpoint_id=endpoint_id, problem=result.problem)
        self._note(endpoint_id, done)

    def _note(self, endpoint_id: str, delivery: Delivery) -> None:
        self._store.note_attempt(
            self._owner,
            endpoint_id,
            delivery.event.event_id,
            delivery.to_json(),
            due_ms=delivery.next_attempt_time_ms,
        )
