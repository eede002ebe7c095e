# SPDX-License-Identifier: Apache-2.0
"""Every method has its entry in the front's table, and each role reaches exactly what the table says."""

import importlib
import re
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from server.api import Api
from surface.credentials import Credentials

from harness.grpc_status import refusal_of
from taximeter.v1 import tenant_service_pb2
from taximeter_server import _native

ROOT = Path(__file__).parents[2]
PROTOS = sorted((ROOT / "proto" / "taximeter" / "v1").glob("*_service.proto"))
TABLE = _native.method_roles()
ROLES = ("admin", "meter", "read")
STREAMS = ("/grpc.health.v1.Health/Watch",)
ENVOY = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit"
"""The front's own: no stub of ours has it, and reflection, which Python serves, does not know it."""


def declared_methods() -> set[str]:
    """Return every method of the API's protos and of the standard services."""
    modules = [importlib.import_module(f"taximeter.v1.{path.stem}_pb2") for path in PROTOS]
    services = [
        service
        for module in (*modules, health_pb2, reflection_pb2)
        for service in module.DESCRIPTOR.services_by_name.values()
    ]
    ours = {f"/{service.full_name}/{method.name}" for service in services for method in service.methods}
    return {ENVOY, *ours}


def difference(table: set[str], methods: set[str]) -> list[str]:
    """Return what is in one of both only."""
    return sorted(table ^ methods)


def test_every_method_has_an_entry() -> None:
    """The table names every method of every service and nothing else."""
    assert difference(set(TABLE), declared_methods()) == []


def test_a_missing_or_superfluous_entry_is_found() -> None:
    """The comparison notices a method without an entry and an entry without a method."""
    methods = declared_methods()
    record = "/taximeter.v1.MeteringService/Record"

    assert difference(set(TABLE) - {record}, methods) == [record]
    assert difference(set(TABLE) | {"/x/Y"}, methods) == ["/x/Y"]


def test_every_registered_service_is_in_the_table(admin: Api) -> None:
    """What the running server says that it serves is what the table names."""
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(admin.channel)
    request = reflection_pb2.ServerReflectionRequest(list_services="*")
    (answer,) = stub.ServerReflectionInfo(iter([request]), metadata=admin.metadata, timeout=5)
    registered = {service.name for service in answer.list_services_response.service}

    assert registered == {method.split("/")[1] for method in TABLE if method != ENVOY}


def test_the_table_is_what_the_protos_promise() -> None:
    """The comment of each method names the roles that may call it, and the table grants those and no others."""
    promised = {}
    for path in PROTOS:
        text = path.read_text(encoding="utf-8")
        package_service = re.search(r"^service (\w+) \{", text, re.MULTILINE)
        assert package_service is not None
        for found in re.finditer(r"((?:^  //.*\n)+)  rpc (\w+)\(", text, re.MULTILINE):
            comment = " ".join(line.strip().lstrip("/ ") for line in found[1].splitlines())
            roles = re.search(r"Needs (?:(any valid key|no key)|role ([\w, ]+))", comment)
            if roles is not None:
                named = () if roles[1] else tuple(sorted({"admin", *re.findall(r"meter|read", roles[2])}))
                promised[f"/taximeter.v1.{package_service[1]}/{found[2]}"] = named
    ours = {method: roles for method, roles in TABLE.items() if method.startswith("/taximeter.v1.")}

    assert promised == {method: tuple(sorted(roles or ())) for method, roles in ours.items()}


@pytest.mark.parametrize("method", TABLE)
def test_each_role_gets_what_the_table_says(method: str, channel: Any, credentials: Credentials) -> None:
    """A method refuses keys of other roles, and calls without a key, and nobody else for that."""
    allowed = TABLE[method]
    expected = {role: allowed is None or not allowed or role in allowed for role in ROLES}
    found = {role: outcome(channel, method, credentials, role) != "ROLE_MISSING" for role in ROLES}
    without_key = outcome(channel, method, credentials, "")

    assert found == expected
    assert (without_key != "CREDENTIALS_REQUIRED") == (allowed is None)


def test_only_health_and_what_is_signed_is_open() -> None:
    """Nothing but health, and what carries a signature of its own, is looked at without a key."""
    assert {method for method, roles in TABLE.items() if roles is None} == {
        "/taximeter.v1.BillingService/ReceivePaymentEvent",
        *(f"/grpc.health.v1.Health/{name}" for name in ("Check", "Watch", "List")),
    }


def outcome(channel: Any, method: str, credentials: Credentials, role: str) -> str:
    """Return the reason of the refusal of an empty message; "" when it was served, or refused without a reason."""
    kind = {"admin": "admin", "meter": "role_meter", "read": "role_read", "": "none"}[role]
    metadata = credentials.metadata(kind)
    try:
        if method in STREAMS:
            stream = channel.unary_stream(method)(b"", metadata=metadata, timeout=5)
            next(stream)
            stream.cancel()
        elif method.endswith("ServerReflectionInfo"):
            list(channel.stream_stream(method)(iter([b""]), metadata=metadata, timeout=5))
        elif method.endswith("ExportReport"):
            list(channel.unary_stream(method)(b"", metadata=metadata, timeout=5))
        else:
            channel.unary_unary(method)(b"", metadata=metadata, timeout=5)
    except grpc.RpcError as error:
        return refusal_of(error).reason
    return ""


def test_a_key_that_pretends_to_be_admin_stays_what_it_is(channel: Any, credentials: Credentials) -> None:
    """Metadata of the private side does not lift a read key to an admin's methods."""
    forged = (("x-taximeter-role", "admin"), ("x-taximeter-tenants", ""), ("x-taximeter-key-id", "root"))
    request = tenant_service_pb2.PutTenantRequest(tenant=tenant_service_pb2.Tenant(name="forged"))
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/taximeter.v1.TenantService/PutTenant")(
            request.SerializeToString(),
            metadata=(*forged, *credentials.metadata("role_read"), *forged),
            timeout=5,
        )

    assert refusal_of(caught.value).reason == "ROLE_MISSING"
