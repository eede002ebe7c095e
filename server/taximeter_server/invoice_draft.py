# SPDX-License-Identifier: Apache-2.0
"""What a tenant owes, and what of it no invoice has said yet.

Owed is computed anew each time: the plan's price from the subscription, usage and overage from the ledger. Billed is
the sum of what invoices that are not void say. A draft is the difference: of its own period everything, of earlier ones
what has come late, was corrected, or stood on an invoice that is void. So nothing is ever billed twice or forgotten,
however often and from wherever a draft is computed.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from taximeter_server.billing_calendar import MS_PER_SECOND, whole_second
from taximeter_server.invoice import (
    CALLS,
    CARRY,
    INVOICE,
    MICROCREDITS,
    OVERAGE,
    PLAN,
    ROUNDING,
    SECONDS,
    TOP_UP,
    TOP_UP_PAYMENT,
    USAGE,
    VOID,
    Invoice,
    InvoiceLine,
    divided,
    minor_digits,
    to_minor,
    to_picos,
    with_rounding,
)
from taximeter_server.subscription import Part, Period
from taximeter_server.top_up import DONE, TopUp

_UNITS = {
    PLAN: SECONDS,
    USAGE: CALLS,
    OVERAGE: MICROCREDITS,
    TOP_UP: MICROCREDITS,
    TOP_UP_PAYMENT: "",
    CARRY: "",
}
_ORDER = tuple(_UNITS)
_NO_CORRECTIONS = frozenset({TOP_UP, TOP_UP_PAYMENT, CARRY})
"""Kinds that say nothing else than an earlier invoice did, whenever they come."""


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """What an amount is for. start_ms: of the part of a period. item: plan or model."""

    start_ms: int
    kind: str
    item: str


@dataclass(frozen=True, slots=True)
class Amount:
    """quantity: in the unit of the kind. end_ms: of the part."""

    picos: int
    quantity: int
    end_ms: int

    def __bool__(self) -> bool:
        return bool(self.picos or self.quantity)

    def plus(self, other: "Amount", sign: int = 1) -> "Amount":
        """Return the sum, or with sign -1 the difference."""
        return Amount(
            self.picos + sign * other.picos,
            self.quantity + sign * other.quantity,
            max(self.end_ms, other.end_ms),
        )


Amounts = Mapping[Key, Amount]


def plan_amounts(period: Period) -> dict[Key, Amount]:
    """Return the price of each part of a period, exact to the second.

    The price of all parts together is rounded once, half-even, to a pico-unit. All parts but the last are rounded down,
    and the last takes the remainder.
    """
    whole_seconds = period.span.whole_seconds
    shares = [_price_share(part) for part in period.parts]
    left = divided(sum(shares), whole_seconds)
    found = {}
    for at, (part, share) in enumerate(zip(period.parts, shares, strict=True)):
        picos = left if at == len(shares) - 1 else share // whole_seconds
        left -= picos
        found[Key(part.start_ms, PLAN, part.plan)] = Amount(picos, _seconds(part), part.end_ms)
    return found


def _price_share(part: Part) -> int:
    """Return the price of a part times the seconds of the whole period."""
    return 0 if part.is_trial else part.terms.price_picos * _seconds(part)


def _seconds(part: Part) -> int:
    return (part.end_ms - part.start_ms) // MS_PER_SECOND


def overage_amount(part: Part, overdrawn_microcredits: int, picos_per_credit: int) -> Amount:
    """Return the price of credits used in a part and not covered, rounded once, half-even, to a pico-unit."""
    return Amount(
        divided(overdrawn_microcredits * picos_per_credit, 10**6), overdrawn_microcredits, part.end_ms
    )


def top_up_amounts(top_ups: Iterable[TopUp]) -> dict[Key, Amount]:
    """Return what was bought and paid at once: amounts that take each other back, so that invoices say it."""
    found = {}
    for one in top_ups:
        if one.state == DONE and one.finish_time_ms is not None:
            start_ms = whole_second(one.finish_time_ms)
            end_ms = start_ms + MS_PER_SECOND
            picos = to_picos(one.price_minor, minor_digits(one.currency_code))
            found[Key(start_ms, TOP_UP, one.request_id)] = Amount(picos, one.amount_microcredits, end_ms)
            found[Key(start_ms, TOP_UP_PAYMENT, one.request_id)] = Amount(-picos, 0, end_ms)
    return found


def carried_over(draft: Invoice) -> tuple[InvoiceLine, ...]:
    """Return the lines of a draft of less than nothing with one more: what the next one takes off.

    As nobody owes that line, and an invoice says it, the next draft takes it back.
    """
    line = InvoiceLine(
        kind=CARRY,
        item="",
        start_ms=draft.period_start_ms,
        end_ms=draft.period_end_ms,
        quantity=0,
        unit=_UNITS[CARRY],
        amount_picos=to_picos(-draft.total_minor, draft.minor_digits),
        amount_minor=-draft.total_minor,
    )
    return (*draft.lines, line)


def billed_amounts(invoices: Iterable[Invoice]) -> dict[Key, Amount]:
    """Return what invoices say that are not void."""
    found: dict[Key, Amount] = {}
    for invoice in invoices:
        if invoice.kind == INVOICE and invoice.state != VOID:
            for line in invoice.lines:
                if line.kind != ROUNDING:
                    key = Key(line.start_ms, line.kind, line.item)
                    amount = Amount(line.amount_picos, line.quantity, line.end_ms)
                    found[key] = amount.plus(found[key]) if key in found else amount
    return found


def draft_lines(
    period: Period, owed: Amounts, billed: Amounts, *, digits: int, is_only_own: bool = False
) -> tuple[InvoiceLine, ...]:
    """Return the lines of the draft of a period: owed less billed. digits: decimals of the currency.

    is_only_own: leave the corrections of earlier periods to an earlier draft.
    """
    lines = []
    for key in sorted({*owed, *billed}, key=lambda one: (one.start_ms >= period.start_ms, _sorted(one))):
        is_own = key.start_ms >= period.start_ms
        # Parts of a period follow each other, so one that is not of this period or before is of a later one.
        if key.start_ms >= period.end_ms or (is_only_own and not is_own):
            continue
        zero = Amount(0, 0, 0)
        open_amount = owed.get(key, zero).plus(billed.get(key, zero), -1)
        if open_amount:
            lines.append(_line(key, open_amount, digits=digits, is_correction=not is_own))
    own = [line for line in lines if not line.is_correction and line.kind not in _NO_CORRECTIONS]
    late = [line for line in lines if line.is_correction]
    others = [line for line in lines if line.kind in _NO_CORRECTIONS]
    return with_rounding([*own, *late, *others], digits=digits)


def _sorted(key: Key) -> tuple[int, int, str]:
    return (_ORDER.index(key.kind), key.start_ms, key.item)


def _line(key: Key, amount: Amount, *, digits: int, is_correction: bool) -> InvoiceLine:
    return InvoiceLine(
        kind=key.kind,
        item=key.item,
        start_ms=key.start_ms,
        end_ms=amount.end_ms,
        quantity=amount.quantity,
        unit=_UNITS[key.kind],
        amount_picos=amount.picos,
        amount_minor=to_minor(amount.picos, digits),
        is_correction=is_correction and key.kind not in _NO_CORRECTIONS,
    )
