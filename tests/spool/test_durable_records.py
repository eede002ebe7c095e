# SPDX-License-Identifier: Apache-2.0
"""Durable records through the real server: answered, kept while it is away, and put aside where it refuses them."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from clients.faulty_link import FaultyLink

from harness.server_process import ServerProcess
from taximeter import (
    AsyncMeter,
    ConfigurationError,
    Durability,
    InvalidArgumentError,
    Meter,
    PricingState,
    Recorded,
    SpoolError,
    SpoolSettings,
    Usage,
    new_record_id,
)

USAGE = Usage(visible_output_tokens=9)
FOREVER = 1_000_000_000
LIMIT_S = 60


@pytest.fixture
def link(server: ServerProcess) -> Iterator[FaultyLink]:
    """A way to the server that can be cut."""
    with_server = FaultyLink(server.address)
    yield with_server
    with_server.close()


@pytest.fixture
def open_meter(server: ServerProcess, link: FaultyLink, tmp_path: Path) -> Callable[[], Meter]:
    """Opens clients of one spool behind the link."""
    settings = SpoolSettings(directory=tmp_path / "spool", start_delay_max_s=0)
    return lambda: Meter(f"http://{link.address}", key=server.admin_key, spool=settings)


def wait_until(condition: Callable[[], bool]) -> None:
    """Polls until it holds."""
    deadline_s = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def record(meter: Meter, record_id: str = "", timeout_s: float = 10, **fields: str) -> Recorded:
    """Records durably."""
    given = {"model": "gpt-5"} | fields
    record_id = record_id or new_record_id()
    return meter.record(
        "durable",
        USAGE,
        record_id=record_id,
        durable=True,
        timeout_s=timeout_s,
        **given,  # type: ignore[arg-type]
    )


def test_a_server_that_is_there_answers(open_meter: Callable[[], Meter]) -> None:
    """A durable record has its price like any other, and leaves the spool."""
    with open_meter() as meter:
        answers = [record(meter) for _ in range(3)]
        wait_until(lambda: not meter.spool_status().backlog_bytes)

    assert [(answer.durability, answer.pricing_state) for answer in answers] == [
        (Durability.COMMITTED, PricingState.PRICED)
    ] * 3


def test_what_was_kept_is_sent_by_the_next_process(open_meter: Callable[[], Meter], link: FaultyLink) -> None:
    """While the server is away a record is SPOOLED; whoever opens the spool next sends it under the same id."""
    link.connections_to_refuse = FOREVER
    record_id = new_record_id()
    with open_meter() as meter:
        kept = record(meter, record_id, timeout_s=0.05)
        status = meter.spool_status()
    assert (kept.durability, kept.record_id, kept.cost.picos) == (Durability.SPOOLED, record_id, 0)
    assert status.backlog_bytes > 0

    link.connections_to_refuse = 0
    with open_meter() as meter:
        wait_until(lambda: not meter.spool_status().backlog_bytes)
        (found,) = meter.explain_record(record_id)
    assert (found.tenant, found.model) == ("durable", "gpt-5")


def test_what_the_server_refuses_blocks_nothing(open_meter: Callable[[], Meter], tmp_path: Path) -> None:
    """A record that can never be taken is a dead letter with its reason, raised to who waits; others go on."""
    with open_meter() as meter:
        with pytest.raises(InvalidArgumentError):
            record(meter, model="x" * 129)
        with pytest.raises(InvalidArgumentError):
            record(meter, model="y" * 129)
        assert record(meter).durability is Durability.COMMITTED
        status = meter.spool_status()
        letters = [json.loads(letter) for letter in meter.drain.spool.dead_letters()]

    assert (status.dead_letter_count, status.backlog_bytes) == (2, 0)
    assert [(letter["code"], letter["reason"]) for letter in letters] == [
        ("INVALID_ARGUMENT", "FIELD_INVALID")
    ] * 2
    assert (tmp_path / "spool" / "dead-letters.spool").exists()


def test_closing_does_not_wait_for_the_server(open_meter: Callable[[], Meter], link: FaultyLink) -> None:
    """A client whose server is away closes at once, and what it keeps stays in the spool."""
    link.connections_to_refuse = FOREVER
    meter = open_meter()
    record(meter, timeout_s=0)
    began_s = time.monotonic()
    meter.close()

    assert time.monotonic() - began_s < LIMIT_S / 2
    with pytest.raises(SpoolError, match="closed"):
        record(meter, timeout_s=0)


def test_a_durable_record_needs_a_spool(server: ServerProcess, tmp_path: Path) -> None:
    """Without a spool there is no promise, and a directory that cannot be made is an error at the start."""
    with (
        Meter(f"http://{server.address}", key=server.admin_key) as meter,
        pytest.raises(ConfigurationError, match="needs a spool"),
    ):
        record(meter)
    (tmp_path / "file").touch()
    with pytest.raises(SpoolError, match="cannot be opened"):
        Meter(f"http://{server.address}", key=server.admin_key, spool=tmp_path / "file" / "spool")


@pytest.mark.parametrize("is_away", [False, True])
def test_an_event_loop_shares_the_spool(
    open_meter: Callable[[], Meter], link: FaultyLink, *, is_away: bool
) -> None:
    """The asyncio client keeps its records in the spool of a Meter, without holding up its loop."""
    link.connections_to_refuse = FOREVER if is_away else 0

    async def run(meter: Meter) -> Recorded:
        async with AsyncMeter(connection=meter.connection, drain=meter.drain) as client:
            return await client.record(
                "durable", USAGE, model="gpt-5", durable=True, timeout_s=0.05 if is_away else 10
            )

    with open_meter() as meter:
        answer = asyncio.run(run(meter))
    assert answer.durability is (Durability.SPOOLED if is_away else Durability.COMMITTED)
