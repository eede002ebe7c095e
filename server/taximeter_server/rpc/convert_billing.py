# SPDX-License-Identifier: Apache-2.0
"""Subscriptions as messages, and what is asked of them as values."""

from taximeter.v1 import billing_service_pb2, subscription_pb2
from taximeter_server.rpc.convert import timestamp_ms, to_timestamp
from taximeter_server.rpc.convert_terms import cadence_of, to_terms
from taximeter_server.subscription import Segment, Subscription
from taximeter_server.subscription_credits import CreditCounts
from taximeter_server.subscriptions import NewPhase, NewSubscription


def new_subscription_of(request: billing_service_pb2.PutSubscriptionRequest) -> NewSubscription:
    """Return what is asked for, unchecked. Raises InvalidFieldsError for an instant that is none."""
    return NewSubscription(
        tenant=request.tenant,
        phases=tuple(
            NewPhase(
                plan=phase.plan,
                duration=cadence_of(phase.duration) if phase.HasField("duration") else None,
                is_trial=phase.trial,
            )
            for phase in request.phases
        ),
        time_zone=request.time_zone or "UTC",
        start_ms=timestamp_ms(request.start_time, "start_time") if request.HasField("start_time") else None,
        anchor_day=request.anchor_day if request.HasField("anchor_day") else None,
    )


def to_subscription(
    subscription: Subscription, *, now_ms: int, invoiced_until_ms: int
) -> subscription_pb2.Subscription:
    """Return a subscription as a message. invoiced_until_ms: -1 for nothing."""
    message = subscription_pb2.Subscription(
        tenant=subscription.tenant,
        time_zone=subscription.time_zone,
        state=_state(subscription, now_ms),
        phases=[_to_phase(segment) for segment in subscription.segments],
        revision=subscription.revision,
    )
    period = subscription.period_at(now_ms)
    if period is not None:
        message.current_period.start_time.CopyFrom(to_timestamp(period.start_ms))
        message.current_period.end_time.CopyFrom(to_timestamp(period.end_ms))
    if subscription.end_ms is not None:
        message.end_time.CopyFrom(to_timestamp(subscription.end_ms))
    if invoiced_until_ms >= 0:
        message.invoiced_until_time.CopyFrom(to_timestamp(invoiced_until_ms))
    return message


def _to_phase(segment: Segment) -> subscription_pb2.SubscriptionPhase:
    message = subscription_pb2.SubscriptionPhase(
        plan=segment.plan, start_time=to_timestamp(segment.start_ms), trial=segment.is_trial
    )
    if segment.terms is not None:
        message.terms.CopyFrom(to_terms(segment.terms))
    return message


def _state(subscription: Subscription, now_ms: int) -> subscription_pb2.SubscriptionState.ValueType:
    segment = subscription.segment_at(now_ms)
    if subscription.end_ms is not None and subscription.end_ms <= now_ms:
        return subscription_pb2.SUBSCRIPTION_STATE_ENDED
    if segment is None or segment.terms is None:
        return subscription_pb2.SUBSCRIPTION_STATE_PENDING
    if subscription.end_ms is not None:
        return subscription_pb2.SUBSCRIPTION_STATE_CANCELING
    if segment.is_trial:
        return subscription_pb2.SUBSCRIPTION_STATE_TRIAL
    return subscription_pb2.SUBSCRIPTION_STATE_ACTIVE


def to_credit_counts(counts: CreditCounts) -> subscription_pb2.CreditCounts:
    """Return sums of credits as a message."""
    return subscription_pb2.CreditCounts(
        subscription_available_microcredits=counts.subscription_available,
        subscription_used_microcredits=counts.subscription_used,
        additional_available_microcredits=counts.additional_available,
        additional_used_microcredits=counts.additional_used,
    )
