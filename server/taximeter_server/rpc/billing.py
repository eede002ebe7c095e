# SPDX-License-Identifier: Apache-2.0
"""BillingService: subscriptions of root tenants, their invoices; how they pay (payments.py), credits (credits.py)."""

from collections.abc import Mapping
from typing import ClassVar

from google.protobuf.descriptor import ServiceDescriptor

from taximeter.v1 import billing_service_pb2 as pb
from taximeter.v1 import subscription_pb2
from taximeter_server.billing import Billing
from taximeter_server.billing_errors import InvoiceUnknownError, SubscriptionUnknownError
from taximeter_server.errors import InvalidFieldsError
from taximeter_server.pages import PageTokens
from taximeter_server.payments import Payments
from taximeter_server.rpc.convert_billing import new_subscription_of, to_credit_counts, to_subscription
from taximeter_server.rpc.convert_invoices import to_invoice
from taximeter_server.rpc.credits import CreditMethods
from taximeter_server.rpc.payments import PaymentCalls
from taximeter_server.rpc.principal import Principal, require_account
from taximeter_server.rpc.server import Handler
from taximeter_server.rpc.top_ups import TopUpCalls, to_automatic
from taximeter_server.subscription import Subscription
from taximeter_server.subscription_credits import CreditCounts


class BillingService:
    """Serves taximeter.v1.BillingService."""

    descriptor: ClassVar[ServiceDescriptor] = pb.DESCRIPTOR.services_by_name["BillingService"]
    serves_without_store: ClassVar[bool] = False

    def __init__(
        self,
        billing: Billing,
        payments: Payments,
        credit_methods: CreditMethods,
        *,
        page_tokens: PageTokens,
    ) -> None:
        self._credit_methods = credit_methods
        self._top_ups = payments.top_ups
        self._top_up_calls = TopUpCalls(payments.top_ups, self._account_of, page_tokens=page_tokens)
        self._payments = PaymentCalls(payments, self._account_of, page_tokens=page_tokens)
        self._subscriptions = billing.subscriptions
        self._invoices = billing.invoices
        self._included = billing.credits
        self._credit_notes = billing.credit_notes
        self._page_tokens = page_tokens
        self._renderers = {
            pb.INVOICE_FORMAT_HTML: payments.documents.html,
            pb.INVOICE_FORMAT_PDF: payments.documents.pdf,
        }

    def handlers(self) -> Mapping[str, Handler]:
        """Return the handler of every method."""
        return {
            "PutSubscription": self.put_subscription,
            "GetSubscription": self.get_subscription,
            "ChangePlan": self.change_plan,
            "CancelSubscription": self.cancel_subscription,
            "ListInvoices": self.list_invoices,
            "GetInvoice": self.get_invoice,
            "RenderInvoice": self.render_invoice,
            "FinalizeInvoice": self.finalize_invoice,
            "VoidInvoice": self.void_invoice,
            "CreateCreditNote": self.create_credit_note,
            **self._payments.handlers(),
            **self._credit_methods.handlers(),
            **self._top_up_calls.handlers(),
        }

    def slow_methods(self) -> frozenset[str]:
        """Return the methods that read the ledger."""
        return frozenset(
            {"ListInvoices", "GetInvoice", "RenderInvoice", "FinalizeInvoice", "ListCreditEntries"}
        )

    def put_subscription(
        self, request: pb.PutSubscriptionRequest, principal: Principal
    ) -> pb.PutSubscriptionResponse:
        """Begin a subscription."""
        require_account(request.tenant, principal)
        put = self._subscriptions.put(new_subscription_of(request))
        return pb.PutSubscriptionResponse(subscription=self._kept(put))

    def get_subscription(
        self, request: pb.GetSubscriptionRequest, principal: Principal
    ) -> pb.GetSubscriptionResponse:
        """Show a subscription."""
        tenant = self._account_of(request.tenant, principal)
        account = self._subscriptions.account(tenant)
        if not account.subscription:
            raise SubscriptionUnknownError(tenant)
        subscription = Subscription.from_json(account.subscription)
        found = to_subscription(
            subscription,
            now_ms=self._subscriptions.clock(),
            invoiced_until_ms=account.invoiced_until_ms,
        )
        credit_account = self._included.account(tenant)
        counts = None if credit_account is None else to_credit_counts(CreditCounts.of(credit_account))
        automatic = self._top_ups.automatic(subscription)
        return pb.GetSubscriptionResponse(
            subscription=found,
            credits=counts,
            automatic_top_up=None if automatic is None else to_automatic(automatic),
        )

    def change_plan(self, request: pb.ChangePlanRequest, principal: Principal) -> pb.ChangePlanResponse:
        """Take another plan."""
        require_account(request.tenant, principal)
        changed = self._subscriptions.change_plan(
            request.tenant,
            request.plan,
            at_period_end=request.at_period_end,
            expected_revision=request.expected_revision if request.HasField("expected_revision") else None,
        )
        return pb.ChangePlanResponse(subscription=self._kept(changed))

    def cancel_subscription(
        self, request: pb.CancelSubscriptionRequest, principal: Principal
    ) -> pb.CancelSubscriptionResponse:
        """End a subscription."""
        require_account(request.tenant, principal)
        ended = self._subscriptions.cancel(request.tenant, at_once=request.at_once)
        return pb.CancelSubscriptionResponse(subscription=self._kept(ended))

    def list_invoices(self, request: pb.ListInvoicesRequest, principal: Principal) -> pb.ListInvoicesResponse:
        """List drafts and documents, newest first."""
        tenant = self._account_of(request.tenant, principal)
        found = self._invoices.list(tenant, with_drafts=not request.without_drafts)
        page, next_page_token = self._page_tokens.page(
            found,
            cursor_of=lambda document: document.invoice_id,
            binding=f"ListInvoices:{tenant}:{request.without_drafts}",
            page_size=request.page_size,
            page_token=request.page_token,
        )
        return pb.ListInvoicesResponse(
            invoices=[to_invoice(document) for document in page], next_page_token=next_page_token
        )

    def get_invoice(self, request: pb.GetInvoiceRequest, principal: Principal) -> pb.GetInvoiceResponse:
        """Show a draft or document."""
        self._require_invoice(request.invoice_id, principal)
        return pb.GetInvoiceResponse(invoice=to_invoice(self._invoices.get(request.invoice_id)))

    def render_invoice(
        self, request: pb.RenderInvoiceRequest, principal: Principal
    ) -> pb.RenderInvoiceResponse:
        """Write a draft or document as its customer gets it."""
        render = self._renderers.get(request.format)
        if render is None:
            raise InvalidFieldsError.required("format")
        self._require_invoice(request.invoice_id, principal)
        content, media_type = render(self._invoices.get(request.invoice_id))
        return pb.RenderInvoiceResponse(content=content, media_type=media_type)

    def finalize_invoice(
        self, request: pb.FinalizeInvoiceRequest, principal: Principal
    ) -> pb.FinalizeInvoiceResponse:
        """Make a document of a draft."""
        self._require_invoice(request.invoice_id, principal)
        return pb.FinalizeInvoiceResponse(invoice=to_invoice(self._invoices.finalize(request.invoice_id)))

    def void_invoice(self, request: pb.VoidInvoiceRequest, principal: Principal) -> pb.VoidInvoiceResponse:
        """Take back an invoice that is not paid."""
        self._require_invoice(request.invoice_id, principal)
        invoice, reversal = self._credit_notes.void(request.invoice_id, request.reason)
        return pb.VoidInvoiceResponse(invoice=to_invoice(invoice), reversal=to_invoice(reversal))

    def create_credit_note(
        self, request: pb.CreateCreditNoteRequest, principal: Principal
    ) -> pb.CreateCreditNoteResponse:
        """Give back part of an invoice."""
        self._require_invoice(request.invoice_id, principal)
        note = self._credit_notes.credit(
            request.invoice_id, request.request_id, request.amount_minor, request.reason
        )
        return pb.CreateCreditNoteResponse(credit_note=to_invoice(note))

    def _require_invoice(self, reference: str, principal: Principal) -> None:
        """Raise TenantForbiddenError unless the key may see the document, whether it exists or not."""
        if not reference:
            raise InvalidFieldsError.required("invoice_id")
        try:
            tenant = self._invoices.tenant_of(reference)
        except InvoiceUnknownError:
            principal.require_unbound()
            require_account("unknown", principal)
            raise
        require_account(tenant, principal)

    def _account_of(self, tenant: str, principal: Principal) -> str:
        """Return the root tenant that is asked for, or the only one that can be meant."""
        if tenant:
            require_account(tenant, principal)
            return tenant
        roots = [bound for bound in principal.tenants if "/" not in bound]
        if not principal.tenants and principal.role == "admin":
            roots = self._subscriptions.tenants()
        if len(roots) != 1:
            raise InvalidFieldsError.required("tenant")
        return roots[0]

    def _kept(self, subscription: Subscription) -> subscription_pb2.Subscription:
        """Grant what a changed subscription includes, and show it. A kill before is made good by the keeper."""
        now_ms = self._subscriptions.clock()
        self._included.keep(subscription, now_ms)
        account = self._subscriptions.account(subscription.tenant)
        return to_subscription(subscription, now_ms=now_ms, invoiced_until_ms=account.invoiced_until_ms)
