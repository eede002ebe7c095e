# SPDX-License-Identifier: Apache-2.0
"""The state of one instance, taken when an operator asks."""

from dataclasses import dataclass


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
