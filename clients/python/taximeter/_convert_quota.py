# SPDX-License-Identifier: Apache-2.0
"""Between the values of this package and the messages of taximeter.v1, for quotas and holds."""

from datetime import timedelta

from google.protobuf.duration_pb2 import Duration

from taximeter._convert import instant, limit_statuses, money, pricing_state, span
from taximeter.results import HoldExtension, QuotaDecision
from taximeter.v1 import metering_service_pb2


def duration(found: timedelta | None) -> Duration | None:
    """Converts a duration."""
    if found is None:
        return None
    result = Duration()
    result.FromTimedelta(found)
    return result


def quota_decision(message: metering_service_pb2.CheckQuotaResponse) -> QuotaDecision:
    """Converts a decision. What this client does not know is not an ALLOW."""
    return QuotaDecision(
        allowed=message.decision == metering_service_pb2.DECISION_ALLOW,
        limits=limit_statuses(message.limits),
        retry_after=span(message.retry_after) if message.HasField("retry_after") else None,
        rate_card_id=message.rate_card_id,
        estimated_cost=money(message.estimated_cost) if message.HasField("estimated_cost") else None,
        pricing_state=pricing_state(message.pricing_state),
        hold_id=message.hold_id,
        hold_expire_time=instant(message.hold_expire_time) if message.HasField("hold_expire_time") else None,
        duplicate=message.duplicate,
        tenant_prices_version=message.tenant_prices_version,
        would_deny=message.would_deny,
        degraded=message.degraded,
    )


def hold_extension(message: metering_service_pb2.ExtendHoldResponse) -> HoldExtension:
    """Converts the answer to an extension. What this client does not know is not an ALLOW."""
    return HoldExtension(
        allowed=message.decision == metering_service_pb2.DECISION_ALLOW,
        expire_time=instant(message.expire_time),
        limits=limit_statuses(message.limits),
        retry_after=span(message.retry_after) if message.HasField("retry_after") else None,
        would_deny=message.would_deny,
    )
