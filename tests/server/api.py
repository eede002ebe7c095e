# SPDX-License-Identifier: Apache-2.0
"""The API as a test calls it: raw stubs, so that statuses and details can be looked at."""

import contextlib
import secrets
from collections.abc import Iterator
from typing import Any, cast

import grpc
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from harness.secret_scan import SESSION
from taximeter.v1 import (
    access_service_pb2,
    access_service_pb2_grpc,
    billing_service_pb2_grpc,
    event_service_pb2_grpc,
    metering_service_pb2,
    metering_service_pb2_grpc,
    operations_service_pb2_grpc,
    plan_service_pb2_grpc,
    quota_pb2,
    rate_card_service_pb2_grpc,
    tenant_service_pb2,
    tenant_service_pb2_grpc,
)

CALL_TIMEOUT_SECONDS = 10

ADMIN, METER, READ = (
    access_service_pb2.ROLE_ADMIN,
    access_service_pb2.ROLE_METER,
    access_service_pb2.ROLE_READ,
)
DENIED = (grpc.StatusCode.PERMISSION_DENIED, "TENANT_FORBIDDEN")


class Api:
    """Stubs of all services, called with one key."""

    def __init__(self, channel: grpc.Channel, key: str) -> None:
        self.channel = channel
        self.metadata: tuple[tuple[str, str], ...] = (("authorization", f"Bearer {key}"),) if key else ()
        self.access = access_service_pb2_grpc.AccessServiceStub(channel)
        self.billing = billing_service_pb2_grpc.BillingServiceStub(channel)
        self.events = event_service_pb2_grpc.EventServiceStub(channel)
        self.metering = metering_service_pb2_grpc.MeteringServiceStub(channel)
        self.plans = plan_service_pb2_grpc.PlanServiceStub(channel)
        self.operations = operations_service_pb2_grpc.OperationsServiceStub(channel)
        self.rate_cards = rate_card_service_pb2_grpc.RateCardServiceStub(channel)
        self.tenants = tenant_service_pb2_grpc.TenantServiceStub(channel)

    def call(self, method: Any, request: Any) -> Any:
        """Call method with the key. Raises grpc.RpcError."""
        return method(request, metadata=self.metadata, timeout=CALL_TIMEOUT_SECONDS)

    def fail(self, method: Any, request: Any) -> tuple[grpc.StatusCode, str]:
        """Call what must fail. Returns its code and reason."""
        try:
            answer = self.call(method, request)
            # Streams fail when they are read.
            answer = list(answer) if hasattr(answer, "__next__") else answer
        except grpc.RpcError as error:
            return error.code(), reason_of(error)
        raise AssertionError(f"answered {answer}")

    def with_key(self, key: str) -> "Api":
        """Return the same server, called with another key."""
        return Api(self.channel, key)

    def with_new_key(self, role: "access_service_pb2.Role.ValueType", *tenants: str) -> "Api":
        """Create a key and return the server, called with it."""
        request = access_service_pb2.CreateKeyRequest(key=access_service_pb2.Key(role=role, tenants=tenants))
        return self.with_key(self.call(self.access.CreateKey, request).secret)


def reason_of(error: grpc.RpcError) -> str:
    """Return the reason of the error's ErrorInfo, "" without one."""
    # Every error of a call is a call too; the types do not say so.
    status: status_pb2.Status | None = rpc_status.from_call(cast("grpc.Call", error))
    SESSION.note_status(str(status))
    for detail in status.details if status else ():
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            return str(info.reason)
    return ""


@contextlib.contextmanager
def connect(address: str, key: str) -> Iterator[Api]:
    """Yield the API at address, called with key."""
    with grpc.insecure_channel(address) as channel:
        yield Api(channel, key)


def new_tenant() -> str:
    """Return a tenant that no other test uses."""
    return f"t{secrets.token_hex(6)}"


def put_tenant(api: Api, name: str, **limits: Any) -> tenant_service_pb2.Tenant:
    """Put a tenant's settings."""
    tenant = tenant_service_pb2.Tenant(name=name, display_name="D", limits=quota_pb2.Limits(**limits))
    answer: tenant_service_pb2.PutTenantResponse = api.call(
        api.tenants.PutTenant, tenant_service_pb2.PutTenantRequest(tenant=tenant)
    )
    return answer.tenant


def record_request(tenant: str, record_id: str, *, tokens: int) -> metering_service_pb2.RecordRequest:
    """Return usage of one call."""
    request = metering_service_pb2.RecordRequest()
    request.record.record_id = record_id
    request.record.tenant = tenant
    request.record.model = "gpt-5"
    request.record.usage.uncached_input_tokens = tokens
    return request


def record(api: Api, tenant: str, tokens: int = 1_000_000) -> None:
    """Record usage of one call."""
    api.call(api.metering.Record, record_request(tenant, secrets.token_hex(16), tokens=tokens))
