# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the server's parts: a real store for each test that asks for one."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from server.api import Api, connect
from server.stopped_clock import StoppedClock

from harness.server_process import ServerProcess
from taximeter_server.data_directory import DataDirectory
from taximeter_server.embedded_store import EmbeddedStore
from taximeter_server.store import DocumentStore


@pytest.fixture
def data_directory(tmp_path: Path) -> Iterator[DataDirectory]:
    """Yield a locked data directory."""
    with DataDirectory(tmp_path / "data", runtime_parent=tmp_path) as directory:
        yield directory


@pytest.fixture
def embedded_store(data_directory: DataDirectory) -> Iterator[EmbeddedStore]:
    """Yield a running embedded store."""
    socket_path = data_directory.socket_path("store.sock")
    store = EmbeddedStore(directory=data_directory.store, socket_path=socket_path)
    store.start()
    try:
        yield store
    finally:
        store.stop()


@pytest.fixture
def documents(embedded_store: EmbeddedStore) -> Iterator[DocumentStore]:
    """Yield the documents of a running, empty store."""
    store = DocumentStore(embedded_store.url)
    try:
        yield store
    finally:
        store.close()


@pytest.fixture
def clock() -> StoppedClock:
    """A clock at 2026-06-03T14:07:09.123Z."""
    return StoppedClock(1_780_495_629_123)


@pytest.fixture
def api(server: ServerProcess) -> Iterator[Api]:
    """The API, called with the admin key."""
    with connect(server.address, server.admin_key) as found:
        yield found
