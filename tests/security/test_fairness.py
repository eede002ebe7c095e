# SPDX-License-Identifier: Apache-2.0
"""One caller's flood stands in its own way: what others wait for their answers stays within bounds."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from server.api import METER, connect

from harness.call_storm import headers_block, storm
from harness.server_process import ServerProcess
from taximeter.v1 import metering_service_pb2

FLOOD = Path(__file__).with_name("flood.py")
CHECK_QUOTA = "/taximeter.v1.MeteringService/CheckQuota"
MEASURE_S = 5
P99_FLOOR_S = 0.002
"""What the machine itself makes of a call now and then; a p99 below says nothing."""
FACTOR_MAX = 5
KEY_COUNT = 2


def p99_of_checks(address: str, key: str) -> float:
    """Return the 99th percentile of the seconds that a check takes, of callers with one call at a time."""
    message = metering_service_pb2.CheckQuotaRequest(tenant="good").SerializeToString()
    deadline = time.monotonic() + MEASURE_S
    took: list[float] = []

    def note(answer: bytes | None, sent: float, came: float) -> None:
        assert answer is not None, "a good caller was refused"
        took.append(came - sent)

    storm(
        address,
        headers_block(CHECK_QUOTA, key),
        message,
        # One on each of the server's workers, at least.
        connections=4,
        callers=4,
        is_over=lambda _: time.monotonic() > deadline,
        on_answer=note,
    )
    return sorted(took)[len(took) * 99 // 100]


@contextlib.contextmanager
def flood(server: ServerProcess, key: str, connections: int, callers: int) -> Iterator[None]:
    """Flood the server for the time of the block."""
    # Everything below tests/ is imported by its path from there.
    environment = server.client_environment | {"PYTHONPATH": str(FLOOD.parents[1])}
    arguments = [server.address, key, "flood", str(connections), str(callers)]
    with subprocess.Popen(
        [sys.executable, str(FLOOD), *arguments],
        stdout=subprocess.PIPE,
        env=environment,
        # The flood's own machine is not ours: what it costs to send must not be what is measured.
        preexec_fn=lambda: os.nice(10),  # noqa: PLW1509 (no threads of ours hold locks here)
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"flooding\n"
        try:
            yield
        finally:
            process.kill()


@pytest.mark.wide
@pytest.mark.timeout(120)
@pytest.mark.parametrize(("connections", "callers"), [(1, 128), (4, 512), (16, 2048)])
def test_a_flood_costs_others_at_most_five_times_their_p99(
    connections: int, callers: int, tmp_path: Path
) -> None:
    """Another caller's p99 during a flood is at most five times what it is alone."""
    with ServerProcess(tmp_path / "data") as server, connect(server.address, server.admin_key) as admin:
        good, other = (
            admin.with_new_key(METER).metadata[0][1].removeprefix("Bearer ") for _ in range(KEY_COUNT)
        )
        alone = p99_of_checks(server.address, good)
        with flood(server, other, connections, callers):
            beside = p99_of_checks(server.address, good)

    factor = beside / max(alone, P99_FLOOR_S)
    assert factor <= FACTOR_MAX, f"p99 alone {alone * 1e3:.2f} ms, beside a flood {beside * 1e3:.2f} ms"
