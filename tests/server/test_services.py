# SPDX-License-Identifier: Apache-2.0
"""What all services have in common, and OperationsService, over the public port of the real server."""

import importlib
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from server.api import Api

from harness.server_process import ServerProcess
from taximeter.v1 import (
    operations_service_pb2,
)
from taximeter_server import __version__
from taximeter_server.rpc.metering import FRONT_METHODS


def test_every_method_is_served_by_one_side() -> None:
    """Each method of the API is served behind the front or by it, and none by both or neither."""
    for file, package in (
        ("metering", "metering"),
        ("rate_card", "rate_cards"),
        ("tenant", "tenants"),
        ("plan", "plans"),
        ("access", "access"),
        ("operations", "operations"),
        ("event", "events"),
    ):
        descriptor = importlib.import_module(f"taximeter.v1.{file}_service_pb2").DESCRIPTOR
        ((_, service),) = descriptor.services_by_name.items()
        module = importlib.import_module(f"taximeter_server.rpc.{package}")
        # handlers() touches no dependency, so none is needed.
        kind = getattr(module, service.name)
        here = set(kind.handlers(object.__new__(kind)))

        front = FRONT_METHODS if service.name == "MeteringService" else frozenset()
        assert here & front == set()
        assert here | front == {method.name for method in service.methods}


def test_health_is_open_and_names_every_service(server: ServerProcess) -> None:
    """Anyone may ask whether the server and each of its services serve."""
    with grpc.insecure_channel(server.address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        names = [
            "",
            *(f"taximeter.v1.{name}Service" for name in ("Metering", "RateCard", "Plan", "Tenant", "Access")),
        ]
        found = [stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=5).status for name in names]
        with pytest.raises(grpc.RpcError) as caught:
            stub.Check(health_pb2.HealthCheckRequest(service="nonsense"), timeout=5)

    assert set(found) == {health_pb2.HealthCheckResponse.SERVING}
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


def test_reflection_lists_the_services(api: Api) -> None:
    """Tools without our protos learn the API from the server."""
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(api.channel)
    request = reflection_pb2.ServerReflectionRequest(list_services="*")
    (answer,) = stub.ServerReflectionInfo(iter([request]), metadata=api.metadata, timeout=5)

    names = {service.name for service in answer.list_services_response.service}
    assert {"taximeter.v1.MeteringService", "taximeter.v1.AccessService", "grpc.health.v1.Health"} <= names


def test_server_status_is_shown(api: Api) -> None:
    """An operator sees the store, the journal and the timeline."""
    answer = api.call(api.operations.GetServerStatus, operations_service_pb2.GetServerStatusRequest())

    assert answer.store_available
    assert answer.store_version.startswith("valkey ")
    assert answer.rate_card_version >= 1
    assert answer.server_version == __version__
    assert answer.start_time.seconds > 0


def test_no_conflicts_is_an_empty_list(api: Api) -> None:
    """A server whose store was never away has no conflicts."""
    request = operations_service_pb2.ListRecordConflictsRequest()
    assert not api.call(api.operations.ListRecordConflicts, request).conflicts


def test_malformed_message_is_the_callers_fault(api: Api) -> None:
    """Bytes that are no message are INVALID_ARGUMENT, not INTERNAL."""
    method: grpc.UnaryUnaryMultiCallable[bytes, bytes] = api.channel.unary_unary(
        "/taximeter.v1.TenantService/PutTenant"
    )

    assert api.fail(method, b"\xff\xff\xff") == (grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED_MESSAGE")
