# SPDX-License-Identifier: Apache-2.0
"""Every admin change is in the audit log, whoever wrote the method, and who may not see an event does not."""

import importlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from server.api import ADMIN, DENIED, METER, READ, Api, connect, new_tenant, put_tenant

from harness.server_process import ServerProcess
from taximeter.v1 import access_service_pb2 as pb
from taximeter.v1 import rate_card_service_pb2, tenant_service_pb2
from taximeter_server import _native
from taximeter_server.audit_keeper import INTERVAL_SECONDS
from taximeter_server.rpc.audit import DENIALS_PER_MINUTE_MAX, is_audited, method_name

ROOT = Path(__file__).parents[2]
PROTOS = sorted((ROOT / "proto" / "taximeter" / "v1").glob("*_service.proto"))
NO_SIDE_EFFECTS = 1

METERING = {"Record", "RecordBatch", "CheckQuota", "ExtendHold", "ReleaseHold", "RecordLevel"}
"""Methods that change what is metered and nothing that an admin sets."""
SIGNED = {"ReceivePaymentEvent"}
"""Whoever calls them is known by a signature; what they change is audited as the server's own."""


def declared_methods() -> list[MethodDescriptor]:
    """Return every method of the API."""
    modules = [importlib.import_module(f"taximeter.v1.{path.stem}_pb2") for path in PROTOS]
    services = [service for module in modules for service in module.DESCRIPTOR.services_by_name.values()]
    return [method for service in services for method in service.methods]


def mutating_methods() -> list[MethodDescriptor]:
    """Return the methods that change something, metering aside."""
    return [
        method
        for method in declared_methods()
        if method.GetOptions().idempotency_level != NO_SIDE_EFFECTS and method.name not in METERING | SIGNED
    ]


def events(api: Api, **conditions: Any) -> list[pb.AuditEvent]:
    """Return all events that match, newest first, over small pages."""
    found: list[pb.AuditEvent] = []
    token = ""
    while True:
        request = pb.ListAuditEventsRequest(page_size=50, page_token=token, **conditions)
        page = api.call(api.access.ListAuditEvents, request)
        found += page.events
        token = page.next_page_token
        if not token:
            return found


def test_metering_methods_are_what_gateways_may_call() -> None:
    """No method that only admins may call counts as metering."""
    roles = _native.method_roles()
    metering = [method for method in declared_methods() if method.name in METERING]

    assert {method.name for method in metering} == METERING
    assert [method.name for method in metering if roles[method_name(method)] == ("admin",)] == []


def test_every_method_that_changes_something_is_audited() -> None:
    """A new method is audited unless its proto says that it changes nothing, or it is a gateway's."""
    mutating = {method.name for method in mutating_methods()}

    assert {
        "PutTenant",
        "CreateKey",
        "RotateKey",
        "RevokeKey",
        "PublishRateCard",
        "PostAdjustments",
    } <= mutating
    assert {method.name for method in declared_methods() if is_audited(method)} == mutating


@pytest.mark.parametrize("method", mutating_methods(), ids=lambda method: method.name)
def test_every_call_of_such_a_method_has_an_event(method: MethodDescriptor, api: Api) -> None:
    """A real call through the front leaves an event with caller, method, address and outcome, also when it fails."""
    name = method_name(method)
    before = events(api, method=name)[:1]
    outcome = call_with_nothing(api, method)
    found = events(api, method=method.name)

    newest = before[0].sequence if before else 0
    (event,) = [event for event in found if event.sequence > newest]
    assert (event.method, event.outcome) == (name, outcome)
    assert event.actor in api.metadata[0][1]
    assert event.peer.startswith("127.0.0.1:")
    assert event.count == 1


def call_with_nothing(api: Api, method: MethodDescriptor) -> str:
    """Send an empty message, of which none of these methods makes sense. Returns the status."""
    channel: Any = api.channel
    name, options = method_name(method), {"metadata": api.metadata, "timeout": 10}
    try:
        if method.client_streaming:
            list(channel.stream_stream(name)(iter([b""]), **options))
        elif method.server_streaming:
            list(channel.unary_stream(name)(b"", **options))
        else:
            channel.unary_unary(name)(b"", **options)
    except grpc.RpcError as error:
        return str(error.code().name)
    return "OK"


