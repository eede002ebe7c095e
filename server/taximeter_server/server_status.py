# SPDX-License-Identifier: Apache-2.0
"""The state of one instance, taken when an operator asks."""

from dataclasses import dataclass

from taximeter_server import _native


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerStatus:
    """What GetServerStatus shows. start_time_ms is milliseconds since 1970 UTC."""

    store_available: bool
    store_version: str
    journal_pending_records: int
    journal_bytes: int
    unarchived_entries: int
    rate_card_version: int
    start_time_ms: int


def take_status(
    engine: _native.Engine, *, store_version: str, rate_card_version: int, start_time_ms: int
) -> ServerStatus:
    """Take the state now. The store being away is part of it, not an error. store_version: as of the start."""
    status = engine.status()
    try:
        unarchived_entries = engine.ledger_length()
        store_available = bool(status["store_available"])
    except _native.StoreUnavailableError:
        unarchived_entries, store_available = 0, False
    return ServerStatus(
        store_available=store_available,
        store_version=str(status["store_version"] or store_version),
        journal_pending_records=int(str(status["journal_pending_records"])),
        journal_bytes=int(str(status["journal_bytes"])),
        unarchived_entries=unarchived_entries,
        rate_card_version=rate_card_version,
        start_time_ms=start_time_ms,
    )
