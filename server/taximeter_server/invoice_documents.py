# SPDX-License-Identifier: Apache-2.0
"""Invoices as files that one sends to a customer."""

from pathlib import Path

from taximeter_server.invoice import Invoice
from taximeter_server.invoice_html import render_html
from taximeter_server.invoice_issuer import read_issuer
from taximeter_server.invoice_page import InvoicePage, make_page
from taximeter_server.payment_accounts import PaymentAccounts
from taximeter_server.payment_errors import PaymentAccountUnknownError


class InvoiceDocuments:
    """Writes documents in the name of one issuer."""

    def __init__(self, accounts: PaymentAccounts, issuer_file: Path | None) -> None:
        """issuer_file: None leaves the issuer out. Raises ConfigError for one that cannot be used."""
        self._accounts = accounts
        self._issuer = read_issuer(issuer_file)

    def html(self, invoice: Invoice) -> tuple[bytes, str]:
        """Return a page of HTML, and its media type."""
        return render_html(self._page(invoice)), "text/html"

    def pdf(self, invoice: Invoice) -> tuple[bytes, str]:
        """Return a PDF, and its media type. Raises InvalidFieldsError for names that its font cannot write."""
        # It takes a while to import, and few ask for it.
        from taximeter_server.invoice_pdf import render_pdf  # noqa: PLC0415 (see above)

        return render_pdf(self._page(invoice), self._issuer), "application/pdf"

    def _page(self, invoice: Invoice) -> InvoicePage:
        try:
            account = self._accounts.get(invoice.tenant)
        except PaymentAccountUnknownError:
            account = None
        return make_page(invoice, self._issuer, account)
