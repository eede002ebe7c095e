# SPDX-License-Identifier: Apache-2.0
"""Providers to talk to, and a meter to charge by."""

from collections.abc import Iterator

import pytest
from wrappers.provider_server import ProviderServer


@pytest.fixture(scope="package")
def provider() -> Iterator[ProviderServer]:
    """A server that speaks the providers' wire formats."""
    running = ProviderServer()
    yield running
    running.close()
