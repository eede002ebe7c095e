# SPDX-License-Identifier: Apache-2.0
"""The part of the client that asks before and during a call whether it may go on."""

from datetime import timedelta

from taximeter import _convert, _convert_quota
from taximeter._session import Session
from taximeter.record_id import RecordIds
from taximeter.results import HoldExtension, HoldState, QuotaDecision
from taximeter.usage import Usage
from taximeter.v1 import metering_service_pb2, metering_service_pb2_grpc

CHECK_TIMEOUT_S = 1.0


class Checking:
    """CheckQuota and what follows from its holds."""

    # Set by the client.
    _session: Session
    _metering: metering_service_pb2_grpc.MeteringServiceStub
    _record_ids: RecordIds

    def check_quota(  # noqa: PLR0913 - by name, one per field of the request
        self,
        tenant: str,
        *,
        model: str = "",
        estimate: Usage | None = None,
        hold_ttl: timedelta | None = None,
        requests: int = 1,
        dry_run: bool = False,
        request_id: str = "",
        provider: str = "",
        tier: str = "",
        region: str = "",
        speed: str = "",
        timeout_s: float = CHECK_TIMEOUT_S,
    ) -> QuotaDecision:
        """Decides whether a call may go on, by all limits of the tenant and its parents together.

        A denial is an answer. UnavailableError and DeadlineError mean that nothing was decided: whether to go
        on then is the caller's choice.

        With `hold_ttl` (1 s to 1 h) an allowed call holds its estimate: tokens and cost count against the limits
        until `record(..., hold_id=decision.hold_id)` settles them, `release_hold` frees them, or the time is
        over. Such a check is named, here or by `request_id`, so that one that is sent twice holds once.
        """
        if hold_ttl is not None and not request_id:
            request_id = self._record_ids.new()
        request = metering_service_pb2.CheckQuotaRequest(
            tenant=tenant,
            request_id=request_id,
            model=model,
            estimate=None if estimate is None else _convert.usage_message(estimate),
            requests=requests,
            hold_ttl=_convert_quota.duration(hold_ttl),
            dry_run=dry_run,
            provider=provider,
            tier=tier,
            region=region,
            speed=speed,
        )
        return _convert_quota.quota_decision(
            self._session.unary(self._metering.CheckQuota, request, timeout_s)
        )

    def extend_hold(  # noqa: PLR0913 - by name, one per field of the request
        self,
        tenant: str,
        hold_id: str,
        hold_ttl: timedelta,
        *,
        model: str = "",
        estimate: Usage | None = None,
        provider: str = "",
        tier: str = "",
        region: str = "",
        speed: str = "",
        timeout_s: float = CHECK_TIMEOUT_S,
    ) -> HoldExtension:
        """Lets a hold live for `hold_ttl` from now, and hold what `estimate` says of the whole call.

        When the limits have no room for it the extension is not allowed, and the hold stays as it was. Raises
        PreconditionError for a hold that has ended, NotFoundError for one that is not known.
        """
        request = metering_service_pb2.ExtendHoldRequest(
            tenant=tenant,
            hold_id=hold_id,
            hold_ttl=_convert_quota.duration(hold_ttl),
            model=model,
            estimate=None if estimate is None else _convert.usage_message(estimate),
            provider=provider,
            tier=tier,
            region=region,
            speed=speed,
        )
        return _convert_quota.hold_extension(
            self._session.unary(self._metering.ExtendHold, request, timeout_s)
        )

    def release_hold(self, tenant: str, hold_id: str, *, timeout_s: float = CHECK_TIMEOUT_S) -> HoldState:
        """Frees the hold of a call that did not happen; returns RELEASED, or how it had ended before."""
        request = metering_service_pb2.ReleaseHoldRequest(tenant=tenant, hold_id=hold_id)
        response = self._session.unary(self._metering.ReleaseHold, request, timeout_s)
        return _convert.hold_state(response.state)
