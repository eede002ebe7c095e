# SPDX-License-Identifier: Apache-2.0
"""Between the values of this package and the messages of taximeter.v1, for plans with a price and subscriptions."""

from taximeter._convert import enum_member, instant, money, span
from taximeter._convert_quota import duration
from taximeter.billing import (
    Cadence,
    CadenceUnit,
    CreditCounts,
    CreditTerms,
    NewPhase,
    OveragePolicy,
    PlanTerms,
    Subscription,
    SubscriptionPhase,
    SubscriptionState,
    TopUpTerms,
)
from taximeter.money import PICOS_PER_UNIT, Money
from taximeter.v1 import money_pb2, plan_terms_pb2, subscription_pb2


def money_message(amount: Money) -> money_pb2.Money:
    """Converts an amount to a message."""
    units, picos = divmod(abs(amount.picos), PICOS_PER_UNIT)
    sign = -1 if amount.picos < 0 else 1
    return money_pb2.Money(currency_code=amount.currency_code, units=sign * units, picos=sign * picos)


def cadence_message(cadence: Cadence) -> plan_terms_pb2.Cadence:
    """Converts a cadence to a message."""
    return plan_terms_pb2.Cadence(
        unit=plan_terms_pb2.CadenceUnit.Value(f"CADENCE_UNIT_{cadence.unit.value}"), count=cadence.count
    )


def terms_message(terms: PlanTerms) -> plan_terms_pb2.PlanTerms:
    """Converts terms to a message."""
    message = plan_terms_pb2.PlanTerms(
        currency_code=terms.currency_code,
        price=money_message(terms.price),
        cadence=cadence_message(terms.cadence),
        due_days=terms.due_days,
    )
    if terms.credits is not None:
        found = terms.credits
        message.credits.picos_per_microcredit = found.picos_per_microcredit
        message.credits.included_microcredits = found.included_microcredits
        if found.included_expire_days is not None:
            message.credits.included_expire_days = found.included_expire_days
        if found.overage_price is not None:
            message.credits.overage_price.CopyFrom(money_message(found.overage_price))
        policy = f"OVERAGE_POLICY_{found.overage_policy.value}"
        message.credits.overage_policy = plan_terms_pb2.OveragePolicy.Value(policy)
        message.credits.overdraft_microcredits = found.overdraft_microcredits
        if found.top_up is not None:
            message.credits.top_up.CopyFrom(_top_up_message(found.top_up))
    return message


def _top_up_message(top_up: TopUpTerms) -> plan_terms_pb2.TopUpTerms:
    return plan_terms_pb2.TopUpTerms(
        amount_microcredits=top_up.amount_microcredits,
        price=money_message(top_up.price),
        threshold_microcredits=top_up.threshold_microcredits,
        cooldown=duration(top_up.cooldown),
        daily_count_max=top_up.daily_count_max,
    )


def cadence_of(message: plan_terms_pb2.Cadence) -> Cadence:
    """Converts a cadence."""
    items = plan_terms_pb2.CadenceUnit.items()
    return Cadence(enum_member(CadenceUnit, items, "CADENCE_UNIT_", message.unit), message.count)


def terms_of(message: plan_terms_pb2.PlanTerms) -> PlanTerms:
    """Converts terms."""
    return PlanTerms(
        currency_code=message.currency_code,
        price=money(message.price),
        cadence=cadence_of(message.cadence),
        due_days=message.due_days,
        credits=_credit_terms_of(message.credits) if message.HasField("credits") else None,
    )


def _credit_terms_of(message: plan_terms_pb2.CreditTerms) -> CreditTerms:
    return CreditTerms(
        picos_per_microcredit=message.picos_per_microcredit,
        included_microcredits=message.included_microcredits,
        included_expire_days=(
            message.included_expire_days if message.HasField("included_expire_days") else None
        ),
        overage_price=money(message.overage_price) if message.HasField("overage_price") else None,
        overage_policy=enum_member(
            OveragePolicy, plan_terms_pb2.OveragePolicy.items(), "OVERAGE_POLICY_", message.overage_policy
        ),
        overdraft_microcredits=message.overdraft_microcredits,
        top_up=_top_up_of(message.top_up) if message.HasField("top_up") else None,
    )


def _top_up_of(message: plan_terms_pb2.TopUpTerms) -> TopUpTerms:
    return TopUpTerms(
        amount_microcredits=message.amount_microcredits,
        price=money(message.price),
        threshold_microcredits=message.threshold_microcredits,
        cooldown=span(message.cooldown),
        daily_count_max=message.daily_count_max,
    )


def phase_message(phase: NewPhase) -> subscription_pb2.PhaseSettings:
    """Converts a phase to a message."""
    cadence = None if phase.duration is None else cadence_message(phase.duration)
    return subscription_pb2.PhaseSettings(plan=phase.plan, duration=cadence, trial=phase.trial)


def subscription_of(message: subscription_pb2.Subscription) -> Subscription:
    """Converts a subscription."""
    period = message.current_period if message.HasField("current_period") else None
    return Subscription(
        tenant=message.tenant,
        time_zone=message.time_zone,
        state=enum_member(
            SubscriptionState,
            subscription_pb2.SubscriptionState.items(),
            "SUBSCRIPTION_STATE_",
            message.state,
        ),
        phases=tuple(
            SubscriptionPhase(
                plan=phase.plan,
                terms=terms_of(phase.terms) if phase.HasField("terms") else None,
                start_time=instant(phase.start_time),
                trial=phase.trial,
            )
            for phase in message.phases
        ),
        period_start_time=instant(period.start_time) if period else None,
        period_end_time=instant(period.end_time) if period else None,
        end_time=instant(message.end_time) if message.HasField("end_time") else None,
        invoiced_until_time=(
            instant(message.invoiced_until_time) if message.HasField("invoiced_until_time") else None
        ),
        revision=message.revision,
    )


def credit_counts_of(message: subscription_pb2.CreditCounts) -> CreditCounts:
    """Converts sums of credits."""
    return CreditCounts(
        subscription_available_microcredits=message.subscription_available_microcredits,
        subscription_used_microcredits=message.subscription_used_microcredits,
        additional_available_microcredits=message.additional_available_microcredits,
        additional_used_microcredits=message.additional_used_microcredits,
    )
