# SPDX-License-Identifier: Apache-2.0
"""Events that say how far a limit is used, as the scripts append them to one stream per partition."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from taximeter_server import _native
from taximeter_server.errors import InvalidFieldsError, PageTokenError, StoreCorruptError
from taximeter_server.event_store import EventStore, StoredEvent
from taximeter_server.pages import PageTokens, page_size_of
from taximeter_server.tenant_path import is_reached, is_within

LIMITS = {1: "requests_per_minute", 2: "tokens_per_day", 4: "cost_per_day", 8: "credits"}
"""Names of limits by their flags in the scripts."""

_ID_HEX_DIGITS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaEvent:
    """The use of a limit came to a threshold. maximum and used are in the limit's own unit, cost in picos."""

    tenant: str
    limit: str
    threshold_percent: int
    maximum: int
    used: int
    time_ms: int
    window_start_s: int

    @property
    def event_id(self) -> str:
        """What makes the event this one: a store that is given back what it lost tells it again by the same id."""
        parts = (self.tenant, self.limit, self.threshold_percent, self.maximum, self.window_start_s)
        digest = hashlib.sha256("\0".join(str(part) for part in parts).encode()).hexdigest()
        return f"evt_{digest[:_ID_HEX_DIGITS]}"

    @classmethod
    def from_stored(cls, stored: StoredEvent) -> Self:
        """Read an entry of a stream. Raises StoreCorruptError."""
        fields = stored.fields
        try:
            return cls(
                tenant=fields["level"],
                limit=LIMITS[int(fields["limit"])],
                threshold_percent=int(fields["percent"]),
                maximum=int(fields["maximum"]),
                used=int(fields["used"]),
                time_ms=stored.time_ms,
                window_start_s=int(fields["window"]),
            )
        except (KeyError, ValueError) as error:
            raise StoreCorruptError(
                f"event {stored.stream_id} of partition {stored.partition}: {error}"
            ) from error


class QuotaEvents:
    """All events that the streams still hold."""

    def __init__(self, store: EventStore, page_tokens: PageTokens) -> None:
        self._store = store
        self._page_tokens = page_tokens

    def list(
        self, *, tenant: str, bounds: Sequence[str], page_size: int, after_cursor: str
    ) -> tuple[Sequence[QuotaEvent], str]:
        """Return events of tenant, "" for all, that a key with these bounds reaches, and the cursor behind them.

        Raises InvalidFieldsError for a cursor that this query did not make.
        """
        count_max = page_size_of(page_size)
        binding = f"ListQuotaEvents:{tenant}:{','.join(bounds)}"
        positions = dict.fromkeys(self._partitions(tenant, bounds), "0-0")
        positions |= self._open(binding, after_cursor)
        found: list[QuotaEvent] = []
        while len(found) < count_max:
            # In order, because no stream was cut at fewer than are taken of all.
            batch = self._store.read_events(positions, count_max)[:count_max]
            if not batch:
                break
            for stored in batch:
                event = QuotaEvent.from_stored(stored)
                if (not tenant or is_within(event.tenant, tenant)) and is_reached(event.tenant, bounds):
                    found.append(event)
                positions[stored.partition] = stored.stream_id
                if len(found) == count_max:
                    break
        return found, self._page_tokens.seal(binding, _cursor_text(positions))

    @staticmethod
    def _partitions(tenant: str, bounds: Sequence[str]) -> Iterable[int]:
        if tenant:
            return {_native.partition_of(tenant)}
        if bounds:
            return {_native.partition_of(bound) for bound in bounds}
        return range(_native.PARTITION_COUNT)

    def _open(self, binding: str, cursor: str) -> Mapping[int, str]:
        if not cursor:
            return {}
        try:
            text = self._page_tokens.open(binding, cursor)
        except PageTokenError:
            raise InvalidFieldsError.of("after_cursor", "not a cursor of this query") from None
        parts = (part.split(":") for part in text.split(",") if part)
        return {int(partition): stream_id for partition, stream_id in parts}


def _cursor_text(positions: Mapping[int, str]) -> str:
    # Most partitions never had an event.
    return ",".join(
        f"{partition}:{position}" for partition, position in positions.items() if position != "0-0"
    )
