# SPDX-License-Identifier: Apache-2.0
"""What the server does while its store hangs: go on recording, say what it cannot do, and show what went wrong."""

import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from server.api import Api, connect, record_request
from server.waiting import eventually

from harness.server_process import ServerProcess
from taximeter.v1 import metering_service_pb2, operations_service_pb2, tenant_service_pb2

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
NOTICE_SECONDS_MAX = 10


@pytest.fixture
def hanging(fresh_server: Callable[..., ServerProcess]) -> Iterator[tuple[Api, Callable[[], None]]]:
    """Yield a server whose store hangs, after it recorded one token of one call, and what lets the store go on."""
    server = fresh_server()
    store_pid = server.store_pid

    def resume() -> None:
        os.kill(store_pid, signal.SIGCONT)

    with connect(server.address, server.admin_key) as api:
        api.call(api.metering.Record, record_request("acme", "r" * 16, tokens=1))
        os.kill(store_pid, signal.SIGSTOP)
        try:
            yield api, resume
        finally:
            resume()


def test_conflict_found_later_is_shown(hanging: tuple[Api, Callable[[], None]]) -> None:
    """A record accepted into the journal that turns out to reuse an id is listed with what it would have cost."""
    api, resume = hanging
    answer = api.call(api.metering.Record, record_request("acme", "r" * 16, tokens=2_000_000))
    resume()
    request = operations_service_pb2.ListRecordConflictsRequest()

    def names() -> list[str]:
        found = api.call(api.operations.ListRecordConflicts, request)
        return [conflict.record_id for conflict in found.conflicts]

    assert answer.durability == metering_service_pb2.DURABILITY_JOURNALED
    assert eventually(lambda: names() == ["r" * 16], NOTICE_SECONDS_MAX)
    (conflict,) = api.call(api.operations.ListRecordConflicts, request).conflicts
    (line,) = conflict.lines
    assert (conflict.tenant, conflict.model) == ("acme", "gpt-5")
    assert (line.usage_class, line.quantity) == ("input", 2_000_000)
    assert line.cost_picos == answer.lines[0].cost_picos > 0
    assert conflict.find_time.ToMilliseconds() >= conflict.receive_time.ToMilliseconds() > 0


def test_health_says_what_still_works(hanging: tuple[Api, Callable[[], None]]) -> None:
    """Without its store the server goes on metering, and the services that need it say NOT_SERVING until it is back."""
    api, resume = hanging
    stub: Any = health_pb2_grpc.HealthStub(api.channel)

    def health(name: str) -> int:
        return int(stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=5).status)

    api.call(api.metering.Record, record_request("acme", "s" * 16, tokens=1))
    assert eventually(lambda: health("taximeter.v1.TenantService") == NOT_SERVING, NOTICE_SECONDS_MAX)
    assert (health(""), health("taximeter.v1.MeteringService")) == (SERVING, SERVING)
    resume()
    assert eventually(lambda: health("taximeter.v1.TenantService") == SERVING, NOTICE_SECONDS_MAX)


def test_changes_and_reports_are_unavailable(hanging: tuple[Api, Callable[[], None]]) -> None:
    """What cannot be done without the store fails as transient, and the server's state can still be asked for."""
    api, _ = hanging
    tenant = tenant_service_pb2.PutTenantRequest(tenant=tenant_service_pb2.Tenant(name="acme"))
    status = operations_service_pb2.GetServerStatusRequest()

    api.call(api.metering.Record, record_request("acme", "s" * 16, tokens=1))
    assert api.fail(api.tenants.PutTenant, tenant) == (grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE")
    assert not api.call(api.operations.GetServerStatus, status).store_available
