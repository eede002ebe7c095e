# SPDX-License-Identifier: Apache-2.0
"""The part of BillingService that buys credits."""

from collections.abc import Callable, Mapping

from taximeter.v1 import top_up_pb2 as pb
from taximeter_server import top_up
from taximeter_server.invoice import minor_digits
from taximeter_server.pages import PageTokens
from taximeter_server.rpc.convert import to_timestamp
from taximeter_server.rpc.principal import Principal, require_account
from taximeter_server.rpc.server import Handler
from taximeter_server.top_ups import Automatic, Progress, TopUps


class TopUpCalls:
    """Serves its methods of taximeter.v1.BillingService."""

    def __init__(
        self, top_ups: TopUps, account_of: Callable[[str, Principal], str], *, page_tokens: PageTokens
    ) -> None:
        """account_of: see PaymentCalls."""
        self._top_ups = top_ups
        self._account_of = account_of
        self._page_tokens = page_tokens

    def handlers(self) -> Mapping[str, Handler]:
        """Return the handler of every method here."""
        return {"TopUpCredits": self.top_up_credits, "ListTopUps": self.list_top_ups}

    def top_up_credits(
        self, request: pb.TopUpCreditsRequest, principal: Principal
    ) -> pb.TopUpCreditsResponse:
        """Buy credits."""
        require_account(request.tenant, principal)
        bought = self._top_ups.buy(request.tenant, request.request_id, request.amount_microcredits)
        return pb.TopUpCreditsResponse(top_up=_to_top_up(bought))

    def list_top_ups(self, request: pb.ListTopUpsRequest, principal: Principal) -> pb.ListTopUpsResponse:
        """List what was bought, newest first."""
        tenant = self._account_of(request.tenant, principal)
        page, next_page_token = self._page_tokens.page(
            self._top_ups.list(tenant),
            cursor_of=lambda one: one.top_up.request_id,
            binding=f"ListTopUps:{tenant}",
            page_size=request.page_size,
            page_token=request.page_token,
        )
        return pb.ListTopUpsResponse(
            top_ups=[_to_top_up(one) for one in page], next_page_token=next_page_token
        )


def to_automatic(automatic: Automatic) -> pb.AutomaticTopUp:
    """Return what is bought by itself as a message."""
    message = pb.AutomaticTopUp(
        state=pb.AutomaticTopUpState.Value(f"AUTOMATIC_TOP_UP_STATE_{automatic.state.upper()}"),
        problem=automatic.problem,
        last=None if automatic.last is None else _to_top_up(automatic.last),
    )
    if automatic.next_time_ms is not None:
        message.next_time.CopyFrom(to_timestamp(automatic.next_time_ms))
    return message


def _to_top_up(progress: Progress) -> pb.TopUp:
    found, job = progress.top_up, progress.job
    message = pb.TopUp(
        tenant=found.tenant,
        request_id=found.request_id,
        amount_microcredits=found.amount_microcredits,
        price_minor=found.price_minor,
        currency_code=found.currency_code,
        state=pb.TopUpState.Value(f"TOP_UP_STATE_{found.state.upper()}"),
        problem="" if job is None else job.last_problem,
        decline_count=0 if job is None else job.decline_count,
        create_time=to_timestamp(found.create_time_ms),
        grant_id=found.grant.grant_id,
        payment_id=found.payment_id,
        external_id=found.external_id,
        minor_digits=minor_digits(found.currency_code),
    )
    if found.state == top_up.PENDING and job is not None and job.next_attempt_time_ms is not None:
        message.next_attempt_time.CopyFrom(to_timestamp(job.next_attempt_time_ms))
    if found.finish_time_ms is not None:
        message.finish_time.CopyFrom(to_timestamp(found.finish_time_ms))
    return message
