# SPDX-License-Identifier: Apache-2.0
"""Finalises invoices by itself when their grace is over, and grants what subscriptions include.

Any number of servers may do so on one store: of those that finalise the same draft one wins, and a kill leaves it a
draft or a document, nothing between. So nothing here has to be remembered.
"""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager

import structlog

from taximeter_server.errors import RequestError
from taximeter_server.invoices import Invoices
from taximeter_server.store_billing import BillingStore
from taximeter_server.subscription import Subscription
from taximeter_server.subscription_credits import SubscriptionCredits

INTERVAL_SECONDS = 5

_Seen = tuple[str, int]
"""A subscription's document, and how far it is invoiced."""

_log = structlog.get_logger(__name__)


class BillingKeeper:
    """Looks for drafts that are due."""

    def __init__(
        self,
        store: BillingStore,
        invoices: Invoices,
        included: SubscriptionCredits,
        *,
        audited: Callable[[str], AbstractContextManager[None]],
        clock: Callable[[], int],
        interval_seconds: int = INTERVAL_SECONDS,
    ) -> None:
        """audited: audits what the server changes by itself, by the name of the change."""
        self._store = store
        self._invoices = invoices
        self._included = included
        self._audited = audited
        self._clock = clock
        self._interval_seconds = interval_seconds
        # Until when there is nothing to do for a tenant, as long as its subscription and invoices stay as they are.
        self._waits: dict[str, tuple[_Seen, int]] = {}

    def run(self, stop: threading.Event) -> None:
        """Finalise what is due until stop is set."""
        while not stop.is_set():
            try:
                self.keep(stop.is_set)
            except RequestError as error:
                _log.warning("billing goes on later", problem=error.reason)
            except Exception as error:  # noqa: BLE001 (the thread goes on, whatever one invoice is like)
                _log.error("billing failed and will be tried again", exc_info=error)
            stop.wait(self._interval_seconds)

    def keep(self, is_stopped: Callable[[], bool] = lambda: False) -> int:
        """Grant what is included, and finalise every draft that is due, in order. Returns how many."""
        now_ms, invoiced_until_ms = self._clock(), self._store.invoiced_until_ms()
        count = 0
        for tenant, document in sorted(self._store.subscriptions().items()):
            seen = (document, invoiced_until_ms.get(tenant, -1))
            known, until_ms = self._waits.get(tenant, (None, 0))
            if known == seen and until_ms > now_ms:
                continue
            subscription = Subscription.from_json(document)
            if self._included.is_due(subscription, now_ms):
                with self._audited("grant included credits"):
                    self._included.keep(subscription, now_ms)
            while not is_stopped():
                invoice_id, due_ms = self._invoices.next_due(tenant)
                if due_ms > now_ms:
                    self._waits[tenant] = (seen, min(due_ms, self._included.next_ms(subscription, now_ms)))
                    break
                with self._audited("finalize invoice"):
                    self._invoices.finalize(invoice_id)
                count += 1
        return count
