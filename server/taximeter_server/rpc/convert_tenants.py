# SPDX-License-Identifier: Apache-2.0
"""Settings of tenants as messages, and back."""

from taximeter.v1 import quota_pb2, tenant_service_pb2
from taximeter_server.errors import InvalidFieldsError
from taximeter_server.limits import Limits, TemporaryLimits
from taximeter_server.rpc.convert import timestamp_ms, to_timestamp
from taximeter_server.tenants import Tenant
from taximeter_server.violations import Violations

LIMIT_NAMES = {
    quota_pb2.LIMIT_KIND_REQUESTS_PER_MINUTE: "requests_per_minute",
    quota_pb2.LIMIT_KIND_TOKENS_PER_DAY: "tokens_per_day",
    quota_pb2.LIMIT_KIND_COST_PER_DAY: "cost_per_day",
}


def limits_of(message: quota_pb2.Limits, field: str) -> Limits:
    """Return limits; what is absent is no limit. Raises InvalidFieldsError."""
    unknown = set(message.shadow) - set(LIMIT_NAMES)
    if unknown:
        raise InvalidFieldsError.of(f"{field}.shadow", "kinds of limits")
    return Limits(
        requests_per_minute=message.requests_per_minute if message.HasField("requests_per_minute") else None,
        tokens_per_day=message.tokens_per_day if message.HasField("tokens_per_day") else None,
        cost_per_day_picos=message.cost_per_day_picos if message.HasField("cost_per_day_picos") else None,
        shadow=tuple(name for kind, name in LIMIT_NAMES.items() if kind in message.shadow),
    )


def to_limits(limits: Limits) -> quota_pb2.Limits:
    """Return limits as a message."""
    return quota_pb2.Limits(
        requests_per_minute=limits.requests_per_minute,
        tokens_per_day=limits.tokens_per_day,
        cost_per_day_picos=limits.cost_per_day_picos,
        shadow=[kind for kind, name in LIMIT_NAMES.items() if name in limits.shadow],
    )


def tenant_of(message: tenant_service_pb2.Tenant) -> Tenant:
    """Return settings. Raises InvalidFieldsError with all that is wrong."""
    violations, limits, temporary = Violations(), Limits(), None
    with violations:
        limits = limits_of(message.limits, "tenant.limits")
    if message.HasField("temporary_limits"):
        field, stand_ins, until_ms = "tenant.temporary_limits", Limits(), 1
        with violations:
            stand_ins = limits_of(message.temporary_limits.limits, f"{field}.limits")
        with violations:
            if not message.temporary_limits.HasField("until_time"):
                raise InvalidFieldsError.required(f"{field}.until_time")
            until_ms = timestamp_ms(message.temporary_limits.until_time, f"{field}.until_time")
        temporary = TemporaryLimits(limits=stand_ins, until_ms=until_ms)
    tenant = Tenant(
        name=message.name,
        display_name=message.display_name,
        limits=limits,
        plan=message.plan,
        fail_open_requests=message.fail_open_requests,
        temporary_limits=temporary,
    )
    with violations:
        tenant.check()
    violations.raise_any()
    return tenant


def to_tenant(tenant: Tenant) -> tenant_service_pb2.Tenant:
    """Return a tenant's settings as a message."""
    message = tenant_service_pb2.Tenant(
        name=tenant.name,
        display_name=tenant.display_name,
        limits=to_limits(tenant.limits),
        plan=tenant.plan,
        fail_open_requests=tenant.fail_open_requests,
        update_time=to_timestamp(tenant.update_time_ms),
    )
    if tenant.temporary_limits is not None:
        message.temporary_limits.limits.CopyFrom(to_limits(tenant.temporary_limits.limits))
        message.temporary_limits.until_time.CopyFrom(to_timestamp(tenant.temporary_limits.until_ms))
    return message
