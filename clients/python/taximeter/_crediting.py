# SPDX-License-Identifier: Apache-2.0
"""The part of the client for credits."""

from taximeter import _convert_credits
from taximeter._paying import Paying
from taximeter._session import ADMINISTRATION_PAGE_SIZE, ADMINISTRATION_TIMEOUT_S
from taximeter.credits import CreditAccount, CreditEntry, CreditGrant, CreditPolicy
from taximeter.top_ups import TopUp
from taximeter.v1 import billing_service_pb2, credit_pb2, top_up_pb2


class Crediting(Paying):
    """Calls of BillingService about credits. All raise ServerError, and NotFoundError without an account."""

    def put_credit_account(
        self,
        tenant: str,
        picos_per_microcredit: int,
        *,
        policy: CreditPolicy = CreditPolicy.BLOCK,
        overdraft_microcredits: int = 0,
    ) -> CreditAccount:
        """Opens the credit account of a root tenant, or changes its policy.

        Raises PreconditionError for another rate than the account has.
        """
        settings = credit_pb2.CreditAccountSettings(
            picos_per_microcredit=picos_per_microcredit,
            policy=credit_pb2.CreditPolicy.Value(f"CREDIT_POLICY_{policy.value}"),
            overdraft_microcredits=overdraft_microcredits,
        )
        request = billing_service_pb2.PutCreditAccountRequest(tenant=tenant, settings=settings)
        response = self._session.unary(self._billing.PutCreditAccount, request, ADMINISTRATION_TIMEOUT_S)
        return _convert_credits.credit_account(response.account)

    def get_credit_account(self, tenant: str) -> CreditAccount:
        """Returns a credit account."""
        request = billing_service_pb2.GetCreditAccountRequest(tenant=tenant)
        response = self._session.unary(self._billing.GetCreditAccount, request, ADMINISTRATION_TIMEOUT_S)
        return _convert_credits.credit_account(response.account)

    def grant_credits(self, tenant: str, grant: CreditGrant) -> CreditGrant:
        """Gives credits; the same grant again changes nothing. Raises ConflictError for another one of its id."""
        request = billing_service_pb2.GrantCreditsRequest(
            tenant=tenant, grant=_convert_credits.grant_message(grant)
        )
        response = self._session.unary(self._billing.GrantCredits, request, ADMINISTRATION_TIMEOUT_S)
        return _convert_credits.credit_grant(response.grant)

    def void_credit_grant(self, tenant: str, grant_id: str, *, reason: str) -> CreditGrant:
        """Takes back what is left of a grant. Raises NotFoundError."""
        request = billing_service_pb2.VoidCreditGrantRequest(tenant=tenant, grant_id=grant_id, reason=reason)
        response = self._session.unary(self._billing.VoidCreditGrant, request, ADMINISTRATION_TIMEOUT_S)
        return _convert_credits.credit_grant(response.grant)

    def list_credit_grants(self, tenant: str) -> tuple[CreditGrant, ...]:
        """Returns the grants of an account, the earliest first."""

        def fetch(token: str) -> billing_service_pb2.ListCreditGrantsResponse:
            request = billing_service_pb2.ListCreditGrantsRequest(
                tenant=tenant, page_size=ADMINISTRATION_PAGE_SIZE, page_token=token
            )
            return self._session.unary(self._billing.ListCreditGrants, request, ADMINISTRATION_TIMEOUT_S)

        pages = self._session.pages(fetch)
        return tuple(_convert_credits.credit_grant(grant) for page in pages for grant in page.grants)

    def list_credit_entries(self, tenant: str, *, grant_id: str = "") -> tuple[CreditEntry, ...]:
        """Returns everything that changed the balance of an account, the earliest first; of one grant if named."""

        def fetch(token: str) -> billing_service_pb2.ListCreditEntriesResponse:
            request = billing_service_pb2.ListCreditEntriesRequest(
                tenant=tenant, grant_id=grant_id, page_size=ADMINISTRATION_PAGE_SIZE, page_token=token
            )
            return self._session.unary(self._billing.ListCreditEntries, request, ADMINISTRATION_TIMEOUT_S)

        pages = self._session.pages(fetch)
        return tuple(_convert_credits.credit_entry(entry) for page in pages for entry in page.entries)

    def top_up_credits(self, tenant: str, amount_microcredits: int, *, request_id: str) -> TopUp:
        """Buys credits: the card on file is charged, then they are granted. Idempotent by `request_id`.

        Returns at once; call again to see what became of it. While another top-up is pending that one is returned, and
        nothing is begun. Raises NotFoundError, PreconditionError without a payment provider, ConflictError.
        """
        request = top_up_pb2.TopUpCreditsRequest(
            tenant=tenant, request_id=request_id, amount_microcredits=amount_microcredits
        )
        response = self._session.unary(self._billing.TopUpCredits, request, ADMINISTRATION_TIMEOUT_S)
        return _convert_credits.top_up_of(response.top_up)

    def list_top_ups(self, tenant: str = "") -> tuple[TopUp, ...]:
        """Returns what an account has bought, newest first. `tenant`: as in get_subscription."""

        def fetch(token: str) -> top_up_pb2.ListTopUpsResponse:
            request = top_up_pb2.ListTopUpsRequest(
                tenant=tenant, page_size=ADMINISTRATION_PAGE_SIZE, page_token=token
            )
            return self._session.unary(self._billing.ListTopUps, request, ADMINISTRATION_TIMEOUT_S)

        pages = self._session.pages(fetch)
        return tuple(_convert_credits.top_up_of(one) for page in pages for one in page.top_ups)
