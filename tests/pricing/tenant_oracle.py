# SPDX-License-Identifier: Apache-2.0
"""The rules of tenants' own prices once more, written for reading, on top of the oracle of cards."""

from dataclasses import dataclass
from fractions import Fraction

from pricing.oracle import (
    PICO,
    RANGE_MAX,
    Card,
    Oracle,
    OracleAnswer,
    OracleCall,
    OracleLine,
    OraclePrice,
    OutOfRangeError,
    applies,
    find_row,
)

BASIS_POINTS = 10_000


@dataclass(frozen=True)
class Charge:
    """What is charged for a line. unit_picos is the exact price of one unit; None when there is no price."""

    priced_as: str | None
    billed_quantity: int
    unit_picos: Fraction | None
    cost_picos: int


class TenantOracle:
    """Charges calls by a card and a tenant's own prices."""

    def __init__(self, card: Oracle, own: Card) -> None:
        body = dict(own["billing"])
        self.factor = Fraction(BASIS_POINTS + int(body.pop("markup_basis_points", 0)), BASIS_POINTS)
        self.own = Oracle({"billing": {"rate_card": {}, **body}})
        self.card = card

    def charge(self, call: OracleCall) -> tuple[OracleAnswer, list[Charge]]:
        """Return what the card says and what is charged instead, line by line. Raises OutOfRangeError."""
        answer = self.card.price(call)
        row = find_row(self.own.rows, call.model, call.provider) if call.model else None
        if row is None and answer.row is not None:
            row = find_row(self.own.rows, answer.row, "")
        prices: dict[str, OraclePrice] = {}
        if row is not None:
            overlays = self.own.rows[row].get("when", [])
            held = [when for when in overlays if applies(when, call, answer.prompt_tokens)]
            prices = self.own.overlaid(self.own.rows[row], held)
        defaults = {
            name: price
            for name, price in self.own.defaults.items()
            if not (answer.unknown_model and row is None and self.own.is_token(name))
        }
        charges = [self._charge(line, {**defaults, **prices}) for line in answer.lines]
        if sum(charge.cost_picos for charge in charges) > RANGE_MAX:
            raise OutOfRangeError
        return answer, charges

    def _charge(self, line: OracleLine, own: dict[str, OraclePrice]) -> Charge:
        for name in self.card.chain(line.usage_class):
            if name in own:
                price = own[name]
                return _charge(max(line.quantity, price.minimum), name, price.amount * PICO / price.per)
            if line.price is not None and name == line.price.priced_as:
                break
        if line.price is None:
            return Charge(None, line.quantity, None, 0)
        return _charge(
            line.billed_quantity,
            line.price.priced_as,
            line.price.amount * PICO / line.price.per * self.factor,
        )


def _charge(billed_quantity: int, priced_as: str, unit_picos: Fraction) -> Charge:
    # Python rounds a Fraction half to even.
    cost_picos = round(billed_quantity * unit_picos)
    if max(cost_picos, unit_picos.numerator, unit_picos.denominator) > RANGE_MAX:
        raise OutOfRangeError
    return Charge(priced_as, billed_quantity, unit_picos, cost_picos)
