# SPDX-License-Identifier: Apache-2.0
"""The part of the client for invoices."""

from taximeter import _convert_invoices
from taximeter._session import ADMINISTRATION_PAGE_SIZE
from taximeter._subscribing import Subscribing
from taximeter.billing import Invoice, InvoiceFormat
from taximeter.v1 import billing_service_pb2

INVOICE_TIMEOUT_S = 60
"""Drafts are computed from the ledger."""


class Invoicing(Subscribing):
    """Calls of BillingService about invoices. All raise ServerError."""

    def list_invoices(self, tenant: str = "", *, drafts: bool = True) -> tuple[Invoice, ...]:
        """Returns drafts and documents of a root tenant, newest first; without one, of the only that can be meant."""

        def fetch(token: str) -> billing_service_pb2.ListInvoicesResponse:
            request = billing_service_pb2.ListInvoicesRequest(
                tenant=tenant,
                without_drafts=not drafts,
                page_size=ADMINISTRATION_PAGE_SIZE,
                page_token=token,
            )
            return self._session.unary(self._billing.ListInvoices, request, INVOICE_TIMEOUT_S)

        pages = self._session.pages(fetch)
        return tuple(_convert_invoices.invoice_of(one) for page in pages for one in page.invoices)

    def get_invoice(self, invoice_id: str) -> Invoice:
        """Returns a draft or document by id, or a document by number. Raises NotFoundError."""
        request = billing_service_pb2.GetInvoiceRequest(invoice_id=invoice_id)
        response = self._session.unary(self._billing.GetInvoice, request, INVOICE_TIMEOUT_S)
        return _convert_invoices.invoice_of(response.invoice)

    def render_invoice(self, invoice_id: str, file_format: InvoiceFormat) -> bytes:
        """Returns a draft or document as its customer gets it. Raises NotFoundError, InvalidArgumentError."""
        request = billing_service_pb2.RenderInvoiceRequest(
            invoice_id=invoice_id,
            format=billing_service_pb2.InvoiceFormat.Value(f"INVOICE_FORMAT_{file_format.value}"),
        )
        return self._session.unary(self._billing.RenderInvoice, request, INVOICE_TIMEOUT_S).content

    def finalize_invoice(self, invoice_id: str) -> Invoice:
        """Makes a document of a draft whose period is over. Raises NotFoundError, PreconditionError."""
        request = billing_service_pb2.FinalizeInvoiceRequest(invoice_id=invoice_id)
        response = self._session.unary(self._billing.FinalizeInvoice, request, INVOICE_TIMEOUT_S)
        return _convert_invoices.invoice_of(response.invoice)

    def void_invoice(self, invoice_id: str, reason: str) -> tuple[Invoice, Invoice]:
        """Takes back an invoice that is not paid. Returns it and its reversal.

        What it billed comes onto the next one. Raises NotFoundError, PreconditionError.
        """
        request = billing_service_pb2.VoidInvoiceRequest(invoice_id=invoice_id, reason=reason)
        response = self._session.unary(self._billing.VoidInvoice, request, INVOICE_TIMEOUT_S)
        return (
            _convert_invoices.invoice_of(response.invoice),
            _convert_invoices.invoice_of(response.reversal),
        )

    def create_credit_note(
        self, invoice_id: str, amount_minor: int, reason: str, *, request_id: str
    ) -> Invoice:
        """Gives back minor units of an invoice, once per `request_id`. Returns the credit note.

        Raises NotFoundError, PreconditionError, OutOfRangeError for more than is left of the invoice.
        """
        request = billing_service_pb2.CreateCreditNoteRequest(
            invoice_id=invoice_id, request_id=request_id, amount_minor=amount_minor, reason=reason
        )
        response = self._session.unary(self._billing.CreateCreditNote, request, INVOICE_TIMEOUT_S)
        return _convert_invoices.invoice_of(response.credit_note)
