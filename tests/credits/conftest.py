# SPDX-License-Identifier: Apache-2.0
"""A client of the shared server, and tenants of which nobody else knows."""

import secrets
from collections.abc import Iterator

import pytest

from harness.server_process import ServerProcess
from taximeter import Meter

RATE = 10_000
"""A credit is a hundredth of a dollar; 20,000 tokens of input of gpt-5 are 10 of them."""


@pytest.fixture
def meter(server: ServerProcess) -> Iterator[Meter]:
    """A client with the admin key."""
    with Meter(f"http://{server.address}", key=server.admin_key) as client:
        yield client


@pytest.fixture
def tenant() -> str:
    """A root tenant without an account."""
    return f"t{secrets.token_hex(6)}"
