# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the server's parts: a real store for each test that asks for one."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from taximeter_server.data_directory import DataDirectory
from taximeter_server.embedded_store import EmbeddedStore


@pytest.fixture
def data_directory(tmp_path: Path) -> Iterator[DataDirectory]:
    """Yield a locked data directory."""
    with DataDirectory(tmp_path / "data", runtime_parent=tmp_path) as directory:
        yield directory


@pytest.fixture
def store_url(data_directory: DataDirectory) -> Iterator[str]:
    """Yield the URL of a running embedded store."""
    store = EmbeddedStore(
        directory=data_directory.store, socket_path=data_directory.socket_path("store.sock")
    )
    store.start()
    try:
        yield store.url
    finally:
        store.stop()
