# SPDX-License-Identifier: Apache-2.0
"""Callers of the real server, and what it has stored."""

import base64
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from server.api import Api, connect
from surface.credentials import Credentials

from harness.server_process import ServerProcess
from taximeter.v1 import metering_service_pb2 as pb
from taximeter.v1 import quota_pb2, tenant_service_pb2

LIMITS = quota_pb2.Limits(
    requests_per_minute=1_000_000_000, tokens_per_day=10**15, cost_per_day_picos=2**63 - 1
)


DAY_AT = 20
"""Last byte of the day within the id of a hold."""
REQUESTS = quota_pb2.LIMIT_KIND_REQUESTS_PER_MINUTE


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server of these tests' own: they look at everything that is stored."""
    with ServerProcess(tmp_path_factory.mktemp("surface") / "data") as running:
        yield running


@pytest.fixture(scope="module")
def admin(server: ServerProcess) -> Iterator[Api]:
    """The API, called with the admin key."""
    with connect(server.address, server.admin_key) as found:
        yield found


@pytest.fixture(scope="module")
def credentials(server: ServerProcess, admin: Api) -> Credentials:
    """Credentials of all kinds."""
    return Credentials(admin, server.admin_key)


@pytest.fixture(scope="module")
def holds(admin: Api) -> Mapping[str, str]:
    """Ids of holds as the cases name them; the real ones are released."""

    def place(tenant: str) -> str:
        request = pb.CheckQuotaRequest(tenant=tenant, model="gpt-5")
        request.estimate.uncached_input_tokens = 1
        request.hold_ttl.FromSeconds(60)
        hold_id: str = admin.call(admin.metering.CheckQuota, request).hold_id
        admin.call(admin.metering.ReleaseHold, pb.ReleaseHoldRequest(tenant=tenant, hold_id=hold_id))
        return hold_id

    hold = place("bad-input")
    return {"hold": hold, "forged_hold": with_day_before(hold), "foreign_hold": place("other-input")}


def with_day_before(hold_id: str) -> str:
    """Return an id with another day in it and its seal as it was."""
    content = bytearray(base64.urlsafe_b64decode(hold_id.removeprefix("hold_")))
    content[DAY_AT] ^= 1
    return f"hold_{base64.urlsafe_b64encode(content).decode()}"


@dataclass
class Totals:
    """All that refused input could have changed: the report over everything, and the tenant's counters."""

    admin: Api
    _last: tuple[Any, Any] | None = None

    def assert_unchanged(self) -> None:
        """Fail when something has been stored since the last look."""
        now = self.take()
        assert self._last in (None, now)
        self._last = now

    def forget(self) -> None:
        """Something has been stored, rightly."""
        self._last = None

    def take(self) -> tuple[Any, Any]:
        """Return what is stored now."""
        query = pb.ReportQuery(group_by=["root_tenant"])
        now_s = int(time.time())  # noqa: TID251 (the server's clock is the machine's)
        query.start_time.FromSeconds(now_s - 40 * 86_400)
        query.end_time.FromSeconds(now_s + 2 * 86_400)
        report = self.admin.call(self.admin.metering.Report, pb.ReportRequest(query=query, page_size=10_000))
        status = self.admin.call(
            self.admin.tenants.GetQuotaStatus, tenant_service_pb2.GetQuotaStatusRequest(tenant="bad-input")
        )
        # Placing the hold that the cases name has counted a request, which is in the window for a minute.
        counters = [
            (limit.tenant, limit.kind, max(limit.used, limit.kind == REQUESTS), limit.held)
            for limit in status.limits
        ]
        return [str(row) for row in report.rows], counters


@pytest.fixture(scope="module")
def totals(admin: Api) -> Totals:
    """What is stored. The tenant of the bad input has limits of every kind, so its counters show."""
    tenant = tenant_service_pb2.Tenant(name="bad-input", limits=LIMITS)
    admin.call(admin.tenants.PutTenant, tenant_service_pb2.PutTenantRequest(tenant=tenant))
    found = Totals(admin)
    found.assert_unchanged()
    return found


@pytest.fixture
def channel(server: ServerProcess) -> Iterator[Any]:
    """A connection without limits of its own on what it sends."""
    options = [("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(server.address, options) as found:
        yield found
