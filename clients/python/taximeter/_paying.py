# SPDX-License-Identifier: Apache-2.0
"""The part of the client for payments."""

from taximeter import _convert_payments
from taximeter._invoicing import Invoicing
from taximeter._session import ADMINISTRATION_PAGE_SIZE, ADMINISTRATION_TIMEOUT_S
from taximeter.payments import Payment, PaymentAccount, PaymentCard, PaymentState
from taximeter.v1 import payment_pb2

PROVIDER_TIMEOUT_S = 60
"""The payment provider is asked meanwhile."""


class Paying(Invoicing):
    """Calls of BillingService about payments. All raise ServerError.

    `tenant` may be left out by a key that is bound to one tenant.
    """

    def put_payment_account(self, account: PaymentAccount) -> PaymentAccount:
        """Sets how an account pays, and tells the payment provider. Raises InvalidArgumentError, UnavailableError."""
        request = payment_pb2.PutPaymentAccountRequest(account=_convert_payments.account_message(account))
        response = self._session.unary(self._billing.PutPaymentAccount, request, PROVIDER_TIMEOUT_S)
        return _convert_payments.account(response.account)

    def get_payment_account(self, tenant: str = "") -> PaymentAccount:
        """Returns how an account pays. Raises NotFoundError."""
        request = payment_pb2.GetPaymentAccountRequest(tenant=tenant)
        response = self._session.unary(self._billing.GetPaymentAccount, request, ADMINISTRATION_TIMEOUT_S)
        return _convert_payments.account(response.account)

    def get_payment_card(self, tenant: str = "") -> PaymentCard | None:
        """Returns the card on file. Raises PreconditionError without a payment provider, NotFoundError."""
        request = payment_pb2.GetPaymentCardRequest(tenant=tenant)
        response = self._session.unary(self._billing.GetPaymentCard, request, PROVIDER_TIMEOUT_S)
        return _convert_payments.card(response.card) if response.HasField("card") else None

    def create_portal_session(self, tenant: str = "", *, return_url: str = "") -> str:
        """Returns the URL of the payment provider's pages; whoever has it is let in. Raises PreconditionError."""
        request = payment_pb2.CreatePortalSessionRequest(tenant=tenant, return_url=return_url)
        response = self._session.unary(self._billing.CreatePortalSession, request, PROVIDER_TIMEOUT_S)
        return response.url

    def list_payments(self, tenant: str = "", *, state: PaymentState | None = None) -> tuple[Payment, ...]:
        """Returns what was pushed to the payment provider and what is to be, newest first."""
        wanted = payment_pb2.PAYMENT_STATE_UNSPECIFIED
        if state is not None:
            wanted = payment_pb2.PaymentState.Value(f"PAYMENT_STATE_{state.value}")

        def fetch(token: str) -> payment_pb2.ListPaymentsResponse:
            request = payment_pb2.ListPaymentsRequest(
                tenant=tenant, state=wanted, page_size=ADMINISTRATION_PAGE_SIZE, page_token=token
            )
            return self._session.unary(self._billing.ListPayments, request, ADMINISTRATION_TIMEOUT_S)

        pages = self._session.pages(fetch)
        return tuple(_convert_payments.payment(found) for page in pages for found in page.payments)

    def retry_payment(self, payment_id: str) -> Payment:
        """Pushes again at once what failed or waits; what is done stays so. Raises NotFoundError."""
        request = payment_pb2.RetryPaymentRequest(payment_id=payment_id)
        response = self._session.unary(self._billing.RetryPayment, request, ADMINISTRATION_TIMEOUT_S)
        return _convert_payments.payment(response.payment)
