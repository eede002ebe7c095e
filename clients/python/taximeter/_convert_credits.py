# SPDX-License-Identifier: Apache-2.0
"""Between the values of this package and the messages of taximeter.v1, for credits."""

from taximeter._convert import enum_member, instant, timestamp
from taximeter.credits import (
    CreditAccount,
    CreditEntry,
    CreditEntryKind,
    CreditGrant,
    CreditGrantKind,
    CreditGrantState,
    CreditMove,
    CreditPolicy,
)
from taximeter.top_ups import AutomaticTopUp, AutomaticTopUpState, TopUp, TopUpState
from taximeter.v1 import credit_pb2, top_up_pb2


def credit_account(message: credit_pb2.CreditAccount) -> CreditAccount:
    """Converts an account."""
    settings = message.settings
    return CreditAccount(
        tenant=message.tenant,
        picos_per_microcredit=settings.picos_per_microcredit,
        policy=enum_member(CreditPolicy, credit_pb2.CreditPolicy.items(), "CREDIT_POLICY_", settings.policy),
        overdraft_microcredits=settings.overdraft_microcredits,
        available_microcredits=message.available_microcredits,
        used_microcredits=message.used_microcredits,
        balance_microcredits=message.balance_microcredits,
        overdrawn_microcredits=message.overdrawn_microcredits,
        held_microcredits=message.held_microcredits,
    )


def credit_grant(message: credit_pb2.CreditGrant) -> CreditGrant:
    """Converts a grant."""
    return CreditGrant(
        grant_id=message.grant_id,
        amount_microcredits=message.amount_microcredits,
        kind=enum_member(
            CreditGrantKind, credit_pb2.CreditGrantKind.items(), "CREDIT_GRANT_KIND_", message.kind
        ),
        priority=message.priority,
        effective_time=instant(message.effective_time) if message.HasField("effective_time") else None,
        expire_time=instant(message.expire_time) if message.HasField("expire_time") else None,
        models=tuple(message.models),
        usage_classes=tuple(message.usage_classes),
        cost_basis_picos=message.cost_basis_picos,
        note=message.note,
        create_time=instant(message.create_time),
        remaining_microcredits=message.remaining_microcredits,
        held_microcredits=message.held_microcredits,
        state=enum_member(
            CreditGrantState, credit_pb2.CreditGrantState.items(), "CREDIT_GRANT_STATE_", message.state
        ),
        void_reason=message.void_reason,
    )


def credit_entry(message: credit_pb2.CreditEntry) -> CreditEntry:
    """Converts an entry."""
    return CreditEntry(
        kind=enum_member(
            CreditEntryKind, credit_pb2.CreditEntryKind.items(), "CREDIT_ENTRY_KIND_", message.kind
        ),
        tenant=message.tenant,
        record_id=message.record_id,
        model=message.model,
        occur_time=instant(message.occur_time),
        receive_time=instant(message.receive_time),
        note=message.note,
        moves=tuple(CreditMove(one.usage_class, one.grant_id, one.microcredits) for one in message.moves),
        microcredits=message.microcredits,
    )


def grant_message(grant: CreditGrant) -> credit_pb2.CreditGrant:
    """Converts a grant for the server."""
    return credit_pb2.CreditGrant(
        grant_id=grant.grant_id,
        amount_microcredits=grant.amount_microcredits,
        kind=credit_pb2.CreditGrantKind.Value(f"CREDIT_GRANT_KIND_{grant.kind.value}"),
        priority=grant.priority,
        effective_time=timestamp(grant.effective_time),
        expire_time=timestamp(grant.expire_time),
        models=grant.models,
        usage_classes=grant.usage_classes,
        cost_basis_picos=grant.cost_basis_picos,
        note=grant.note,
    )


def top_up_of(message: top_up_pb2.TopUp) -> TopUp:
    """Converts a top-up."""
    return TopUp(
        tenant=message.tenant,
        request_id=message.request_id,
        amount_microcredits=message.amount_microcredits,
        price_minor=message.price_minor,
        currency_code=message.currency_code,
        state=enum_member(TopUpState, top_up_pb2.TopUpState.items(), "TOP_UP_STATE_", message.state),
        problem=message.problem,
        decline_count=message.decline_count,
        next_attempt_time=instant(message.next_attempt_time)
        if message.HasField("next_attempt_time")
        else None,
        create_time=instant(message.create_time),
        finish_time=instant(message.finish_time) if message.HasField("finish_time") else None,
        grant_id=message.grant_id,
        payment_id=message.payment_id,
        external_id=message.external_id,
        minor_digits=message.minor_digits,
    )


def automatic_top_up_of(message: top_up_pb2.AutomaticTopUp) -> AutomaticTopUp:
    """Converts what is bought by itself."""
    return AutomaticTopUp(
        state=enum_member(
            AutomaticTopUpState,
            top_up_pb2.AutomaticTopUpState.items(),
            "AUTOMATIC_TOP_UP_STATE_",
            message.state,
        ),
        problem=message.problem,
        next_time=instant(message.next_time) if message.HasField("next_time") else None,
        last=top_up_of(message.last) if message.HasField("last") else None,
    )
