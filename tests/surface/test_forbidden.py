# SPDX-License-Identifier: Apache-2.0
"""What is forbidden looks the same to everybody: one text, whether what was asked for exists or not."""

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from click.testing import CliRunner
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message_factory import GetMessageClass
from server.api import ADMIN, METER, READ, Api, new_tenant, put_tenant

from harness.grpc_status import Refusal, refusal_of
from harness.server_process import ServerProcess
from taximeter.cli.main import cli
from taximeter_server import _native

ROOT = Path(__file__).parents[2]
PROTOS = sorted((ROOT / "proto" / "taximeter" / "v1").glob("*_service.proto"))
TABLE = _native.method_roles()
ROLES = {"admin": ADMIN, "meter": METER, "read": READ}

ADMIN_COMMANDS = (
    ("tenant", "put", "acme", "--tokens-per-day", "1"),
    ("tenant", "put", "no-such-tenant", "--tokens-per-day", "1"),
    ("tenant", "remove", "acme"),
    ("plan", "put", "basic", "--tokens-per-day", "1"),
    ("plan", "remove", "no-such-plan"),
    ("webhook", "put", "https://example.com/hook"),
    ("webhook", "list"),
    ("webhook", "rotate-secret", "nosuchhook00"),
    ("webhook", "remove", "nosuchhook00"),
    ("webhook", "deliveries", "nosuchhook00"),
    ("record", "void", "no-such-record-00", "--tenant", "acme", "--reason", "x"),
    ("key", "create", "--role", "admin"),
    ("key", "list"),
    ("key", "rotate", "nosuchkey000"),
    ("key", "revoke", "nosuchkey000"),
    ("audit", "list"),
    ("audit", "verify"),
    ("rate-card", "publish", "-"),
    ("rate-card", "validate", "-"),
    ("rate-card", "withdraw", "1"),
    ("rate-card", "tenant-prices", "put", "acme", "--markup", "1"),
    ("rate-card", "tenant-prices", "remove", "acme"),
    ("server", "status"),
    ("server", "conflicts"),
)
OTHERS_COMMANDS = {
    "meter": (
        ("billing", "summary"),
        ("billing", "report", "acme"),
        ("plan", "list"),
        ("quota", "events"),
        ("rate-card", "list"),
        ("rate-card", "verify"),
        ("rate-card", "explain", "no-such-record-00"),
        ("tenant", "list"),
    ),
    "read": (("record", "level", "acme", "disk", "1"),),
}
"""By the role of a key: commands of keys that are neither its nor only an admin's."""


@pytest.mark.parametrize("role", ["meter", "read"])
def test_commands_are_forbidden_to_keys_of_other_roles(role: str, server: ServerProcess, admin: Api) -> None:
    """A command answers a key whose role does not reach it with the object that scripts know, and exit code 1."""
    key = admin.with_new_key(ROLES[role]).metadata[0][1].removeprefix("Bearer ")
    environment = {"TAXIMETER_URL": f"http://{server.address}", "TAXIMETER_KEY": key}
    runner = CliRunner(env=environment)
    commands = (*ADMIN_COMMANDS, *OTHERS_COMMANDS[role])
    done = {command: runner.invoke(cli, command, input="billing: {}\n") for command in commands}

    answers = {command: (result.stdout, result.exit_code, result.stderr) for command, result in done.items()}
    assert answers == dict.fromkeys(
        commands,
        (
            '{"errorMessage": "forbidden"}\n',
            1,
            "Error: ROLE_MISSING: the key's role does not reach this method\n",
        ),
    )


def tenant_methods() -> Iterator[tuple[MethodDescriptor, str]]:
    """Yield every method whose request names a tenant, with a role that may call it."""
    for path in PROTOS:
        module = importlib.import_module(f"taximeter.v1.{path.stem}_pb2")
        for service in module.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                roles = TABLE[f"/{service.full_name}/{method.name}"]
                if roles and list(tenant_paths(method.input_type)):
                    yield method, roles[0]


def tenant_paths(message_type: Any, depth: int = 3) -> Iterator[list[FieldDescriptor]]:
    """Yield the paths of fields that hold a tenant's name."""
    for field in message_type.fields:
        is_name = field.name == "name" and message_type.name == "Tenant"
        if is_name or (field.name == "tenant" and field.message_type is None):
            yield [field]
        elif depth and field.message_type is not None and not field.message_type.GetOptions().map_entry:
            yield from ([field, *path] for path in tenant_paths(field.message_type, depth - 1))


def request_about(method: MethodDescriptor, tenant: str) -> bytes:
    """Return a request with nothing but a tenant in every place for one."""
    request: Any = GetMessageClass(method.input_type)()
    for path in tenant_paths(method.input_type):
        at: Any = request
        for field in path[:-1]:
            at = getattr(at, field.name)
            at = at.add() if field.is_repeated else at
        setattr(at, path[-1].name, tenant)
    content: bytes = request.SerializeToString()
    return content


def refusal(api: Api, method: MethodDescriptor, request: bytes) -> Refusal:
    """Call what must fail and return how."""
    kind = api.channel.unary_stream if method.server_streaming else api.channel.unary_unary
    call: Any = kind(f"/{method.containing_service.full_name}/{method.name}")
    with pytest.raises(grpc.RpcError) as caught:
        list(call(request, metadata=api.metadata, timeout=10))
    return refusal_of(caught.value)


def test_a_forbidden_tenant_looks_the_same_whether_it_exists(admin: Api) -> None:
    """No method tells a bound key by anything in its answer whether a tenant of somebody else exists."""
    existing, unknown = new_tenant(), new_tenant()
    put_tenant(admin, existing, tokens_per_day=1)
    found = {}
    for method, role in tenant_methods():
        if method.name == "RecordBatch" or method.client_streaming:
            # Answers OK, with a status for each item.
            continue
        # A key of its own for each: one that is denied often is looked at no more.
        bound = admin.with_new_key(ROLES[role], new_tenant())
        answers = [refusal(bound, method, request_about(method, name)) for name in (existing, unknown)]
        assert answers[0] == answers[1], method.name
        found[method.name] = answers[0].reason

    assert {"Record", "CheckQuota", "GetTenant", "PutTenant", "GetQuotaStatus"} <= set(found)
    told = {name: reason for name, reason in found.items() if reason != "TENANT_FORBIDDEN"}
    # What is wrong with the rest of an empty request may come first; it says nothing about the tenant.
    assert set(told.values()) <= {"FIELD_REQUIRED", "FIELD_INVALID"}
    assert {"Record", "CheckQuota", "GetTenant", "PutTenant", "GetQuotaStatus"}.isdisjoint(told)


def test_a_forbidden_record_of_a_batch_looks_the_same(admin: Api) -> None:
    """Within a batch, too, a tenant of somebody else looks the same whether it exists."""
    existing, unknown = new_tenant(), new_tenant()
    put_tenant(admin, existing, tokens_per_day=1)
    bound = admin.with_new_key(METER, new_tenant())
    method = next(method for method, _ in tenant_methods() if method.name == "RecordBatch")
    requests = [
        GetMessageClass(method.input_type).FromString(request_about(method, name))
        for name in (existing, unknown)
    ]
    first, second = (bound.call(bound.metering.RecordBatch, request) for request in requests)

    assert first == second
    assert first.results[0].error.message == "not allowed for this tenant"
