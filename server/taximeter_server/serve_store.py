# SPDX-License-Identifier: Apache-2.0
"""Starting the store and the engine on it: the first that the composition root does.

The embedded store is started before the native runtime exists: a process that is about to fork has none. Hence the
imports within functions.
"""

import asyncio
import contextlib
from typing import TYPE_CHECKING

from taximeter_server.checked_store import CheckedStore
from taximeter_server.config import Config
from taximeter_server.data_directory import DataDirectory
from taximeter_server.embedded_store import EmbeddedStore
from taximeter_server.errors import StartError
from taximeter_server.store_users import engine_url

if TYPE_CHECKING:
    from taximeter_server import _native

STORE_STOP_TIMEOUT_MS = 2_500
OPEN_TIMEOUT_MS = 30_000


async def start_store(
    config: Config, directory: DataDirectory, stack: contextlib.AsyncExitStack, stop: asyncio.Event
) -> tuple[str, str]:
    """Start the embedded store unless another is named. Returns its URLs: for all, and for having it fsync."""
    if config.store is not None:
        return config.store, config.store
    store = EmbeddedStore(
        directory=directory.store,
        socket_path=directory.socket_path("store.sock"),
        binary=config.store_binary,
    )
    stack.push_async_callback(asyncio.to_thread, store.stop, timeout_ms=STORE_STOP_TIMEOUT_MS)
    await asyncio.to_thread(store.start, is_cancelled=stop.is_set)
    return store.server_url, store.fsync_url


async def open_engine(
    config: Config,
    directory: DataDirectory,
    store_url: str,
    stack: contextlib.AsyncExitStack,
    checked: CheckedStore,
) -> "_native.Engine":
    """Open the engine, which gives back what the store has lost. Raises StartError."""
    from taximeter_server import _native  # noqa: PLC0415 (see the head of the file)
    from taximeter_server.ledger_directory import LedgerDirectory  # noqa: PLC0415

    def opened() -> _native.Engine:
        watermarks = LedgerDirectory(directory.ledger).read_manifest().watermarks
        engine = _native.Engine(
            store_url=engine_url(store_url),
            journal_dir=str(directory.journal),
            exclusive_store=config.store is None,
            volatile_store=checked.is_volatile,
            attribute_sets_max=config.attribute_sets,
            hold_id_key=checked.hold_id_key,
        )
        stack.push_async_callback(asyncio.to_thread, engine.close)
        engine.open(archived_ids=[str(watermark) for watermark in watermarks], timeout_ms=OPEN_TIMEOUT_MS)
        return engine

    try:
        return await asyncio.to_thread(opened)
    except _native.JournalError as error:
        raise StartError(f"journal in {directory.journal}: {error}") from error
    except _native.StoreUnavailableError as error:
        raise StartError(f"the store does not answer: {error}") from error
    except _native.StoreCorruptError as error:
        raise StartError(f"a key in the store is not what it must be: {error}") from error
