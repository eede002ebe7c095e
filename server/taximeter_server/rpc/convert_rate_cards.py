# SPDX-License-Identifier: Apache-2.0
"""Messages of RateCardService to values and back."""

from taximeter.v1 import rate_card_service_pb2 as pb
from taximeter_server.card_comparison import Comparison
from taximeter_server.errors import InvalidFieldsError
from taximeter_server.rate_card_diff import CardChange, ClassPrice
from taximeter_server.rate_card_problems import RateCardProblem
from taximeter_server.rate_card_timeline import CardReference, ReferencedCard
from taximeter_server.rate_card_values import decimal_text
from taximeter_server.rpc.convert import int64, timestamp_ms, timestamp_nanos, to_money, to_timestamp


def reference_of(message: pb.RateCardReference, field: str) -> CardReference:
    """Return a reference. Raises InvalidFieldsError."""
    chosen = message.WhichOneof("reference")
    if chosen is None:
        return CardReference()
    if chosen == "at_time":
        # Down: a card that takes force within this millisecond is not in force yet.
        return CardReference(time_ms=timestamp_nanos(message.at_time, f"{field}.at_time") // 1_000_000)
    if not getattr(message, chosen):
        raise InvalidFieldsError.required(f"{field}.{chosen}")
    if chosen == "rate_card_id":
        return CardReference(rate_card_id=message.rate_card_id)
    if chosen == "version":
        return CardReference(version=message.version)
    return CardReference(yaml=message.yaml)


def effective_time_of(
    request: pb.PublishRateCardRequest | pb.PutTenantPricesRequest | pb.RemoveTenantPricesRequest,
) -> int | None:
    """Return effective_time in milliseconds since 1970 UTC, None for the earliest. Raises InvalidFieldsError."""
    if not request.HasField("effective_time"):
        return None
    return timestamp_ms(request.effective_time, "effective_time")


def expected_version_of(
    request: pb.PublishRateCardRequest
    | pb.WithdrawRateCardRequest
    | pb.PutTenantPricesRequest
    | pb.RemoveTenantPricesRequest,
) -> int | None:
    """Return the newest version that the author saw, None not to compare."""
    return request.expected_version if request.HasField("expected_version") else None


def to_identity(found: ReferencedCard) -> pb.RateCardIdentity:
    """Return the card that a reference led to as a message."""
    if found.entry is None:
        return pb.RateCardIdentity(rate_card_id=found.card.rate_card_id)
    return pb.RateCardIdentity(
        rate_card_id=found.card.rate_card_id,
        version=found.entry.version,
        effective_time=to_timestamp(found.entry.effective_time_ms),
    )


def to_problem(problem: RateCardProblem) -> pb.RateCardProblem:
    """Return a problem or a warning as a message."""
    return pb.RateCardProblem(
        line=problem.line,
        column=problem.column,
        field=problem.field,
        reason=problem.reason,
        message=problem.message,
    )


def to_change(change: CardChange) -> pb.RateCardChange:
    """Return a difference as a message."""
    return pb.RateCardChange(
        kind=pb.RateCardChangeKind.Value(f"RATE_CARD_CHANGE_KIND_{change.kind}"),
        row=change.row,
        condition=change.condition,
        usage_class=change.usage_class,
        price_a=_to_price(change.price_a),
        price_b=_to_price(change.price_b),
        change_percent=change.change_percent,
        value_a=change.value_a,
        value_b=change.value_b,
    )


def to_comparison(row: Comparison, currency_code: str) -> pb.RateCardComparison:
    """Return the costs of one tenant and model as a message. Raises SumOutOfRangeError when one does not fit."""
    return pb.RateCardComparison(
        tenant=row.tenant,
        model=row.model,
        calls=int64(row.calls),
        changed_records=int64(row.changed_records),
        cost_a=to_money(row.cost_a_picos, currency_code),
        cost_b=to_money(row.cost_b_picos, currency_code),
        difference=to_money(row.cost_b_picos - row.cost_a_picos, currency_code),
        difference_percent=row.difference_percent,
        unpriced_lines_a=int64(row.unpriced_lines_a),
        unpriced_lines_b=int64(row.unpriced_lines_b),
    )


def _to_price(price: ClassPrice | None) -> pb.RateCardPrice | None:
    if price is None:
        return None
    return pb.RateCardPrice(
        unit_price=decimal_text(price.amount_picos),
        per=price.per,
        priced_as=price.priced_as,
        min_quantity=price.min_quantity,
    )
