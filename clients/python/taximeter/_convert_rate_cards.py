# SPDX-License-Identifier: Apache-2.0
"""Between the values of this package and the messages of taximeter.v1, for what there is to know about rate cards."""

from taximeter import _convert, _convert_settings
from taximeter.corrections import CorrectionKind
from taximeter.provider_usage import ProviderUsage
from taximeter.rate_cards import (
    AdjustedLine,
    AppliedOverlay,
    CardChange,
    CardComparison,
    CardDiff,
    CardIdentity,
    CardPrice,
    CardReference,
    ChangeKind,
    ExplainedLine,
    ModelResolution,
    RecordAdjustment,
    RecordExplanation,
)
from taximeter.v1 import rate_card_service_pb2, usage_pb2


def reference_message(reference: CardReference) -> rate_card_service_pb2.RateCardReference:
    """Converts a reference to a message. Raises ValueError for one that names a card in two ways."""
    message = rate_card_service_pb2.RateCardReference()
    given = [reference.rate_card_id, reference.version, reference.at_time, reference.yaml]
    if sum(bool(value) for value in given) > 1:
        text = "a card is named by one of rate_card_id, version, at_time and yaml"
        raise ValueError(text)
    if reference.rate_card_id:
        message.rate_card_id = reference.rate_card_id
    elif reference.version:
        message.version = reference.version
    elif reference.yaml:
        message.yaml = reference.yaml
    elif (at_time := _convert.timestamp(reference.at_time)) is not None:
        message.at_time.CopyFrom(at_time)
    return message


def identity(message: rate_card_service_pb2.RateCardIdentity) -> CardIdentity:
    """Converts the card that a reference led to."""
    effective_time = _convert.instant(message.effective_time) if message.HasField("effective_time") else None
    return CardIdentity(message.rate_card_id, message.version, effective_time)


def diff(message: rate_card_service_pb2.DiffRateCardsResponse) -> CardDiff:
    """Converts how two cards differ."""
    changes = tuple(_change(change) for change in message.changes)
    return CardDiff(identity(message.card_a), identity(message.card_b), changes)


def _change(message: rate_card_service_pb2.RateCardChange) -> CardChange:
    kinds = rate_card_service_pb2.RateCardChangeKind.items()
    return CardChange(
        kind=_convert.enum_member(ChangeKind, kinds, "RATE_CARD_CHANGE_KIND_", message.kind),
        row=message.row,
        condition=message.condition,
        usage_class=message.usage_class,
        price_a=_price(message.price_a) if message.HasField("price_a") else None,
        price_b=_price(message.price_b) if message.HasField("price_b") else None,
        change_percent=message.change_percent,
        value_a=message.value_a,
        value_b=message.value_b,
    )


def _price(message: rate_card_service_pb2.RateCardPrice) -> CardPrice:
    return CardPrice(message.unit_price, message.per, message.priced_as, message.min_quantity)


def comparison(message: rate_card_service_pb2.RateCardComparison) -> CardComparison:
    """Converts the costs of one tenant and model, or their sums."""
    return CardComparison(
        tenant=message.tenant,
        model=message.model if message.HasField("model") else None,
        calls=message.calls,
        changed_records=message.changed_records,
        cost_a=_convert.money(message.cost_a),
        cost_b=_convert.money(message.cost_b),
        difference=_convert.money(message.difference),
        difference_percent=message.difference_percent,
        unpriced_lines_a=message.unpriced_lines_a,
        unpriced_lines_b=message.unpriced_lines_b,
    )


def explanation(message: rate_card_service_pb2.RecordExplanation) -> RecordExplanation:
    """Converts how a record got its price."""
    has_card = message.HasField("rate_card")
    return RecordExplanation(
        tenant=message.tenant,
        record_id=message.record_id,
        occur_time=_convert.instant(message.occur_time),
        receive_time=_convert.instant(message.receive_time),
        model=message.model,
        provider=message.provider,
        tier=message.tier,
        region=message.region,
        speed=message.speed,
        calls=message.calls,
        attributes=dict(message.attributes),
        rate_card=_convert_settings.rate_card_entry(message.rate_card) if has_card else None,
        rate_card_row=message.rate_card_row,
        resolution=_resolution(message.resolution),
        matched_name=message.matched_name,
        prompt_tokens=message.prompt_tokens,
        overlays=tuple(AppliedOverlay(o.position, o.condition, o.effect) for o in message.overlays),
        lines=tuple(
            ExplainedLine(_convert.cost_lines([one.line])[0], tuple(one.price_chain), one.exact_picos)
            for one in message.lines
        ),
        cost=_convert.money(message.cost),
        reproduced=message.reproduced,
        adjustments=tuple(_adjustment(adjustment) for adjustment in message.adjustments),
        adjusted_cost=_convert.money(message.adjusted_cost),
        tenant_prices_version=message.tenant_prices_version,
        list_cost=_convert.money(message.list_cost),
        provider_usage=_provider_usage(message.provider_usage)
        if message.HasField("provider_usage")
        else None,
        usage_flags=tuple(message.usage_flags),
    )


def _provider_usage(message: usage_pb2.ProviderUsage) -> ProviderUsage:
    return ProviderUsage(
        provider=message.provider,
        api=message.api,
        usage_json=message.usage_json,
        iteration_model=message.iteration_model,
    )


def _resolution(number: int) -> ModelResolution:
    if number == rate_card_service_pb2.MODEL_RESOLUTION_UNSPECIFIED:
        return ModelResolution.NONE
    items = rate_card_service_pb2.ModelResolution.items()
    return _convert.enum_member(ModelResolution, items, "MODEL_RESOLUTION_", number)


def _adjustment(message: rate_card_service_pb2.RecordAdjustment) -> RecordAdjustment:
    return RecordAdjustment(
        record_id=message.record_id,
        post_time=_convert.instant(message.post_time),
        author=message.author,
        note=message.note,
        rate_card_id=message.rate_card_id,
        rate_card_version=message.rate_card_version,
        rate_card_row=message.rate_card_row,
        lines=tuple(_adjusted_line(line) for line in message.lines),
        cost=_convert.money(message.cost),
        kind=_convert.enum_member(
            CorrectionKind, rate_card_service_pb2.CorrectionKind.items(), "CORRECTION_KIND_", message.kind
        ),
        calls=message.calls,
    )


def _adjusted_line(message: rate_card_service_pb2.AdjustedLine) -> AdjustedLine:
    return AdjustedLine(
        usage_class=message.usage_class,
        priced_as=message.priced_as,
        billed_quantity=message.billed_quantity,
        unit_price=message.unit_price,
        per=message.per,
        previous_cost_picos=message.previous_cost_picos,
        difference_picos=message.difference_picos,
        was_unpriced=message.was_unpriced,
        quantity=message.quantity,
    )
