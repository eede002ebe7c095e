# SPDX-License-Identifier: Apache-2.0
"""What the store keeps of events and webhooks. The scripts append the events; see scripts/thresholds.lua.

Webhook endpoints belong to the admins, everything else here to the one server that holds the lease: what it writes, it
writes only while it does; see events.lua.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from taximeter_server.store import SOCKET_TIMEOUT_SECONDS
from taximeter_server.store_errors import translated
from taximeter_server.store_functions import StoreFunctions

ENDPOINTS = "{tx:cfg}:webhooks"
FAILING_SINCE = "{tx:cfg}:webhooks_failing_since"
DISABLED = "{tx:cfg}:webhooks_disabled"
LEASE = "{tx:cfg}:webhook_lease"
POSITIONS = "{tx:cfg}:webhook_positions"
DUE = "{tx:cfg}:webhook_due"
DELIVERY_PREFIX = "{tx:cfg}:webhook_deliveries:"
"""Before an endpoint's id: its deliveries by event id. With "times:" before the id: the event ids by time."""

DELIVERIES_KEPT = 1_000


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """One entry of a partition's stream."""

    partition: int
    stream_id: str
    fields: Mapping[str, str]

    @property
    def time_ms(self) -> int:
        """When it was appended, by the store's clock."""
        return int(self.stream_id.partition("-")[0])


class LeaseLostError(Exception):
    """Another server sends now; nothing was written."""


