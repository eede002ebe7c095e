# SPDX-License-Identifier: Apache-2.0
"""Invoices as files: what stands in them, read by another program than wrote them."""

import html.parser
import re
from dataclasses import replace
from pathlib import Path

import pypdfium2
import pytest

from taximeter_server.errors import ConfigError, InvalidFieldsError
from taximeter_server.invoice import (
    CALLS,
    CREDIT_NOTE,
    OPEN,
    PAID,
    PLAN,
    SECONDS,
    USAGE,
    VOID,
    Invoice,
    InvoiceLine,
    to_minor,
    with_rounding,
)
from taximeter_server.invoice_html import render_html
from taximeter_server.invoice_issuer import Issuer, read_issuer
from taximeter_server.invoice_page import InvoicePage, decimal_text, make_page
from taximeter_server.invoice_pdf import render_pdf
from taximeter_server.payment_accounts import PaymentAccount

JUNE_MS, JULY_MS = 1_780_272_000_000, 1_782_864_000_000
ISSUER = Issuer(
    name="Example & Sons",
    address_lines=("100 Market Street", "Springfield"),
    tax_id="US-1",
    tax_note="No tax is included.",
    payment_note="Pay soon.",
    footer="Registered <somewhere>",
)
ACME = PaymentAccount(tenant="acme", name="Acme", address_lines=("Hauptstraße 1", "Berlin"), tax_id="DE 1")


def line_of(number: int) -> InvoiceLine:
    """Return a line whose exact amount has fractions of a cent."""
    picos = 1_234_567_890_123 * number
    return InvoiceLine(
        kind=USAGE,
        item=f"model-{number}",
        start_ms=JUNE_MS,
        end_ms=JULY_MS,
        quantity=1_000 * number,
        unit=CALLS,
        amount_picos=picos,
        amount_minor=to_minor(picos, 2),
    )


def invoice_of(count: int = 3) -> Invoice:
    """Return a final invoice with a plan and so many lines of usage."""
    plan = InvoiceLine(
        kind=PLAN,
        item="team",
        start_ms=JUNE_MS,
        end_ms=JULY_MS,
        quantity=30 * 86_400,
        unit=SECONDS,
        amount_picos=49 * 10**12,
        amount_minor=4_900,
    )
    lines = with_rounding([plan, *(line_of(number) for number in range(1, count + 1))], digits=2)
    return Invoice(
        invoice_id="acme/20260601T000000Z",
        number="INV-000042",
        tenant="acme",
        currency_code="USD",
        period_start_ms=JUNE_MS,
        period_end_ms=JULY_MS,
        time_zone="UTC",
        lines=lines,
        state=OPEN,
        customer_name="Acme <Söhne>",
        finalize_time_ms=JULY_MS,
        due_time_ms=JULY_MS + 14 * 86_400_000,
    )


def page_of(invoice: Invoice) -> InvoicePage:
    """Return the words of an invoice."""
    return make_page(invoice, ISSUER, ACME)


def text_of_html(content: bytes) -> str:
    """Return what a page shows."""
    texts: list[str] = []

    class Reader(html.parser.HTMLParser):
        def handle_data(self, data: str) -> None:
            texts.append(data)

    Reader().feed(re.sub("<style>.*?</style>", "", content.decode(), flags=re.DOTALL))
    return " ".join(texts)


def texts_of_pdf(content: bytes) -> list[str]:
    """Return what each page of a PDF shows."""
    return [page.get_textpage().get_text_range() for page in pypdfium2.PdfDocument(content)]


def test_page_and_pdf_say_the_same() -> None:
    """Issuer, customer, number, dates, every line with its exact amount, rounding and total stand in both."""
    page = page_of(invoice_of())
    shown = text_of_html(render_html(page)), " ".join(texts_of_pdf(render_pdf(page, ISSUER)))
    wanted = [
        *(
            "Example & Sons",
            "100 Market Street",
            "Acme <Söhne>",
            "Hauptstraße 1",
            "Tax number DE 1",
            "INV-000042",
        ),
        *(
            "1 July 2026",
            "15 July 2026",
            "Plan team",
            "30 days",
            "Usage of model-3",
            "3,000 calls",
            "49.00",
            "3.70",
        ),
        *(
            "exactly 3.703703670369",
            "Rounding",
            "Sum of lines",
            "USD 56.41",
            "Amount due",
            "No tax is included.",
        ),
        *("Pay soon.", "Registered <somewhere>"),
    ]

    for text in shown:
        flat = " ".join(text.split())
        assert [part for part in wanted if part not in flat] == []