def test_a_change_is_told_with_its_hashes(api: Api) -> None:
    """An event names what was changed, and the second change begins where the first has ended."""
    name = new_tenant()
    put_tenant(api, name, tokens_per_day=1)
    put_tenant(api, name, tokens_per_day=2)
    second, first = events(api, tenant=name)

    assert (first.target, list(first.tenants), first.outcome) == (f"tenant.name={name}", [name], "OK")
    assert [change.document for change in (*first.changes, *second.changes)] == [f"tenants/{name}"] * 2
    assert first.changes[0].before_sha256 == ""
    assert first.changes[0].after_sha256 == second.changes[0].before_sha256
    assert second.changes[0].after_sha256 not in {"", first.changes[0].after_sha256}


def test_keys_are_named_without_secrets(api: Api) -> None:
    """The event of a made, rotated or revoked key names its id, and nothing in the log authenticates."""
    key = pb.CreateKeyRequest(key=pb.Key(role=READ, tenants=[new_tenant()]))
    made = api.call(api.access.CreateKey, key)
    rotated = api.call(api.access.RotateKey, pb.RotateKeyRequest(key_id=made.key.key_id))
    api.call(api.access.RevokeKey, pb.RevokeKeyRequest(key_id=rotated.key.key_id))
    found = events(api, actor=api.metadata[0][1].split("_")[1])[:3]

    documents = [sorted(change.document for change in event.changes) for event in found]
    old, new = f"keys/{made.key.key_id}", f"keys/{rotated.key.key_id}"
    assert documents == [[new], sorted([old, new]), [old]]
    assert all(made.key.key_id in event.target for event in found[1:])
    assert found[2].tenants == key.key.tenants
    for secret in (made.secret, rotated.secret):
        assert secret.split("_")[2] not in str(found)


def test_conditions_narrow_the_list(api: Api) -> None:
    """Time, actor, method and tenant, with everything below it, select events; a wrong interval is refused."""
    name = new_tenant()
    put_tenant(api, f"{name}/team")
    (event,) = events(api, tenant=name)
    later = pb.ListAuditEventsRequest(start_time=event.time, end_time=event.time)

    assert events(api, tenant=name, actor=event.actor, method="PutTenant") == [event]
    assert events(api, tenant=name, start_time=event.time) == [event]
    assert events(api, tenant=name, end_time=event.time) == []
    assert events(api, tenant=name, method="RevokeKey") == []
    assert events(api, tenant=name, actor="nobody") == []
    assert api.fail(api.access.ListAuditEvents, later)[1] == "RANGE_INVALID"
    forged = pb.ListAuditEventsRequest(page_token="x" * 30)
    assert api.fail(api.access.ListAuditEvents, forged)[1] == "PAGE_TOKEN"


def test_a_bound_admin_sees_its_own_tenants_only(api: Api) -> None:
    """Events of other tenants, of all of them, and the whole log's verification stay out of reach."""
    own, other = new_tenant(), new_tenant()
    bound = api.with_new_key(ADMIN, own)
    put_tenant(api, own)
    put_tenant(api, other)
    put_tenant(bound, f"{own}/below")
    found = events(bound)

    assert {event.method.rpartition("/")[2] for event in found} == {"CreateKey", "PutTenant"}
    assert {tenant for event in found for tenant in event.tenants} == {own, f"{own}/below"}
    assert bound.fail(bound.access.VerifyAuditLog, pb.VerifyAuditLogRequest()) == DENIED
    assert bound.fail(bound.access.ListAuditEvents, pb.ListAuditEventsRequest(tenant=other)) == DENIED


