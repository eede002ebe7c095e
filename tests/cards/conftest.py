# SPDX-License-Identifier: Apache-2.0
"""A running server of these tests' own, because they publish cards, and a client and a command line for it."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from harness.command_line import CommandLine
from harness.server_process import ServerProcess, clean_environment
from taximeter import CardReference, Meter

NEW_PRICES = """
billing:
  rate_card:
    "claude-opus-4-7": {input: 5, output: 25, cache_read: 0.50, when: [{tier: batch, multiply: 0.5}]}
    "gpt-5": {input: 1.25, output: 10}
    "mystery*": {aliases: ["riddle"], input: 0.111, output: 0.7}
    "whisper": {audio_ms: {price: 0.111, per: 3600000, min: 10000}}
"""
"""The card that replaces the first one, which has no row for mystery and whisper."""
COMMAND_TIMEOUT_S = 50


@pytest.fixture(scope="module")
def card_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One running server for the tests of a file; version 2 of its timeline is NEW_PRICES."""
    running = ServerProcess(tmp_path_factory.mktemp("cards") / "data").start()
    with meter_of(running) as meter:
        meter.publish_rate_card(
            NEW_PRICES, effective_time=datetime(2030, 1, 1, tzinfo=UTC), note="new prices"
        )
    yield running
    assert running.is_running, running.log
    assert running.stop() == 0, running.log


def meter_of(server: ServerProcess) -> Meter:
    """Return a client with the server's admin key."""
    return Meter(f"http://{server.address}", key=server.admin_key)


@pytest.fixture
def meter(card_server: ServerProcess) -> Iterator[Meter]:
    """A client with the admin key."""
    with meter_of(card_server) as client:
        yield client


@pytest.fixture
def taximeter(card_server: ServerProcess) -> CommandLine:
    """The command line with the admin key."""
    return CommandLine(clean_environment(card_server.client_environment), timeout_s=COMMAND_TIMEOUT_S)


@pytest.fixture
def noon() -> datetime:
    """Noon of yesterday, when the usage of these tests happens."""
    return datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=1)  # noqa: TID251


@pytest.fixture
def days(noon: datetime) -> tuple[datetime, datetime]:
    """The interval of that day."""
    start = noon.replace(hour=0)
    return start, start + timedelta(days=1)


@pytest.fixture
def card_file(tmp_path: Path) -> Path:
    """NEW_PRICES as a file."""
    path = tmp_path / "new.yaml"
    path.write_text(NEW_PRICES)
    return path


SECOND = CardReference(version=2)
"""NEW_PRICES, as published."""
