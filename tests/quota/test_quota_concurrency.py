# SPDX-License-Identifier: Apache-2.0
"""Sixty-four callers on one tenant, over the public port: never one admission too many."""

import bisect
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from server.api import Api, connect

from harness.call_storm import headers_block, storm
from harness.server_process import ServerProcess
from harness.stepped_clock import running_clock, with_environment
from taximeter.v1 import metering_service_pb2 as pb
from taximeter.v1 import quota_pb2, tenant_service_pb2
from taximeter_server.embedded_store import find_store_binary

CHECK_QUOTA = "/taximeter.v1.MeteringService/CheckQuota"
CALLERS, CONNECTIONS = 64, 8
ATTEMPTS = 100_000
WINDOW_S = 60
SPEED = 20
"""The store's clock runs so many times faster, so that minutes pass while the calls last."""


@dataclass
class Admissions:
    """When calls were admitted, by the caller's clock: sometime from `sent` to `came`."""

    sent: list[float] = field(default_factory=list)
    came: list[float] = field(default_factory=list)
    denied: int = 0
    undecided: int = 0
    """Calls that failed: they may have consumed a request, and nobody was admitted by them."""

    def note(self, message: bytes | None, sent_s: float, came_s: float) -> None:
        """Note one answer."""
        if message is None:
            self.undecided += 1
        elif pb.CheckQuotaResponse.FromString(message).decision == pb.DECISION_ALLOW:
            self.sent.append(sent_s)
            self.came.append(came_s)
        else:
            self.denied += 1

    def most_within(self, window_s: float) -> int:
        """Return the most admissions that certainly happened within one interval of window_s."""
        # An interval that begins where some call was sent: what was answered by its end, but for what was sent before.
        # No call takes as long as the interval.
        sent, came = sorted(self.sent), sorted(self.came)
        return max(bisect.bisect_right(came, start_s + window_s) - at for at, start_s in enumerate(sent))


def put_limit(api: Api, tenant: str, requests_per_minute: int) -> None:
    """Limit a tenant."""
    settings = tenant_service_pb2.Tenant(
        name=tenant, limits=quota_pb2.Limits(requests_per_minute=requests_per_minute)
    )
    api.call(api.tenants.PutTenant, tenant_service_pb2.PutTenantRequest(tenant=settings))


def used(api: Api, tenant: str) -> int:
    """Return the requests in the window now."""
    request = tenant_service_pb2.GetQuotaStatusRequest(tenant=tenant)
    return int(api.call(api.tenants.GetQuotaStatus, request).limits[0].used)


def run_storm(server: ServerProcess, tenant: str, is_over: Callable[[int], bool]) -> tuple[Admissions, int]:
    """Let all callers ask until it is over; returns the admissions and the number of attempts."""
    admissions = Admissions()
    attempts = storm(
        server.address,
        headers_block(CHECK_QUOTA, server.admin_key),
        pb.CheckQuotaRequest(tenant=tenant).SerializeToString(),
        connections=CONNECTIONS,
        callers=CALLERS,
        is_over=is_over,
        on_answer=admissions.note,
    )
    return admissions, attempts


@pytest.mark.timeout(180)
def test_no_call_too_many_among_100000(server: ServerProcess) -> None:
    """Of 100,000 attempts at once within a minute exactly as many are admitted as the limit says."""
    limit = 40_000
    with connect(server.address, server.admin_key) as api:
        put_limit(api, "storm/one", limit)
        start_s = time.monotonic()
        admissions, attempts = run_storm(server, "storm/one", lambda answered: answered >= ATTEMPTS)
        lasted_s = time.monotonic() - start_s
        counted = used(api, "storm/one")

    assert attempts >= ATTEMPTS
    assert admissions.most_within(WINDOW_S) <= limit
    assert admissions.undecided < ATTEMPTS // 100
    if lasted_s < WINDOW_S:
        assert counted == limit
        assert limit - admissions.undecided <= len(admissions.sent) <= limit


@pytest.mark.timeout(180)
def test_no_window_holds_too_many(fresh_server: Callable[..., ServerProcess], tmp_path: Path) -> None:
    """Over several minutes of the store's clock no 60 s admit more than the limit, and room is used when it frees."""
    limit = 500
    script = with_environment(find_store_binary(), running_clock(speed=SPEED), tmp_path / "store.sh")
    server = fresh_server(arguments=["--store-binary", str(script)])
    with connect(server.address, server.admin_key) as api:
        put_limit(api, "storm/two", limit)
        end_s = time.monotonic() + 12
        admissions, _ = run_storm(server, "storm/two", lambda _: time.monotonic() >= end_s)

    # 12 s are 240 s of the store: the first minute's room and three times that of the 61 s after.
    assert admissions.most_within(WINDOW_S / SPEED) <= limit
    assert limit * 3 <= len(admissions.sent) + admissions.undecided
    assert len(admissions.sent) <= limit * 4
    assert admissions.denied > limit


@pytest.mark.wide
@pytest.mark.timeout(400)
def test_no_window_holds_too_many_by_the_true_clock(server: ServerProcess) -> None:
    """Over three true minutes no 60 s admit more than the limit."""
    limit = 5_000
    with connect(server.address, server.admin_key) as api:
        put_limit(api, "storm/three", limit)
        end_s = time.monotonic() + 190
        admissions, _ = run_storm(server, "storm/three", lambda _: time.monotonic() >= end_s)

    assert admissions.most_within(WINDOW_S) <= limit
    assert limit * 4 - admissions.undecided <= len(admissions.sent) <= limit * 4
