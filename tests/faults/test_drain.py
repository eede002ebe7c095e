# SPDX-License-Identifier: Apache-2.0
"""A stop in order: what is under way is answered, what comes too late is told so, and a restart misses nothing."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from faults.conftest import ApiOf
from faults.kill_loop import wait_until_settled
from grpc_health.v1 import health_pb2, health_pb2_grpc
from server.api import Api

from harness.ledger_oracle import find_ledger_problems, read_ledger
from harness.load import Load
from harness.server_process import ServerProcess

STOP_LIMIT_S = 15
ROUND_COUNT = 3
WIDE_ROUND_COUNT = 20
IN_FLIGHT_S = 0.02
"""A call sent this long before the signal had reached the server."""


class HealthWatch:
    """A stream of the server's health, with the time of each answer."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.statuses: list[int] = []
        stub: Any = health_pb2_grpc.HealthStub(channel)
        self._answers = stub.Watch(health_pb2.HealthCheckRequest())
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            self.statuses.extend(answer.status for answer in self._answers)
        except grpc.RpcError:
            # The server has gone.
            return

    def join(self) -> None:
        """Wait until the server ended the stream."""
        self._thread.join(5)
        assert not self._thread.is_alive()


class Reports:
    """One report after the other, until the server is gone."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self.count = 0
        self.failures: list[tuple[float, grpc.StatusCode]] = []
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        while not self.failures:
            started = time.monotonic()
            try:
                read_ledger(self._api)
                self.count += 1
            except grpc.RpcError as error:
                self.failures.append((started, error.code()))

    def join(self) -> None:
        """Wait for the first failure."""
        self._thread.join(20)
        assert not self._thread.is_alive()


def stop_under_load(server: ServerProcess, api: Api, load: Load) -> Iterator[str]:
    """Stop and start once; yields what was wrong."""
    watch, reports = HealthWatch(api.channel), Reports(api)
    before = load.acknowledged_count
    while load.acknowledged_count < before + 100 or reports.count == 0:
        time.sleep(0.01)
    signalled = time.monotonic()
    status = server.stop()
    took_s = time.monotonic() - signalled
    watch.join()
    reports.join()
    if status != 0 or took_s > STOP_LIMIT_S:
        yield f"ended with {status} after {took_s:.1f} s"
    if watch.statuses != [health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING]:
        yield f"health went through {watch.statuses}"
    server.start()
    failures = [failure for tally in load.tallies for failure in tally.failures] + reports.failures
    for sent_s, code in failures:
        if sent_s < signalled - IN_FLIGHT_S:
            yield f"a call sent {signalled - sent_s:.3f} s before the signal failed with {code}"
        elif code is not grpc.StatusCode.UNAVAILABLE:
            yield f"a call that came too late failed with {code}"


@pytest.mark.parametrize(
    "round_count",
    [ROUND_COUNT, pytest.param(WIDE_ROUND_COUNT, marks=[pytest.mark.wide, pytest.mark.timeout(600)])],
)
def test_stop_under_load_fails_nothing_that_was_under_way(
    returning_server: ServerProcess, api_of: ApiOf, round_count: int
) -> None:
    """SIGTERM ends with 0 within 15 s, answers what was under way, refuses the rest as UNAVAILABLE, loses nothing."""
    api = api_of(returning_server)
    problems: list[str] = []
    for number in range(round_count):
        with Load(
            returning_server.address, returning_server.admin_key, seed=number, name=f"r{number}"
        ) as load:
            problems += stop_under_load(returning_server, api, load)
        wait_until_settled(api)
        # Earlier rounds recorded too: only what this one did can be told apart.
        problems += [text for text in find_ledger_problems(api, load.tally) if "is lost" in text]
        problems += load.tally.problems
    assert not problems, problems[:20]
