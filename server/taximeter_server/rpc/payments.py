# SPDX-License-Identifier: Apache-2.0
"""The part of BillingService that is about payments: accounts, cards, the provider's pages, and what is pushed."""

from collections.abc import Callable, Mapping

from taximeter.v1 import payment_pb2 as pb
from taximeter_server.errors import InvalidFieldsError
from taximeter_server.pages import PageTokens
from taximeter_server.payment_accounts import PaymentAccount
from taximeter_server.payment_errors import PaymentUnknownError
from taximeter_server.payment_job import JobKind, JobState, PaymentJob
from taximeter_server.payments import Payments
from taximeter_server.rpc.convert import to_timestamp
from taximeter_server.rpc.principal import Principal
from taximeter_server.rpc.server import Handler

_KINDS = {
    JobKind.INVOICE: pb.PAYMENT_KIND_INVOICE,
    JobKind.USAGE: pb.PAYMENT_KIND_USAGE,
    JobKind.TOP_UP: pb.PAYMENT_KIND_TOP_UP,
    JobKind.CREDIT_NOTE: pb.PAYMENT_KIND_CREDIT_NOTE,
    JobKind.VOID: pb.PAYMENT_KIND_VOID,
}
_STATES = {
    JobState.PENDING: pb.PAYMENT_STATE_PENDING,
    JobState.DONE: pb.PAYMENT_STATE_DONE,
    JobState.FAILED: pb.PAYMENT_STATE_FAILED,
}


class PaymentCalls:
    """Serves its methods of taximeter.v1.BillingService."""

    def __init__(
        self, payments: Payments, account_of: Callable[[str, Principal], str], *, page_tokens: PageTokens
    ) -> None:
        """account_of: the root tenant that is asked for, or can only be meant, if the caller may see it."""
        self._accounts = payments.accounts
        self._events = payments.events
        self._store = payments.store
        self._clock = payments.clock
        self._account_of = account_of
        self._page_tokens = page_tokens

    def handlers(self) -> Mapping[str, Handler]:
        """Return the handler of every method here."""
        return {
            "PutPaymentAccount": self.put_payment_account,
            "GetPaymentAccount": self.get_payment_account,
            "GetPaymentCard": self.get_payment_card,
            "CreatePortalSession": self.create_portal_session,
            "ListPayments": self.list_payments,
            "RetryPayment": self.retry_payment,
            "ReceivePaymentEvent": self.receive_payment_event,
        }

    def put_payment_account(
        self, request: pb.PutPaymentAccountRequest, principal: Principal
    ) -> pb.PutPaymentAccountResponse:
        """Create or replace an account."""
        account = _account_of(request.account)
        account.check()
        principal.require_reach(account.tenant)
        return pb.PutPaymentAccountResponse(account=_to_account(self._accounts.put(account)))

    def get_payment_account(
        self, request: pb.GetPaymentAccountRequest, principal: Principal
    ) -> pb.GetPaymentAccountResponse:
        """Show an account."""
        account = self._accounts.get(self._account_of(request.tenant, principal))
        return pb.GetPaymentAccountResponse(account=_to_account(account))

    def get_payment_card(
        self, request: pb.GetPaymentCardRequest, principal: Principal
    ) -> pb.GetPaymentCardResponse:
        """Show the card on file."""
        card = self._accounts.card(self._account_of(request.tenant, principal))
        if card is None:
            return pb.GetPaymentCardResponse()
        return pb.GetPaymentCardResponse(
            card=pb.PaymentCard(
                brand=card.brand,
                last4=card.last4,
                expire_month=card.expire_month,
                expire_year=card.expire_year,
            )
        )

    def create_portal_session(
        self, request: pb.CreatePortalSessionRequest, principal: Principal
    ) -> pb.CreatePortalSessionResponse:
        """Open the provider's pages."""
        account = self._account_of(request.tenant, principal)
        return pb.CreatePortalSessionResponse(url=self._accounts.portal_url(account, request.return_url))

    def list_payments(self, request: pb.ListPaymentsRequest, principal: Principal) -> pb.ListPaymentsResponse:
        """List what was pushed and what is to be."""
        account = self._account_of(request.tenant, principal) if request.tenant or principal.tenants else ""
        documents = self._store.jobs(self._store.job_ids())
        jobs = [PaymentJob.from_json(document) for document in documents]
        page, next_page_token = self._page_tokens.page(
            [job for job in jobs if account in {"", job.tenant} and request.state in {0, _STATES[job.state]}],
            cursor_of=lambda job: job.job_id,
            binding=f"ListPayments:{account}:{request.state}",
            page_size=request.page_size,
            page_token=request.page_token,
        )
        return pb.ListPaymentsResponse(
            payments=[_to_payment(job) for job in page], next_page_token=next_page_token
        )

    def retry_payment(self, request: pb.RetryPaymentRequest, principal: Principal) -> pb.RetryPaymentResponse:
        """Push again at once."""
        if not request.payment_id:
            raise InvalidFieldsError.required("payment_id")
        while True:
            document = self._store.job(request.payment_id)
            if document is None:
                raise PaymentUnknownError
            job = PaymentJob.from_json(document)
            principal.require_reach(job.tenant)
            again = job.again(self._clock())
            if again is job or self._store.replace(
                job.job_id, document, again.to_json(), due_ms=again.next_attempt_time_ms
            ):
                return pb.RetryPaymentResponse(payment=_to_payment(again))

    def receive_payment_event(
        self, request: pb.ReceivePaymentEventRequest, _principal: Principal
    ) -> pb.ReceivePaymentEventResponse:
        """Take an event of the provider."""
        self._events.receive(request.payload, request.signature)
        return pb.ReceivePaymentEventResponse()


def _account_of(message: pb.PaymentAccount) -> PaymentAccount:
    return PaymentAccount(
        tenant=message.tenant,
        name=message.name,
        email=message.email,
        address_lines=tuple(message.address_lines),
        tax_id=message.tax_id,
        report_usage=message.report_usage,
        customer_id=message.provider_customer_id,
    )


def _to_account(account: PaymentAccount) -> pb.PaymentAccount:
    return pb.PaymentAccount(
        tenant=account.tenant,
        name=account.name,
        email=account.email,
        address_lines=account.address_lines,
        tax_id=account.tax_id,
        report_usage=account.report_usage,
        provider_customer_id=account.customer_id,
        update_time=to_timestamp(account.update_time_ms),
    )


def _to_payment(job: PaymentJob) -> pb.Payment:
    message = pb.Payment(
        id=job.job_id,
        kind=_KINDS[job.kind],
        tenant=job.tenant,
        state=_STATES[job.state],
        attempt_count=job.attempt_count,
        last_problem=job.last_problem,
        provider_id=job.provider_id,
        create_time=to_timestamp(job.create_time_ms),
    )
    if job.last_attempt_time_ms is not None:
        message.last_attempt_time.CopyFrom(to_timestamp(job.last_attempt_time_ms))
    if job.next_attempt_time_ms is not None:
        message.next_attempt_time.CopyFrom(to_timestamp(job.next_attempt_time_ms))
    return message
