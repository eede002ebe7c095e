# SPDX-License-Identifier: Apache-2.0
"""An invoice as a document: what it says, what became of it, and the hash that seals what it says.

Amounts are kept twice: exactly, in pico-units of the currency, and in its minor units, such as cents. A line is rounded
to the nearest minor unit, halves to the even one; so is the sum of the exact amounts; and a line of its own says by how
much the rounded sum differs from the sum of rounded lines. So lines add up to the total in both, without exception.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from taximeter_server.errors import StoreCorruptError
from taximeter_server.plan_terms import PICOS_PER_UNIT

INVOICE, CREDIT_NOTE, REVERSAL = "invoice", "credit_note", "reversal"
"""Kinds of documents."""
DRAFT, OPEN, PAID, VOID = "draft", "open", "paid", "void"
"""States of documents."""
PLAN, USAGE, OVERAGE, ROUNDING, CREDIT = "plan", "usage", "overage", "rounding", "credit"
TOP_UP, TOP_UP_PAYMENT, CARRY = "top_up", "top_up_payment", "carry"
"""Kinds of lines."""
SECONDS, CALLS, MICROCREDITS = "seconds", "calls", "microcredits"
"""Units of lines."""

_STATE_FIELDS = frozenset(
    {
        "state",
        "credited_minor",
        "pushed_credited_minor",
        "paid_time_ms",
        "void_time_ms",
        "url",
        "external_id",
        "content_sha256",
    }
)
"""What may change after a document has got its number, and the seal itself."""

_MINOR_DIGITS_ODD = {
    **dict.fromkeys(
        "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF".split(),  # noqa: SIM905 (see currency.py)
        0,
    ),
    **dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3),
}


def minor_digits(currency_code: str) -> int:
    """Return the decimals of a currency, by ISO 4217."""
    return _MINOR_DIGITS_ODD.get(currency_code, 2)


def divided(numerator: int, denominator: int) -> int:
    """Return a quotient rounded to the nearest whole number, halves to the even one. denominator: above 0."""
    quotient, rest = divmod(numerator, denominator)
    twice = 2 * rest
    return quotient + (twice > denominator or (twice == denominator and quotient % 2 == 1))


def to_minor(amount_picos: int, digits: int) -> int:
    """Return an amount in minor units of a currency with so many decimals."""
    return divided(amount_picos, _picos_per_minor(digits))


def to_picos(amount_minor: int, digits: int) -> int:
    """Return an amount of minor units exactly."""
    return amount_minor * _picos_per_minor(digits)


def _picos_per_minor(digits: int) -> int:
    return PICOS_PER_UNIT // int("1" + "0" * digits)


@dataclass(frozen=True, slots=True, kw_only=True)
class InvoiceLine:
    """An amount and what it is for. start_ms, end_ms: of the service, half-open. item: plan or model.

    is_correction: it changes what an earlier invoice said of an earlier period.
    """

    kind: str
    item: str
    start_ms: int
    end_ms: int
    quantity: int
    unit: str
    amount_picos: int
    amount_minor: int
    is_correction: bool = False

    @property
    def description(self) -> str:
        """What the line is for, for people."""
        names = {
            PLAN: f"Plan {self.item}",
            USAGE: f"Usage of {self.item}" if self.item else "Usage",
            OVERAGE: f"Credits beyond those of plan {self.item}",
            ROUNDING: "Rounding",
            CREDIT: f"Credit for invoice {self.item}",
            TOP_UP: f"Credits bought, {self.item}",
            TOP_UP_PAYMENT: f"Paid by card, {self.item}",
            CARRY: "Carried over to the next invoice"
            if self.amount_minor > 0
            else "Carried over from an earlier invoice",
        }
        return f"Correction: {names[self.kind]}" if self.is_correction else names[self.kind]


@dataclass(frozen=True, slots=True, kw_only=True)
class Invoice:
    """A document. Times are milliseconds since 1970 UTC, None for what has not happened; see InvoiceLine for amounts.

    as_of: position in the ledger that it was computed at, as in a report. credited_minor: of credit notes to it.
    due_finalize_time_ms: of a draft, when it is finalised by itself. url, external_id: of a payment provider.
    pushed_credited_minor: of credited_minor, what the provider was told with the invoice itself.
    """

    invoice_id: str
    tenant: str
    currency_code: str
    period_start_ms: int
    period_end_ms: int
    time_zone: str
    lines: tuple[InvoiceLine, ...]
    kind: str = INVOICE
    state: str = DRAFT
    number: str = ""
    customer_name: str = ""
    finalize_time_ms: int | None = None
    due_finalize_time_ms: int | None = None
    due_time_ms: int | None = None
    as_of: str = ""
    original_invoice_id: str = ""
    reason: str = ""
    credited_minor: int = 0
    pushed_credited_minor: int = 0
    paid_time_ms: int | None = None
    void_time_ms: int | None = None
    url: str = ""
    external_id: str = ""
    content_sha256: str = ""

    @property
    def minor_digits(self) -> int:
        """Decimals of the currency."""
        return minor_digits(self.currency_code)

    @property
    def total_minor(self) -> int:
        """Sum of the lines in minor units."""
        return sum(line.amount_minor for line in self.lines)

    @property
    def due_minor(self) -> int:
        """What is to be paid, in minor units."""
        if self.kind != INVOICE or self.state in {PAID, VOID}:
            return 0
        return max(0, self.total_minor - self.credited_minor)

    def computed_sha256(self) -> str:
        """Return the SHA-256, in lower-case hex, of everything that never changes, as canonical JSON."""
        content = {name: value for name, value in asdict(self).items() if name not in _STATE_FIELDS}
        return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def sealed(self) -> "Invoice":
        """Return the document with the hash of what it says."""
        return replace(self, content_sha256=self.computed_sha256())

    def to_json(self) -> str:
        """Return the stored form."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, document: str) -> Self:
        """Read the stored form. Raises StoreCorruptError, also when it does not say what was sealed."""
        try:
            values: dict[str, Any] = json.loads(document)
            found = cls(**{**values, "lines": tuple(InvoiceLine(**line) for line in values["lines"])})
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise StoreCorruptError(f"invoice document: {error}") from error
        if found.content_sha256 != found.computed_sha256():
            raise StoreCorruptError(f"invoice {found.invoice_id} does not say what was sealed")
        return found


def with_rounding(lines: Iterable[InvoiceLine], *, digits: int) -> tuple[InvoiceLine, ...]:
    """Return lines with one more where their rounded sum differs from the sum of rounded lines, or is not exact."""
    found = tuple(lines)
    exact_picos = sum(line.amount_picos for line in found)
    total_minor = to_minor(exact_picos, digits)
    picos, minor = (
        to_picos(total_minor, digits) - exact_picos,
        total_minor - sum(line.amount_minor for line in found),
    )
    if not picos and not minor:
        return found
    rounding = InvoiceLine(
        kind=ROUNDING,
        item="",
        start_ms=found[0].start_ms,
        end_ms=found[-1].end_ms,
        quantity=0,
        unit="",
        amount_picos=picos,
        amount_minor=minor,
    )
    return (*found, rounding)
