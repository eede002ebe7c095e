# SPDX-License-Identifier: Apache-2.0
"""What must hold of all documents of a store, by arithmetic of its own."""

from collections.abc import Iterable, Mapping
from fractions import Fraction

from taximeter_server.invoice import CREDIT_NOTE, INVOICE, REVERSAL, ROUNDING, VOID, Invoice
from taximeter_server.store_names import INVOICE_IDS, INVOICE_NUMBERS

PICOS_PER_CENT = 10**10


def check_document(document: Invoice) -> None:
    """Lines add up to the total in cents and exactly, and the total is the nearest cent of what they are for."""
    exact = sum(line.amount_picos for line in document.lines if line.kind != ROUNDING)
    assert document.total_minor == round(Fraction(exact, PICOS_PER_CENT))
    assert sum(line.amount_minor for line in document.lines) == document.total_minor
    assert sum(line.amount_picos for line in document.lines) == document.total_minor * PICOS_PER_CENT
    for line in document.lines:
        if line.kind != ROUNDING:
            assert line.amount_minor == round(Fraction(line.amount_picos, PICOS_PER_CENT))
    assert document.content_sha256 in {"", document.computed_sha256()}
    assert 0 <= document.credited_minor <= max(0, document.total_minor)


def check_numbers(documents: Iterable[Invoice], fields: Mapping[str, Mapping[str, str]]) -> None:
    """No number of a series is skipped or given twice, and each leads to its document. fields: of hashes, by key."""
    by_series: dict[str, list[int]] = {"INV": [], "CN": []}
    for document in documents:
        series, _, number = document.number.partition("-")
        by_series[series].append(int(number))
        assert (series == "INV") == (document.kind == INVOICE)
        assert fields[INVOICE_IDS][document.number] == document.invoice_id
    for series, numbers in by_series.items():
        assert sorted(numbers) == list(range(1, len(numbers) + 1))
        assert int(fields[INVOICE_NUMBERS].get(series, 0)) == len(numbers)
    assert len(fields[INVOICE_IDS]) == sum(map(len, by_series.values()))


def check_reversals(documents: Iterable[Invoice]) -> None:
    """Every void invoice has a reversal that takes back what is left of it, and credit notes are what it says."""
    found = list(documents)
    for invoice in (one for one in found if one.kind == INVOICE):
        about = [one for one in found if one.original_invoice_id == invoice.invoice_id]
        notes = sum(one.total_minor for one in about if one.kind == CREDIT_NOTE)
        reversals = [one.total_minor for one in about if one.kind == REVERSAL]
        assert notes == -invoice.credited_minor
        left = [-(invoice.total_minor + notes)]
        assert reversals == (left if invoice.state == VOID else [])


def billed_picos(documents: Iterable[Invoice]) -> int:
    """Return what invoices say that are not void, without rounding."""
    return sum(
        line.amount_picos
        for one in documents
        if one.kind == INVOICE and one.state != VOID
        for line in one.lines
        if line.kind != ROUNDING
    )