def test_lines_rounding_and_total_add_up() -> None:
    """The amounts that are shown are a sum: lines, rounding, total, less what was credited."""
    page = page_of(replace(invoice_of(30), credited_minor=500))
    cents = [int(line.amount.replace(".", "").replace(",", "")) for line in page.lines]
    totals = {name: int(re.sub("[^0-9-]", "", value)) for name, value in page.totals}

    assert totals["Sum of lines"] == sum(cents)
    assert totals["Total"] == sum(cents) + totals["Rounding"]
    assert totals["Amount due"] == totals["Total"] + totals["Credited"] == totals["Total"] - 500


def test_a_long_table_goes_over_pages() -> None:
    """Each page of a PDF has the head of the table and its number, and no line is lost or doubled."""
    pages = texts_of_pdf(render_pdf(page_of(invoice_of(120)), ISSUER))
    shown = " ".join(pages)

    assert len(pages) > 2
    assert all(f"Page {number} of {len(pages)}" in text for number, text in enumerate(pages, start=1))
    assert all("Description" in text for text in pages[:-1])
    assert re.findall(r"Usage of model-(\d+)", shown) == [str(number) for number in range(1, 121)]


def test_the_same_invoice_is_the_same_file() -> None:
    """A document can be made again whenever it is needed, and is the same byte for byte."""
    page = page_of(invoice_of())

    assert render_pdf(page, ISSUER) == render_pdf(page, ISSUER)
    assert render_html(page) == render_html(page)


def test_what_is_void_or_a_credit_note_says_so() -> None:
    """A void invoice owes nothing, and a credit note is called so, with its invoice and reason."""
    void = page_of(replace(invoice_of(), state=VOID))
    note = page_of(
        replace(invoice_of(), kind=CREDIT_NOTE, original_invoice_id="acme/1", reason="Late <delivery>")
    )

    assert (void.state, void.totals[-1]) == ("Void", ("Amount due", "USD 0.00"))
    assert (note.title, note.totals[-1][0]) == ("Credit note", "Total")
    assert "Late &lt;delivery&gt;" in render_html(note).decode()
    assert "Pay soon." not in text_of_html(render_html(void))


def test_a_last_invoice_of_less_than_nothing_says_that_it_is_paid_back() -> None:
    """An invoice that owes its customer something is not called paid, and asks for nothing."""
    paid = replace(invoice_of(), state=PAID)
    owing = replace(paid, lines=(replace(paid.lines[0], amount_minor=-120, amount_picos=-12 * 10**11),))

    assert [page_of(one).state for one in (paid, owing)] == ["Paid", "To be paid back"]
    assert ("Amount due", "USD 0.00") in page_of(owing).totals
    assert "To be paid back" in text_of_html(render_html(page_of(owing)))


def test_a_name_that_the_font_cannot_write_is_refused() -> None:
    """A PDF never shows boxes: without a font for the name it is refused, and HTML writes it."""
    page = page_of(replace(invoice_of(), customer_name="株式会社"))
    with pytest.raises(InvalidFieldsError, match="font_file"):
        render_pdf(page, ISSUER)

    assert "株式会社" in render_html(page).decode()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("nmae = 'x'", "nmae: no such key"),
        ("name = 3", "name: must be a text"),
        ("address_lines = 'x'", "address_lines: must be a list"),
        ("name = ", "not valid TOML"),
    ],
)
def test_a_bad_issuer_is_told(tmp_path: Path, text: str, problem: str) -> None:
    """What is wrong with the issuer's file is said with the setting, at the start."""
    path = tmp_path / "issuer.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=problem):
        read_issuer(path)


def test_numbers_have_their_groups() -> None:
    """Digits stand in groups of three, with the decimals of the currency."""
    cases = {(0, 2): "0.00", (-5, 2): "-0.05", (1_234_567, 0): "1,234,567", (123_456_789, 3): "123,456.789"}

    assert {case: decimal_text(*case) for case in cases} == cases