def test_denied_calls_cannot_flood_the_log(api: Api) -> None:
    """A key that is denied again and again is looked at no more within the minute; the rest is counted."""
    bound = api.with_new_key(ADMIN, new_tenant())
    key_id = bound.call(bound.access.WhoAmI, pb.WhoAmIRequest()).key_id
    request = tenant_service_pb2.PutTenantRequest(tenant=tenant_service_pb2.Tenant(name=new_tenant()))
    reasons = [
        bound.fail(bound.tenants.PutTenant, request)[1] for _ in range(2 * DENIALS_PER_MINUTE_MAX + 20)
    ]
    singly = [event for event in events(api, actor=key_id) if event.request_sha256]

    # The minute may turn once in between.
    assert DENIALS_PER_MINUTE_MAX <= reasons.count("TENANT_FORBIDDEN") <= 2 * DENIALS_PER_MINUTE_MAX
    assert set(reasons) == {"TENANT_FORBIDDEN", "TOO_MANY_DENIALS"}
    assert len(singly) == reasons.count("TENANT_FORBIDDEN")
    expected = reasons.count("TOO_MANY_DENIALS")
    assert counted(api, key_id, "PutTenant", expected) == expected


def counted(api: Api, actor: str, method: str, expected: int) -> int:
    """Wait until so many denied calls are counted and return how many are."""
    deadline = time.monotonic() + 6 * INTERVAL_SECONDS
    while True:
        found = sum(
            event.count for event in events(api, actor=actor, method=method) if not event.request_sha256
        )
        if found >= expected or time.monotonic() > deadline:
            return found
        time.sleep(0.5)


def test_keys_of_other_roles_are_counted(api: Api) -> None:
    """Admin methods tried with keys of other roles are denied by the front, and counted in the log."""
    reader = api.with_new_key(READ)
    key_id = reader.call(reader.access.WhoAmI, pb.WhoAmIRequest()).key_id
    publish = rate_card_service_pb2.PublishRateCardRequest(yaml="x")
    for _ in range(7):
        assert reader.fail(reader.rate_cards.PublishRateCard, publish)[1] == "ROLE_MISSING"

    assert counted(api, key_id, "PublishRateCard", 7) == 7


def test_the_running_servers_log_is_whole(api: Api) -> None:
    """After all that the tests have done to the shared server, log, copies and documents agree."""
    found = api.call(api.access.VerifyAuditLog, pb.VerifyAuditLogRequest())

    assert list(found.differences) == []
    assert found.entry_count > 2
    assert len(found.chain_hash) == 64


@pytest.fixture
def killed_in_a_call(fresh_server: Callable[..., ServerProcess]) -> ServerProcess:
    """A server that was killed while an admin's call was in progress, and started again."""
    server = fresh_server()
    with connect(server.address, server.admin_key) as api:
        calls = [
            api.tenants.PutTenant.future(
                tenant_service_pb2.PutTenantRequest(tenant=tenant_service_pb2.Tenant(name=f"t{number}")),
                metadata=api.metadata,
            )
            for number in range(200)
        ]
        calls[0].result(timeout=10)
        server.kill()
    return server.restart()


def test_a_kill_leaves_no_change_without_an_entry(killed_in_a_call: ServerProcess) -> None:
    """Whatever a killed server has changed, the log knows at least that it was about to."""
    with connect(killed_in_a_call.address, killed_in_a_call.admin_key) as api:
        found = api.call(api.access.VerifyAuditLog, pb.VerifyAuditLogRequest())
        listed = api.call(api.tenants.ListTenants, tenant_service_pb2.ListTenantsRequest(page_size=1000))
        known = {tenant for event in events(api) for tenant in event.tenants}
        open_events = [event for event in events(api) if event.outcome == "UNKNOWN"]

    assert list(found.differences) == []
    assert {tenant.name for tenant in listed.tenants} <= known
    assert len(open_events) == found.open_call_count


def test_meter_keys_cannot_read_the_log(api: Api) -> None:
    """Who has changed what is for admins only."""
    for role in (METER, READ):
        caller = api.with_new_key(role)
        found = caller.fail(caller.access.ListAuditEvents, pb.ListAuditEventsRequest())
        assert found == (grpc.StatusCode.PERMISSION_DENIED, "ROLE_MISSING")
