# SPDX-License-Identifier: Apache-2.0
"""What may not be meant in good own prices of a tenant, beside the card that is in force."""

from collections.abc import Iterator
from fractions import Fraction

from taximeter_server import _native
from taximeter_server._native import Mark, join_path, shown
from taximeter_server.percent import change_percent
from taximeter_server.rate_card_problems import PROBLEMS_MAX, WHOLE_FILE, RateCardProblem
from taximeter_server.rate_card_rows import Row
from taximeter_server.rate_card_values import decimal_text
from taximeter_server.tenant_prices import MARKUP_BASIS_POINTS_MIN, TenantPricesDocument

_NANOS_PER_MILLI = 1_000_000


def tenant_prices_warnings(
    prices: TenantPricesDocument, canonical_json: str, *, now_ms: int
) -> list[RateCardProblem]:
    """Return the warnings in the order of the file, at most PROBLEMS_MAX. canonical_json: the card's."""
    card = _native.RateCard(canonical_json.encode())
    warnings = list(_of_markup(prices))
    for row in prices.rows:
        warnings += _of_row(row, card, now_ms)
    warnings.sort(key=lambda warning: (warning.line, warning.column))
    if len(warnings) > PROBLEMS_MAX:
        hidden = f"{len(warnings) - PROBLEMS_MAX:,} more warnings"
        return [*warnings[:PROBLEMS_MAX], _warning(WHOLE_FILE, "", "MORE_WARNINGS", hidden)]
    return warnings


def _of_markup(prices: TenantPricesDocument) -> Iterator[RateCardProblem]:
    field = "markup_basis_points"
    if prices.markup_basis_points == 0:
        yield _warning(WHOLE_FILE, field, "MARKUP_ZERO", "a markup of 0 changes nothing")
    elif prices.markup_basis_points == MARKUP_BASIS_POINTS_MIN:
        message = "everything that has no own price is free of charge"
        yield _warning(WHOLE_FILE, field, "MARKUP_FREE", message)


def _of_row(row: Row, card: _native.RateCard, now_ms: int) -> Iterator[RateCardProblem]:
    path = join_path("rate_card", row.name)
    found = card.resolve(row.name, "")
    if found is None or found["by"] == "unknown_model":
        message = f"the card in force has no row for {shown(row.name)}: a mistyped name is never charged by"
        yield _warning(row.mark, path, "MODEL_NOT_IN_CARD", message)
        return
    if row.overlays and not row.prices:
        message = (
            f"the row {shown(row.name)} has no own price without conditions: outside of them the card's apply"
        )
        yield _warning(row.mark, path, "ONLY_CONDITIONAL", message)
    for name, own in row.prices.items():
        field = join_path(path, name)
        if own.amount_picos == 0:
            yield _warning(row.mark, field, "OWN_PRICE_ZERO", f"{name} is free of charge for this tenant")
            continue
        try:
            (line,) = card.price(
                model=row.name, usage={name: 1}, occur_time_nanos=now_ms * _NANOS_PER_MILLI
            ).lines
        except OverflowError:
            continue
        own_picos = Fraction(own.amount_picos, own.per)
        list_picos = Fraction(line.amount_picos, line.per) if not line.unpriced else Fraction(0)
        if own_picos < list_picos:
            change = change_percent(list_picos, own_picos)
            message = (
                f"{decimal_text(own.amount_picos)} per {own.per:,} is below the list price,"
                f" {decimal_text(line.amount_picos)} per {line.per:,} ({change} %)"
            )
            yield _warning(row.mark, field, "BELOW_LIST_PRICE", message)


def _warning(mark: Mark, field: str, reason: str, message: str) -> RateCardProblem:
    return RateCardProblem(mark.line, mark.column, field, reason, message)
