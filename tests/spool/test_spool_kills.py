# SPDX-License-Identifier: Apache-2.0
"""A client is killed again and again while the server is away half of the time: nothing is lost or counted twice."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from clients.faulty_link import FaultyLink

from harness.server_process import ServerProcess, clean_environment
from taximeter import Meter
from taximeter.clock import system_clock_ms

KILLED_AFTER_S = (0.0, 0.25)
PROMISE_LIMIT_S = 60
CLIENT = Path(__file__).with_name("recording_client.py")
FOREVER = 1_000_000_000


class Clients:
    """Starts and kills clients of one spool."""

    def __init__(self, process: subprocess.Popen[str], key: str, directory: Path) -> None:
        """Takes the process that forks them. What they record is below `tenant`."""
        self.tenant = f"spooled-{process.pid}"
        self._process = process
        self._key = key
        self._spool = directory / "spool"
        self.promises = directory / "promises"
        self.promises.touch()

    def start(self, address: str, count: int) -> int:
        """Starts a client behind an address and returns its process id."""
        given = [f"http://{address}", self._key, str(self._spool), str(self.promises), self.tenant, count]
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(given) + "\n")
        self._process.stdin.flush()
        return self.read()

    def read(self) -> int:
        """Returns the next number that the process writes: a process id, or the status of a client that ended."""
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())

    def wait_for_promises(self) -> None:
        """Returns once there are more promises than there were."""
        before, deadline_s = self.promises.stat().st_size, time.monotonic() + PROMISE_LIMIT_S
        while self.promises.stat().st_size == before:
            assert time.monotonic() < deadline_s
            time.sleep(0.002)


@pytest.fixture
def clients(server: ServerProcess, tmp_path: Path) -> Iterator[Clients]:
    """Clients of one spool."""
    environment = clean_environment({"GRPC_ENABLE_FORK_SUPPORT": "false"})
    with subprocess.Popen(
        [sys.executable, str(CLIENT)],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield Clients(process, server.admin_key, tmp_path)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("kill_count", "seed"),
    [(16, 0), *(pytest.param(100, piece, marks=pytest.mark.wide) for piece in range(1, 11))],
)
def test_no_kill_of_the_client_loses_or_doubles_a_record(
    server: ServerProcess, clients: Clients, kill_count: int, seed: int
) -> None:
    """What record(durable=True) returned for is in the ledger, once, wherever SIGKILL struck: a thousand, if wide."""
    draw = random.Random(seed)
    with contextlib.closing(FaultyLink(server.address)) as link:
        for number in range(kill_count):
            # Away from the start for every other client, and cut off in the middle for some of the others.
            link.connections_to_refuse = FOREVER if number % 2 else 0
            process_id = clients.start(link.address, FOREVER)
            clients.wait_for_promises()
            time.sleep(draw.uniform(*KILLED_AFTER_S))
            if not number % 4:
                link.connections_to_refuse = FOREVER
                link.cut()
                time.sleep(draw.uniform(*KILLED_AFTER_S))
            os.kill(process_id, signal.SIGKILL)
            assert clients.read() == signal.SIGKILL
    clients.start(server.address, 0)
    assert clients.read() == 0

    counted = _calls_by_id(server, clients.tenant)
    promised = set(clients.promises.read_text().split())
    assert promised - counted.keys() == set()
    assert set(counted.values()) == {1}
    # What was on its way when a client was killed may count, too.
    assert len(counted) - len(promised) <= kill_count


def _calls_by_id(server: ServerProcess, tenant: str) -> dict[str, int]:
    now = datetime.fromtimestamp(system_clock_ms() // 1_000, UTC)
    day = timedelta(days=1)
    with Meter(f"http://{server.address}", key=server.admin_key) as meter:
        report = meter.report(now - day, now + day, tenant=tenant, group_by=["tenant"])
    return {str(row.group["tenant"]).partition("/")[2]: row.measures.calls for row in report.rows}
