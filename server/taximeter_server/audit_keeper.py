# SPDX-License-Identifier: Apache-2.0
"""What is kept now and then: copies that a kill left out, old entries, counts of denied calls, last uses of keys."""

import threading
from collections.abc import Callable, Iterable
from typing import TypeAlias

import structlog

from taximeter_server.audit_log import AuditLog
from taximeter_server.errors import RequestError
from taximeter_server.key_uses import KeyUses

INTERVAL_SECONDS = 2

Denial: TypeAlias = tuple[str, str, int, str]
"""(key id, full name of the method, calls, "HOST:PORT" of the last)."""

_log = structlog.get_logger(__name__)


class AuditKeeper:
    """Runs beside the calls."""

    def __init__(self, log: AuditLog, uses: KeyUses, take_denials: Callable[[], Iterable[Denial]]) -> None:
        """take_denials: takes the calls that were denied unseen since the last time."""
        self._log = log
        self._uses = uses
        self._take_denials = take_denials
        self._untold: list[Denial] = []

    def run(self, stop: threading.Event) -> None:
        """Keep until stop is set, and once more; meant for a thread of its own."""
        self._try(self._log.keep_copies)
        while not stop.wait(INTERVAL_SECONDS):
            self.keep()
        self.keep()

    def keep(self) -> None:
        """Keep what there is. What cannot be kept is tried again the next time."""
        self._untold += self._take_denials()
        self._try(self._tell)
        self._try(self._log.archive)
        self._try(self._uses.keep)

    def _tell(self) -> None:
        while self._untold:
            key_id, method, count, peer = self._untold[0]
            self._log.note_denials(actor=key_id, method=method, peer=peer, count=count)
            del self._untold[0]

    def _try(self, action: Callable[[], None]) -> None:
        try:
            action()
        except RequestError as error:
            _log.warning("the audit log cannot be kept now", problem=error.reason)
        except Exception:  # noqa: BLE001 (what is kept later must go on, whatever one answer looks like)
            _log.exception("the audit log cannot be kept")
