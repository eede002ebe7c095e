# SPDX-License-Identifier: Apache-2.0
"""Terms of plans as messages, and back."""

from taximeter.v1 import money_pb2, plan_terms_pb2
from taximeter_server import plan_terms
from taximeter_server.credit_grant import ALLOW, BLOCK, OVERDRAFT
from taximeter_server.errors import InvalidFieldsError
from taximeter_server.plan_terms import Cadence, CreditTerms, PlanTerms, TopUpTerms
from taximeter_server.rpc.convert import PICOS_PER_UNIT, duration_ms, to_money

_UNITS = {
    plan_terms_pb2.CADENCE_UNIT_DAY: plan_terms.DAY,
    plan_terms_pb2.CADENCE_UNIT_MONTH: plan_terms.MONTH,
    plan_terms_pb2.CADENCE_UNIT_YEAR: plan_terms.YEAR,
}
_UNIT_VALUES = {name: value for value, name in _UNITS.items()}
_POLICIES = {
    plan_terms_pb2.OVERAGE_POLICY_BLOCK: BLOCK,
    plan_terms_pb2.OVERAGE_POLICY_OVERDRAFT: OVERDRAFT,
    plan_terms_pb2.OVERAGE_POLICY_ALLOW: ALLOW,
}
_POLICY_VALUES = {name: value for value, name in _POLICIES.items()}
_MS_PER_SECOND = 1_000


def cadence_of(message: plan_terms_pb2.Cadence) -> Cadence:
    """Return a cadence, of an unknown unit where it has none."""
    return Cadence(_UNITS.get(message.unit, ""), message.count)


def to_cadence(cadence: Cadence) -> plan_terms_pb2.Cadence:
    """Return a cadence as a message."""
    return plan_terms_pb2.Cadence(unit=_UNIT_VALUES[cadence.unit], count=cadence.count)


def terms_of(message: plan_terms_pb2.PlanTerms, field: str) -> PlanTerms:
    """Return terms, which check() has to look at. Raises InvalidFieldsError for what is no amount."""
    currency_code = message.currency_code
    credit_terms = None
    if message.HasField("credits"):
        credit_terms = _credit_terms_of(message.credits, currency_code, f"{field}.credits")
    return PlanTerms(
        currency_code=currency_code,
        price_picos=_picos_of(message.price, currency_code, f"{field}.price"),
        cadence=cadence_of(message.cadence),
        due_days=message.due_days if message.HasField("due_days") else plan_terms.DUE_DAYS_DEFAULT,
        credits=credit_terms,
    )


def _credit_terms_of(message: plan_terms_pb2.CreditTerms, currency_code: str, field: str) -> CreditTerms:
    overage_picos = None
    if message.HasField("overage_price"):
        overage_picos = _picos_of(message.overage_price, currency_code, f"{field}.overage_price")
    top_up = None
    if message.HasField("top_up"):
        cooldown_s = plan_terms.COOLDOWN_S_DEFAULT
        if message.top_up.HasField("cooldown"):
            cooldown_s = duration_ms(message.top_up.cooldown, f"{field}.top_up.cooldown") // _MS_PER_SECOND
        top_up = TopUpTerms(
            amount_microcredits=message.top_up.amount_microcredits,
            price_picos=_picos_of(message.top_up.price, currency_code, f"{field}.top_up.price"),
            threshold_microcredits=message.top_up.threshold_microcredits,
            cooldown_s=cooldown_s,
            daily_count_max=message.top_up.daily_count_max or 1,
        )
    return CreditTerms(
        picos_per_microcredit=message.picos_per_microcredit,
        included_microcredits=message.included_microcredits,
        included_expire_days=(
            message.included_expire_days if message.HasField("included_expire_days") else None
        ),
        overage_picos=overage_picos,
        overage_policy=_POLICIES.get(message.overage_policy, ""),
        overdraft_microcredits=message.overdraft_microcredits,
        top_up=top_up,
    )


def _picos_of(message: money_pb2.Money, currency_code: str, field: str) -> int:
    if message.currency_code not in {"", currency_code}:
        raise InvalidFieldsError.of(f"{field}.currency_code", "that of the terms")
    if abs(message.picos) >= PICOS_PER_UNIT or message.units * message.picos < 0:
        raise InvalidFieldsError.of(f"{field}.picos", "less than a unit, with the sign of units")
    return message.units * PICOS_PER_UNIT + message.picos


def to_terms(terms: PlanTerms) -> plan_terms_pb2.PlanTerms:
    """Return terms as a message."""
    message = plan_terms_pb2.PlanTerms(
        currency_code=terms.currency_code,
        price=to_money(terms.price_picos, terms.currency_code),
        cadence=to_cadence(terms.cadence),
        due_days=terms.due_days,
    )
    if terms.credits is not None:
        message.credits.CopyFrom(_to_credit_terms(terms.credits, terms.currency_code))
    return message


def _to_credit_terms(terms: CreditTerms, currency_code: str) -> plan_terms_pb2.CreditTerms:
    message = plan_terms_pb2.CreditTerms(
        picos_per_microcredit=terms.picos_per_microcredit,
        included_microcredits=terms.included_microcredits,
        included_expire_days=terms.included_expire_days,
        overage_policy=_POLICY_VALUES[terms.overage_policy],
        overdraft_microcredits=terms.overdraft_microcredits,
    )
    if terms.overage_picos is not None:
        message.overage_price.CopyFrom(to_money(terms.overage_picos, currency_code))
    if terms.top_up is not None:
        message.top_up.amount_microcredits = terms.top_up.amount_microcredits
        message.top_up.price.CopyFrom(to_money(terms.top_up.price_picos, currency_code))
        message.top_up.threshold_microcredits = terms.top_up.threshold_microcredits
        message.top_up.cooldown.FromSeconds(terms.top_up.cooldown_s)
        message.top_up.daily_count_max = terms.top_up.daily_count_max
    return message
