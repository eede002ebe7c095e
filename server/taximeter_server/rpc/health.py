# SPDX-License-Identifier: Apache-2.0
"""Health whose watchers do not hold up a stop."""

import asyncio
from typing import Any

from grpc_health.v1 import health

LEAVE_DELAY_SECONDS = 0.1


class Health(health.aio.HealthServicer):
    """The standard service; on the way out its streams say NOT_SERVING and end."""

    def __init__(self) -> None:
        super().__init__()
        self._watches: set[asyncio.Future[None]] = set()
        self._is_leaving = False

    async def Watch(self, request: Any, context: Any) -> None:  # noqa: N802 (named by the protocol)
        """Stream the status of a service, until the server stops."""
        watch = asyncio.ensure_future(super().Watch(request, context))
        self._watches.add(watch)
        try:
            await watch
        except asyncio.CancelledError:
            # Without this the call, and not the stream, was cancelled.
            if not self._is_leaving:
                raise
        finally:
            self._watches.discard(watch)

    async def leave(self) -> None:
        """Tell every watcher NOT_SERVING, now and for good, and end its stream."""
        await self.enter_graceful_shutdown()
        # One turn for each of them to write what it was woken for.
        await asyncio.sleep(LEAVE_DELAY_SECONDS)
        self._is_leaving = True
        for watch in tuple(self._watches):
            watch.cancel()
