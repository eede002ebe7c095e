# SPDX-License-Identifier: Apache-2.0
"""The part of the client for subscriptions."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from taximeter import _convert, _convert_billing, _convert_credits
from taximeter._eventing import Eventing
from taximeter._session import ADMINISTRATION_TIMEOUT_S, Session
from taximeter.billing import NewPhase, Subscription
from taximeter.v1 import billing_service_pb2, billing_service_pb2_grpc


class Subscribing(Eventing):
    """Calls of BillingService about subscriptions. All raise ServerError."""

    def __init__(self, session: Session) -> None:
        """Takes the session to call through."""
        super().__init__(session)
        self._billing = billing_service_pb2_grpc.BillingServiceStub(session.channel)

    def put_subscription(
        self,
        tenant: str,
        phases: Sequence[NewPhase],
        *,
        time_zone: str = "UTC",
        start_time: datetime | None = None,
        anchor_day: int | None = None,
    ) -> Subscription:
        """Begins a subscription of a root tenant, now or at `start_time`, with the terms of its plans as they are now.

        Periods begin on the day and at the time of day of the start, or at midnight of `anchor_day` of the month.
        Raises ConflictError when it has another subscription, NotFoundError for an unknown plan, PreconditionError
        for one without a price.
        """
        request = billing_service_pb2.PutSubscriptionRequest(
            tenant=tenant,
            time_zone=time_zone,
            start_time=_convert.timestamp(start_time),
            anchor_day=anchor_day,
            phases=[_convert_billing.phase_message(phase) for phase in phases],
        )
        response = self._session.unary(self._billing.PutSubscription, request, ADMINISTRATION_TIMEOUT_S)
        return _convert_billing.subscription_of(response.subscription)

    def get_subscription(self, tenant: str = "") -> Subscription:
        """Returns the subscription of a root tenant; without one, of the only tenant that can be meant.

        That is the one that the key is bound to, or the only one that has a subscription. Raises NotFoundError.
        """
        request = billing_service_pb2.GetSubscriptionRequest(tenant=tenant)
        response = self._session.unary(self._billing.GetSubscription, request, ADMINISTRATION_TIMEOUT_S)
        found = _convert_billing.subscription_of(response.subscription)
        if response.HasField("credits"):
            found = replace(found, credits=_convert_billing.credit_counts_of(response.credits))
        if response.HasField("automatic_top_up"):
            top_up = _convert_credits.automatic_top_up_of(response.automatic_top_up)
            found = replace(found, automatic_top_up=top_up)
        return found

    def change_plan(
        self, tenant: str, plan: str, *, at_period_end: bool = False, expected_revision: int | None = None
    ) -> Subscription:
        """Takes another plan, or the terms that the same plan has now, at once or at the end of the period.

        Raises NotFoundError, PreconditionError, and AbortedError when `expected_revision` is given and is not the
        subscription's.
        """
        request = billing_service_pb2.ChangePlanRequest(
            tenant=tenant, plan=plan, at_period_end=at_period_end, expected_revision=expected_revision
        )
        response = self._session.unary(self._billing.ChangePlan, request, ADMINISTRATION_TIMEOUT_S)
        return _convert_billing.subscription_of(response.subscription)

    def cancel_subscription(self, tenant: str, *, at_once: bool = False) -> Subscription:
        """Ends a subscription at the end of its period, or at once. Raises NotFoundError."""
        request = billing_service_pb2.CancelSubscriptionRequest(tenant=tenant, at_once=at_once)
        response = self._session.unary(self._billing.CancelSubscription, request, ADMINISTRATION_TIMEOUT_S)
        return _convert_billing.subscription_of(response.subscription)
