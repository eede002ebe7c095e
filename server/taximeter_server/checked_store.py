# SPDX-License-Identifier: Apache-2.0
"""Whether a store may be served on, and what it keeps for all instances."""

from dataclasses import dataclass
from pathlib import Path

import structlog

from taximeter_server.config import Config
from taximeter_server.errors import StartError, StoreRefusedError, StoreUnavailableError
from taximeter_server.store import DocumentStore

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class CheckedStore:
    """A store that may be served on. version: name and version. is_volatile: it may lose what it acknowledged."""

    version: str
    is_volatile: bool
    hold_id_key: bytes


def check_store(documents: DocumentStore, config: Config, ledger: Path) -> CheckedStore:
    """Claim the store for this ledger. ledger: the directory of its files.

    Raises StoreRefusedError for one that may lose what it acknowledged, unless the operator accepts that; StartError
    when it does not answer.
    """
    from taximeter_server._native import PARTITION_COUNT  # noqa: PLC0415 (see serve.py: not before the store runs)
    from taximeter_server.ledger_directory import LedgerDirectory  # noqa: PLC0415

    try:
        probe = documents.probe()
        if probe.volatile and not config.allow_volatile:
            raise StoreRefusedError([*probe.volatile, "--allow-volatile serves on it all the same"])
        documents.prepare(PARTITION_COUNT)
        documents.claim_ledger(LedgerDirectory(ledger).ledger_id())
        hold_id_key = documents.hold_id_key()
    except StoreUnavailableError as error:
        raise StartError(f"the store does not answer: {error.__cause__}") from error
    for problem in probe.volatile:
        _log.warning("the store may lose what was recorded", problem=problem)
    return CheckedStore(f"{probe.name} {probe.version}", bool(probe.volatile), hold_id_key)
