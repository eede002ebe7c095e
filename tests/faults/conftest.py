# SPDX-License-Identifier: Apache-2.0
"""Servers and engines that a test may hurt."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from faults.kill_loop import free_address
from faults.recorder import Recorder
from server.api import Api

from harness.load import open_channel
from harness.server_process import ServerProcess
from harness.store_process import StoreProcess

if TYPE_CHECKING:
    import grpc

ApiOf = Callable[[ServerProcess], Api]


@pytest.fixture
def returning_server(tmp_path: Path) -> Iterator[ServerProcess]:
    """A server that comes back on the same address."""
    with ServerProcess(tmp_path / "data", listen=free_address()) as running:
        yield running


@pytest.fixture
def store(tmp_path: Path) -> Iterator[StoreProcess]:
    """A running store of the test's own, whose file holds at once what it answered: a test can cut where it wants."""
    with StoreProcess(tmp_path / "store", settings={"appendfsync": "always"}) as running:
        yield running


@pytest.fixture
def recorder(tmp_path: Path, store: StoreProcess) -> Iterator[Recorder]:
    """An engine on the test's own store, with a limit set that has reached the disk."""
    made = Recorder(tmp_path, store).open()
    made.limit()
    yield made
    made.close()


@pytest.fixture
def store_server(tmp_path: Path, store: StoreProcess) -> Iterator[ServerProcess]:
    """A server on the test's own store, that comes back on the same address."""
    server = ServerProcess(tmp_path / "data", listen=free_address(), arguments=["--store", store.url])
    with server:
        yield server


@pytest.fixture
def api_of() -> Iterator[ApiOf]:
    """Connects to servers."""
    channels: list[grpc.Channel] = []

    def connect(server: ServerProcess) -> Api:
        channels.append(open_channel(server.address))
        return Api(channels[-1], server.admin_key)

    yield connect
    for channel in channels:
        channel.close()
