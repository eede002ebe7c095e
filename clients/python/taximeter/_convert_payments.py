# SPDX-License-Identifier: Apache-2.0
"""Between the values of this package and the messages of taximeter.v1, for payments."""

from taximeter._convert import enum_member, instant
from taximeter.payments import (
    Payment,
    PaymentAccount,
    PaymentCard,
    PaymentKind,
    PaymentState,
)
from taximeter.v1 import payment_pb2


def account_message(account: PaymentAccount) -> payment_pb2.PaymentAccount:
    """Converts an account for the server."""
    return payment_pb2.PaymentAccount(
        tenant=account.tenant,
        name=account.name,
        email=account.email,
        address_lines=account.address_lines,
        tax_id=account.tax_id,
        report_usage=account.report_usage,
        provider_customer_id=account.provider_customer_id,
    )


def account(message: payment_pb2.PaymentAccount) -> PaymentAccount:
    """Converts an account."""
    return PaymentAccount(
        tenant=message.tenant,
        name=message.name,
        email=message.email,
        address_lines=tuple(message.address_lines),
        tax_id=message.tax_id,
        report_usage=message.report_usage,
        provider_customer_id=message.provider_customer_id,
        update_time=instant(message.update_time),
    )


def card(message: payment_pb2.PaymentCard) -> PaymentCard:
    """Converts a card."""
    return PaymentCard(message.brand, message.last4, message.expire_month, message.expire_year)


def payment(message: payment_pb2.Payment) -> Payment:
    """Converts a payment."""
    last, following = message.last_attempt_time, message.next_attempt_time
    return Payment(
        id=message.id,
        kind=enum_member(PaymentKind, payment_pb2.PaymentKind.items(), "PAYMENT_KIND_", message.kind),
        tenant=message.tenant,
        state=enum_member(PaymentState, payment_pb2.PaymentState.items(), "PAYMENT_STATE_", message.state),
        attempt_count=message.attempt_count,
        last_problem=message.last_problem,
        provider_id=message.provider_id,
        create_time=instant(message.create_time),
        last_attempt_time=instant(last) if message.HasField("last_attempt_time") else None,
        next_attempt_time=instant(following) if message.HasField("next_attempt_time") else None,
    )
