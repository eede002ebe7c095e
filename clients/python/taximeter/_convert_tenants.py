# SPDX-License-Identifier: Apache-2.0
"""Between the values of this package and the messages of taximeter.v1, for settings of tenants."""

from taximeter._convert import enum_member, instant, set_timestamp
from taximeter._convert_billing import terms_of
from taximeter._status import error_of_status
from taximeter.results import LimitKind
from taximeter.settings import Limits, Plan, PutOutcome, TemporaryLimits, Tenant
from taximeter.simulation import SimulatedDenial, SimulatedTenant
from taximeter.v1 import plan_service_pb2, quota_pb2, tenant_service_pb2


def limits_message(limits: Limits) -> quota_pb2.Limits:
    """Converts limits to a message; None stays absent."""
    return quota_pb2.Limits(
        requests_per_minute=limits.requests_per_minute,
        tokens_per_day=limits.tokens_per_day,
        cost_per_day_picos=limits.cost_per_day_picos,
        shadow=[quota_pb2.LimitKind.Value(f"LIMIT_KIND_{kind.value}") for kind in limits.shadow],
    )


def limits_of(message: quota_pb2.Limits) -> Limits:
    """Converts limits."""
    return Limits(
        requests_per_minute=message.requests_per_minute if message.HasField("requests_per_minute") else None,
        tokens_per_day=message.tokens_per_day if message.HasField("tokens_per_day") else None,
        cost_per_day_picos=message.cost_per_day_picos if message.HasField("cost_per_day_picos") else None,
        shadow=tuple(
            enum_member(LimitKind, quota_pb2.LimitKind.items(), "LIMIT_KIND_", kind)
            for kind in message.shadow
        ),
    )


def tenant_message(tenant: Tenant) -> tenant_service_pb2.Tenant:
    """Converts the settings of a tenant to a message."""
    message = tenant_service_pb2.Tenant(
        name=tenant.name,
        display_name=tenant.display_name,
        limits=limits_message(tenant.limits),
        plan=tenant.plan,
        fail_open_requests=tenant.fail_open_requests,
    )
    if tenant.temporary_limits is not None:
        message.temporary_limits.limits.CopyFrom(limits_message(tenant.temporary_limits.limits))
        set_timestamp(message.temporary_limits.until_time, tenant.temporary_limits.until_time)
    return message


def tenant_of(message: tenant_service_pb2.Tenant) -> Tenant:
    """Converts the settings of a tenant."""
    temporary = None
    if message.HasField("temporary_limits"):
        temporary = TemporaryLimits(
            limits_of(message.temporary_limits.limits), instant(message.temporary_limits.until_time)
        )
    return Tenant(
        name=message.name,
        display_name=message.display_name,
        limits=limits_of(message.limits),
        update_time=instant(message.update_time) if message.HasField("update_time") else None,
        temporary_limits=temporary,
        plan=message.plan,
        fail_open_requests=message.fail_open_requests,
    )


def put_outcome(name: str, message: tenant_service_pb2.PutTenantsResponse) -> PutOutcome:
    """Converts the outcome for one of many tenants."""
    if message.HasField("tenant"):
        return PutOutcome(name, tenant_of(message.tenant), None)
    return PutOutcome(name, None, error_of_status(message.error))


def simulated_tenant(message: tenant_service_pb2.SimulatedTenant) -> SimulatedTenant:
    """Converts what limits would have done to a tenant."""
    return SimulatedTenant(
        tenant=message.tenant,
        calls=message.calls,
        denied_calls=message.denied_calls,
        first_denied_time=instant(message.first_denied_time)
        if message.HasField("first_denied_time")
        else None,
        denials=tuple(
            SimulatedDenial(
                tenant=denial.tenant,
                kind=enum_member(LimitKind, quota_pb2.LimitKind.items(), "LIMIT_KIND_", denial.kind),
                denied_calls=denial.denied_calls,
                first_denied_time=instant(denial.first_denied_time),
            )
            for denial in message.denials
        ),
    )


def plan_of(message: plan_service_pb2.Plan) -> Plan:
    """Converts a plan."""
    return Plan(
        name=message.name,
        display_name=message.display_name,
        limits=limits_of(message.limits),
        update_time=instant(message.update_time) if message.HasField("update_time") else None,
        terms=terms_of(message.terms) if message.HasField("terms") else None,
    )
