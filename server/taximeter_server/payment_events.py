# SPDX-License-Identifier: Apache-2.0
"""What the payment provider tells by itself. An event is applied once, whatever the provider repeats."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

from taximeter_server.payment_errors import PaymentSignatureError
from taximeter_server.payment_provider import PaymentEvent, PaymentProvider, SignatureError, SubjectKind
from taximeter_server.payment_store import PaymentStore

PAYLOAD_BYTES_MAX = 256 << 10


class PaymentEvents:
    """Takes events."""

    def __init__(
        self,
        store: PaymentStore,
        provider: PaymentProvider,
        appliers: Mapping[SubjectKind, Callable[[PaymentEvent], None]],
        *,
        audited: Callable[[str], AbstractContextManager[None]],
        clock: Callable[[], int],
    ) -> None:
        """appliers: change what an event is about, the same however often. audited: audits what the server changes.

        clock: the store's, in milliseconds.
        """
        self._store = store
        self._provider = provider
        self._appliers = appliers
        self._audited = audited
        self._clock = clock

    def receive(self, payload: bytes, signature: str) -> None:
        """Take one event. What it changed is on disk when this returns. Raises PaymentSignatureError."""
        if len(payload) > PAYLOAD_BYTES_MAX:
            raise PaymentSignatureError
        try:
            event = self._provider.read_event(payload, signature)
        except SignatureError:
            raise PaymentSignatureError from None
        if event is None or self._store.has_event(event.event_id):
            return
        # Only what is signed gets into the audit log.
        apply = self._appliers.get(event.kind)
        if apply is not None:
            with self._audited("payment event"):
                apply(event)
        self._store.note_event(event.event_id, self._clock())
