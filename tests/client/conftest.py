# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the client's tests."""

from collections.abc import Iterator

import pytest
from client.failing_server import FailingServer, serving


@pytest.fixture
def failing() -> Iterator[FailingServer]:
    """A server that answers with the statuses that a test plans."""
    with serving() as server:
        yield server
