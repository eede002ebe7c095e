# SPDX-License-Identifier: Apache-2.0
"""When credit grants expire, in the store: whoever runs a server finds what is due."""

from typing import Any

import redis

from taximeter_server.store_errors import translated
from taximeter_server.store_names import CREDIT_EXPIRIES

_TIMEOUT_SECONDS = 2.0
_SEPARATOR = " "


class CreditStore:
    """Keeps one instant per grant that expires. Thread-safe. Every method raises StoreUnavailableError."""

    def __init__(self, url: str) -> None:
        """url: as that of the document store. Connects on first use."""
        self._client: Any = redis.Redis.from_url(
            url,
            decode_responses=True,
            driver_info=None,
            socket_timeout=_TIMEOUT_SECONDS,
            socket_connect_timeout=_TIMEOUT_SECONDS,
        )

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def put_expiry(self, tenant: str, grant_id: str, time_ms: int) -> None:
        """Note when a grant expires: milliseconds since 1970 UTC."""
        with translated():
            self._client.zadd(CREDIT_EXPIRIES, {f"{tenant}{_SEPARATOR}{grant_id}": time_ms})

    def due(self, now_ms: int, count_max: int) -> list[tuple[str, str]]:
        """Return (tenant, grant id) of what has expired by then, the oldest first."""
        with translated():
            members = self._client.zrange(CREDIT_EXPIRIES, 0, now_ms, byscore=True, offset=0, num=count_max)
        pairs = (member.partition(_SEPARATOR) for member in members)
        return [(tenant, grant_id) for tenant, _, grant_id in pairs]

    def drop(self, tenant: str, grant_id: str) -> None:
        """Forget a grant."""
        with translated():
            self._client.zrem(CREDIT_EXPIRIES, f"{tenant}{_SEPARATOR}{grant_id}")
