# SPDX-License-Identifier: Apache-2.0
"""Between the values of this package and the messages of taximeter.v1, for metering and reports."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from taximeter._status import error_of_status
from taximeter.money import PICOS_PER_UNIT, Money
from taximeter.provider_usage import ProviderUsage
from taximeter.results import (
    BatchItem,
    CostLine,
    Durability,
    HoldSettlement,
    HoldState,
    LimitKind,
    LimitStatus,
    ListPrice,
    PricingState,
    Recorded,
    RecordWarning,
    RecordWarningKind,
)
from taximeter.settings import RecordConflict
from taximeter.usage import Usage, UsageRecord
from taximeter.v1 import metering_service_pb2, money_pb2, operations_service_pb2, quota_pb2, usage_pb2

EnumT = TypeVar("EnumT", bound=StrEnum)


def timestamp(moment: datetime | None) -> Timestamp | None:
    """Converts an instant; raises ValueError for one without a time zone, which could mean any instant."""
    if moment is None:
        return None
    result = Timestamp()
    set_timestamp(result, moment)
    return result


def set_timestamp(message: Timestamp, moment: datetime) -> None:
    """Sets a message to an instant; raises ValueError for one without a time zone."""
    if moment.utcoffset() is None:
        text = f"{moment.isoformat()} has no time zone"
        raise ValueError(text)
    message.FromDatetime(moment)


def instant(message: Timestamp) -> datetime:
    """Converts a timestamp, dropping what is below a microsecond."""
    return message.ToDatetime(tzinfo=UTC)


def span(message: Duration) -> timedelta:
    """Converts a duration."""
    return message.ToTimedelta()


def enum_member(enum: type[EnumT], items: Iterable[tuple[str, int]], prefix: str, number: int) -> EnumT:
    """Returns the member for a number of a proto enum, UNRECOGNIZED for one newer than this client."""
    names = {value: name.removeprefix(prefix) for name, value in items}
    try:
        return enum(names.get(number, "UNRECOGNIZED"))
    except ValueError:
        return enum("UNRECOGNIZED")


def money(message: money_pb2.Money) -> Money:
    """Converts an amount."""
    return Money(message.currency_code, message.units * PICOS_PER_UNIT + message.picos)


def usage_message(usage: Usage) -> usage_pb2.Usage:
    """Converts usage. Raises ValueError or TypeError for what is no int64."""
    return usage_pb2.Usage(
        uncached_input_tokens=usage.uncached_input_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        cache_write_1h_tokens=usage.cache_write_1h_tokens,
        visible_output_tokens=usage.visible_output_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        tool_calls=usage.tool_calls,
        sandbox_ms=usage.sandbox_ms,
        storage_byte_hours=usage.storage_byte_hours,
        other=usage.other,
        calls=usage.calls,
    )


def provider_usage_message(usage: ProviderUsage) -> usage_pb2.ProviderUsage:
    """Converts what a provider reported."""
    return usage_pb2.ProviderUsage(
        provider=usage.provider,
        api=usage.api,
        usage_json=usage.usage_json,
        iteration_model=usage.iteration_model,
    )


def expected_usage(usage: Usage | ProviderUsage | None) -> usage_pb2.Usage | None:
    """Converts an estimate, where it is in classes."""
    return usage_message(usage) if isinstance(usage, Usage) else None


def expected_provider_usage(usage: Usage | ProviderUsage | None) -> usage_pb2.ProviderUsage | None:
    """Converts an estimate, where it is as a provider reported it."""
    return provider_usage_message(usage) if isinstance(usage, ProviderUsage) else None


def record_message(record: UsageRecord) -> usage_pb2.UsageRecord:
    """Converts a record."""
    quality = "UNSPECIFIED" if record.quality is None else record.quality.value
    reported = record.usage if isinstance(record.usage, ProviderUsage) else None
    return usage_pb2.UsageRecord(
        record_id=record.record_id,
        tenant=record.tenant,
        model=record.model,
        provider=record.provider,
        usage=None if isinstance(record.usage, ProviderUsage) else usage_message(record.usage),
        provider_usage=None if reported is None else provider_usage_message(reported),
        occur_time=timestamp(record.occur_time),
        tier=record.tier,
        region=record.region,
        speed=record.speed,
        attributes=record.attributes,
        quality=usage_pb2.UsageQuality.Value(f"USAGE_QUALITY_{quality}"),
        hold_id=record.hold_id,
    )


def pricing_state(number: int) -> PricingState:
    """Converts a pricing state; unspecified means that there was nothing to price."""
    if number == usage_pb2.PRICING_STATE_UNSPECIFIED:
        return PricingState.NONE
    return enum_member(PricingState, usage_pb2.PricingState.items(), "PRICING_STATE_", number)


def limit_status(message: quota_pb2.LimitStatus) -> LimitStatus:
    """Converts the state of a limit."""
    return LimitStatus(
        tenant=message.tenant,
        kind=enum_member(LimitKind, quota_pb2.LimitKind.items(), "LIMIT_KIND_", message.kind),
        maximum=message.maximum,
        used=message.used,
        held=message.held,
        remaining=message.remaining,
        reset_time=instant(message.reset_time) if message.HasField("reset_time") else None,
        retry_after=span(message.retry_after) if message.HasField("retry_after") else None,
        exceeded=message.exceeded,
        shadow=message.shadow,
        would_deny=message.would_deny,
        temporary_until_time=instant(message.temporary_until_time)
        if message.HasField("temporary_until_time")
        else None,
    )


def limit_statuses(messages: Iterable[quota_pb2.LimitStatus]) -> tuple[LimitStatus, ...]:
    """Converts the states of limits."""
    return tuple(limit_status(message) for message in messages)


def cost_lines(messages: Iterable[usage_pb2.CostLine]) -> tuple[CostLine, ...]:
    """Converts cost lines."""
    return tuple(
        CostLine(
            usage_class=message.usage_class,
            priced_as=message.priced_as,
            quantity=message.quantity,
            billed_quantity=message.billed_quantity,
            unit_price=message.unit_price,
            per=message.per,
            cost_picos=message.cost_picos,
            unpriced=message.unpriced,
            list_price=list_price(message.list_price) if message.HasField("list_price") else None,
        )
        for message in messages
    )


def list_price(message: usage_pb2.ListPrice) -> ListPrice:
    """Converts the price of a line by the card alone."""
    return ListPrice(
        priced_as=message.priced_as,
        billed_quantity=message.billed_quantity,
        unit_price=message.unit_price,
        per=message.per,
        cost_picos=message.cost_picos,
    )


def hold_state(number: int) -> HoldState:
    """Converts the state of a hold."""
    return enum_member(HoldState, metering_service_pb2.HoldState.items(), "HOLD_STATE_", number)


def hold_settlement(message: metering_service_pb2.HoldSettlement) -> HoldSettlement:
    """Converts what settling a hold came to."""
    return HoldSettlement(hold_state(message.state), message.over_tokens, message.over_cost_picos)


def record_warning(message: metering_service_pb2.RecordWarning) -> RecordWarning:
    """Converts something about a record that was recorded all the same."""
    kinds = metering_service_pb2.RecordWarningKind.items()
    return RecordWarning(
        enum_member(RecordWarningKind, kinds, "RECORD_WARNING_KIND_", message.kind), message.message
    )


def recorded(record_id: str, message: metering_service_pb2.RecordResponse) -> Recorded:
    """Converts the answer to a record."""
    return Recorded(
        record_id=record_id,
        duplicate=message.duplicate,
        cost=money(message.cost),
        lines=cost_lines(message.lines),
        rate_card_id=message.rate_card_id,
        rate_card_row=message.rate_card_row,
        pricing_state=pricing_state(message.pricing_state),
        limits=limit_statuses(message.limits),
        durability=enum_member(
            Durability, metering_service_pb2.Durability.items(), "DURABILITY_", message.durability
        ),
        list_cost=money(message.list_cost) if message.HasField("list_cost") else None,
        tenant_prices_version=message.tenant_prices_version,
        usage_flags=tuple(message.usage_flags),
        credit_microcredits=message.credit_microcredits,
        overdrawn_microcredits=message.overdrawn_microcredits,
        hold=hold_settlement(message.hold) if message.HasField("hold") else None,
        warnings=tuple(record_warning(warning) for warning in message.warnings),
    )


def batch_item(record_id: str, message: metering_service_pb2.RecordResult) -> BatchItem:
    """Converts the outcome of one record of a batch."""
    if message.HasField("response"):
        return BatchItem(record_id, recorded(record_id, message.response), None)
    return BatchItem(record_id, None, error_of_status(message.error))


def record_conflict(message: operations_service_pb2.RecordConflict) -> RecordConflict:
    """Converts a journaled record that could not be applied."""
    return RecordConflict(
        tenant=message.tenant,
        record_id=message.record_id,
        receive_time=instant(message.receive_time) if message.HasField("receive_time") else None,
        find_time=instant(message.find_time) if message.HasField("find_time") else None,
        model=message.model,
        lines=cost_lines(message.lines),
    )
