# SPDX-License-Identifier: Apache-2.0
"""Expires credit grants: what is left of one when its time has come becomes an entry, exactly once.

A grant that has expired gives nothing from that second on, whether its entry stands already or not; the entry only
says so. What calls in flight hold of it stays theirs: what they leave is looked at again.
"""

import contextlib
import threading
from collections.abc import Callable

import structlog

from taximeter_server import _native
from taximeter_server.credit_store import CreditStore
from taximeter_server.credits import Credits
from taximeter_server.errors import RequestError

POLL_SECONDS = 1.0
RETRY_MS = 30_000
"""A grant of which something is held is looked at again after this long."""
_COUNT_MAX = 200

_log = structlog.get_logger(__name__)


class CreditExpirer:
    """Makes the entries of what has expired, for all accounts."""

    def __init__(self, account_credits: Credits, store: CreditStore, clock: Callable[[], int]) -> None:
        """clock: that of the store, milliseconds since 1970 UTC."""
        self._credits = account_credits
        self._store = store
        self._clock = clock

    def run(self, stop: threading.Event) -> None:
        """Expire until stop is set."""
        while not stop.wait(POLL_SECONDS):
            # Without the store nothing expires; when it is back, everything that is due does.
            with contextlib.suppress(
                RequestError, _native.StoreUnavailableError, _native.StoreCorruptError, _native.RpcError
            ):
                self.expire_due()

    def expire_due(self) -> None:
        """Expire what is due now. Raises what the engine and the store raise."""
        now_ms = self._clock()
        for tenant, grant_id in self._store.due(now_ms, _COUNT_MAX):
            try:
                is_done = self._credits.expire(tenant, grant_id)
            except (_native.StoreCorruptError, RequestError) as error:
                # An account that is damaged must not keep the others from expiring.
                _log.error("a grant could not be expired", tenant=tenant, grant=grant_id, exc_info=error)
                is_done = False
            if is_done:
                self._store.drop(tenant, grant_id)
            else:
                self._store.put_expiry(tenant, grant_id, now_ms + RETRY_MS)
