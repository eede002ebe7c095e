# SPDX-License-Identifier: Apache-2.0
"""Providers to talk to, and a meter to charge by."""

from collections.abc import Iterator

import pytest
from wrappers.provider_server import ProviderServer

from harness.server_process import ServerProcess
from taximeter import Meter, new_record_id


@pytest.fixture(scope="package")
def provider() -> Iterator[ProviderServer]:
    """A server that speaks the providers' wire formats."""
    running = ProviderServer()
    yield running
    running.close()


@pytest.fixture(scope="package")
def meter(server: ServerProcess) -> Iterator[Meter]:
    """A client with the admin key."""
    with Meter(f"http://{server.address}", key=server.admin_key) as client:
        yield client


@pytest.fixture
def tenant() -> str:
    """A tenant of which nobody else knows."""
    return f"w-{new_record_id()}"