class EventStore:
    """Reads events, and keeps webhooks. Thread-safe. Every method raises StoreUnavailableError, StoreCorruptError."""

    def __init__(self, url: str) -> None:
        """url: as of DocumentStore."""
        # Sent twice, everything here does what it does once.
        self._client: Any = redis.Redis.from_url(
            url,
            decode_responses=True,
            protocol=2,
            driver_info=None,
            socket_timeout=SOCKET_TIMEOUT_SECONDS,
            socket_connect_timeout=SOCKET_TIMEOUT_SECONDS,
            retry=Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
        )
        self._functions = StoreFunctions(self._client, "events")

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def read_events(self, positions: Mapping[int, str], count: int) -> list[StoredEvent]:
        """Return events behind the position of each partition in order of time, of each partition at most count."""
        keys = {f"{{tx:{partition}}}:events": position for partition, position in positions.items()}
        partitions = dict(zip(keys, positions, strict=True))
        with translated():
            streams = self._client.xread(keys, count=count)
        events = [
            StoredEvent(partitions[key], stream_id, fields)
            for key, entries in streams
            for stream_id, fields in entries
        ]
        return sorted(events, key=lambda event: (event.time_ms, event.partition, _sequence(event.stream_id)))

    def endpoints(self) -> dict[str, str]:
        """Return the documents of all endpoints by id."""
        with translated():
            return dict(self._client.hgetall(ENDPOINTS))

    def put_endpoint(self, endpoint_id: str, document: str) -> None:
        """Create or replace an endpoint, and enable it."""
        with translated(), self._client.pipeline(transaction=True) as transaction:
            transaction.hset(ENDPOINTS, endpoint_id, document)
            transaction.hdel(FAILING_SINCE, endpoint_id).hdel(DISABLED, endpoint_id)
            transaction.execute()

    def replace_endpoint(self, endpoint_id: str, document: str) -> None:
        """Replace an endpoint; a disabled one stays so."""
        with translated():
            self._client.hset(ENDPOINTS, endpoint_id, document)

    def remove_endpoint(self, endpoint_id: str) -> bool:
        """Remove an endpoint and its deliveries. Says whether it was there."""
        members = [f"{endpoint_id} {event_id}" for event_id in self.delivery_ids(endpoint_id)]
        with translated(), self._client.pipeline(transaction=True) as transaction:
            transaction.hdel(ENDPOINTS, endpoint_id)
            transaction.hdel(FAILING_SINCE, endpoint_id).hdel(DISABLED, endpoint_id)
            transaction.delete(DELIVERY_PREFIX + endpoint_id, f"{DELIVERY_PREFIX}times:{endpoint_id}")
            if members:
                transaction.zrem(DUE, *members)
            return bool(transaction.execute()[0])

    def endpoint_health(self) -> tuple[dict[str, int], dict[str, int]]:
        """Return since when endpoints have failed, and when endpoints were disabled: milliseconds, by id."""
        with translated(), self._client.pipeline(transaction=True) as transaction:
            found = transaction.hgetall(FAILING_SINCE).hgetall(DISABLED).execute()
            failing, disabled = ({name: int(time_ms) for name, time_ms in times.items()} for times in found)
            return failing, disabled

    def delivery_ids(self, endpoint_id: str) -> list[str]:
        """Return the event ids of an endpoint's deliveries, newest first."""
        with translated():
            return list(self._client.zrevrange(f"{DELIVERY_PREFIX}times:{endpoint_id}", 0, -1))

    def deliveries(self, endpoint_id: str, event_ids: Sequence[str]) -> list[str]:
        """Return documents of deliveries; those that are gone are left out."""
        if not event_ids:
            return []
        with translated():
            found = self._client.hmget(DELIVERY_PREFIX + endpoint_id, list(event_ids))
        return [document for document in found if document is not None]

    def positions(self) -> dict[int, str]:
        """Return how far events have been queued, by partition."""
        with translated():
            return {int(partition): found for partition, found in self._client.hgetall(POSITIONS).items()}

    def due(self, now_ms: int, count: int) -> list[tuple[str, str]]:
        """Return endpoint and event of deliveries whose time has come, the longest waiting first."""
        with translated():
            members = self._client.zrange(DUE, "-inf", now_ms, byscore=True, offset=0, num=count)
        pairs = (member.partition(" ") for member in members)
        return [(endpoint_id, event_id) for endpoint_id, _, event_id in pairs]

    def hold_lease(self, owner: str, duration_ms: int) -> bool:
        """Take or renew the lease. Says whether owner has it."""
        with translated():
            return bool(self._functions.call("hold_lease", (LEASE,), owner, duration_ms))

    def release_lease(self, owner: str) -> None:
        """Let another take the lease at once."""
        with translated():
            self._functions.call("release_lease", (LEASE,), owner)

    def queue(self, owner: str, endpoint_id: str, event_id: str, document: str, time_ms: int) -> None:
        """Queue a delivery, due at once, unless it is queued already. Raises LeaseLostError."""
        keys = (LEASE, DELIVERY_PREFIX + endpoint_id, f"{DELIVERY_PREFIX}times:{endpoint_id}", DUE)
        arguments = (owner, endpoint_id, event_id, document, time_ms, DELIVERIES_KEPT)
        with translated():
            if not self._functions.call("queue", keys, *arguments):
                raise LeaseLostError

    def advance(self, owner: str, positions: Mapping[int, str]) -> None:
        """Note how far events have been queued. Raises LeaseLostError."""
        parts = [text for partition, position in positions.items() for text in (str(partition), position)]
        self._run(owner, ["HSET", POSITIONS, *parts])

    def note_attempt(
        self, owner: str, endpoint_id: str, event_id: str, document: str, *, due_ms: int | None
    ) -> None:
        """Keep what became of a delivery; due_ms is its next attempt, None for no more. Raises LeaseLostError."""
        member = f"{endpoint_id} {event_id}"
        due = ["ZREM", DUE, member] if due_ms is None else ["ZADD", DUE, str(due_ms), member]
        self._run(owner, ["HSET", DELIVERY_PREFIX + endpoint_id, event_id, document], due)

    def drop_due(self, owner: str, endpoint_id: str, event_id: str) -> None:
        """Forget a delivery that is gone. Raises LeaseLostError."""
        self._run(owner, ["ZREM", DUE, f"{endpoint_id} {event_id}"])

    def note_success(self, owner: str, endpoint_id: str) -> None:
        """Note that an endpoint works. Raises LeaseLostError."""
        self._run(owner, ["HDEL", FAILING_SINCE, endpoint_id])

    def note_failure(self, owner: str, endpoint_id: str, now_ms: int) -> None:
        """Note that an endpoint fails, and since when. Raises LeaseLostError."""
        self._run(owner, ["HSETNX", FAILING_SINCE, endpoint_id, str(now_ms)])

    def disable(self, owner: str, endpoint_id: str, now_ms: int) -> None:
        """Send nothing more to an endpoint until an admin puts it again. Raises LeaseLostError."""
        self._run(owner, ["HSETNX", DISABLED, endpoint_id, str(now_ms)])

    def _run(self, owner: str, *commands: Sequence[str]) -> None:
        texts = [json.dumps(command) for command in commands]
        with translated():
            if not self._functions.call("run_guarded", (LEASE,), owner, *texts):
                raise LeaseLostError


def _sequence(stream_id: str) -> int:
    return int(stream_id.partition("-")[2])
