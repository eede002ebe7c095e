# SPDX-License-Identifier: Apache-2.0
"""What an admin was told is done survives a power loss at once, and not only from the store's next fsync on.

Keys, tenants and rate cards have no journal: what stands in the store's append-only file is all there is of them.
"""

import threading
from typing import Any

import redis

from taximeter_server.store_names import SYNCED

FSYNC_LIMIT_MS = 3_000
_SOCKET_TIMEOUT_SECONDS = 5


class StoreFsync:
    """Waits until a store has its writes on disk. Thread-safe. Every method raises redis.RedisError."""

    def __init__(self, url: str, *, is_exclusive: bool) -> None:
        """is_exclusive: the store is this server's alone, so its settings may change for a moment."""
        self._client: Any = redis.Redis.from_url(
            url,
            decode_responses=True,
            # What the client is called is nobody's business, and saying so is a command more to allow.
            driver_info=None,
            socket_timeout=_SOCKET_TIMEOUT_SECONDS,
            socket_connect_timeout=_SOCKET_TIMEOUT_SECONDS,
        )
        self._is_exclusive = is_exclusive
        self._settings_lock = threading.Lock()

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def wait(self) -> None:
        """Return once everything written to the store so far is on its disk.

        Takes one fsync of an exclusive store. One of somebody else is asked to tell when it has fsynced, which by its
        own schedule takes up to a second; a Redis before 7.2, or without an append-only file, cannot tell and is not
        waited for. Raises redis.TimeoutError when it takes longer than FSYNC_LIMIT_MS.
        """
        if self._is_exclusive:
            self._fsync_now()
        else:
            self._wait_for_fsync()

    def _fsync_now(self) -> None:
        with self._settings_lock:
            before = self._client.config_get("appendfsync")["appendfsync"]
            self._client.config_set("appendfsync", "always")
            try:
                self._client.incr(SYNCED)
            finally:
                self._client.config_set("appendfsync", before)

    def _wait_for_fsync(self) -> None:
        # The store waits for what this connection wrote. Its file is in order, so all before it is there, too.
        with self._client.pipeline(transaction=False) as pipeline:
            pipeline.incr(SYNCED).execute_command("WAITAOF", 1, 0, FSYNC_LIMIT_MS)
            try:
                _, (local_count, _) = pipeline.execute()
            except redis.ResponseError as error:
                if "unknown command" in str(error) or "appendonly" in str(error):
                    return
                raise
        if local_count < 1:
            raise redis.TimeoutError("the store has not fsynced in time")
