# SPDX-License-Identifier: Apache-2.0
"""How a record got its price, as messages."""

from collections.abc import Mapping, Sequence

from taximeter.v1 import rate_card_service_pb2 as pb
from taximeter.v1 import usage_pb2
from taximeter_server.ledger import KIND_NAMES
from taximeter_server.rate_card_values import decimal_text
from taximeter_server.record_entries import Row
from taximeter_server.record_explanation import ExplainedLine, RecordExplanation
from taximeter_server.rpc.convert import to_entry, to_money, to_timestamp, to_timestamp_us
from taximeter_server.timeline_entry import TimelineEntry


def to_explanation(
    found: RecordExplanation, entries: Mapping[int, TimelineEntry], currency_code: str
) -> pb.RecordExplanation:
    """Return an explanation as a message. entries: of the timeline by version."""
    record = found.record
    entry = entries.get(record["rate_card_version"])
    resolution = found.resolution or {}
    return pb.RecordExplanation(
        tenant=record["tenant"],
        record_id=record["record_id"],
        occur_time=to_timestamp_us(record["occur_time_us"]),
        receive_time=to_timestamp(record["receive_time_ms"]),
        **{name: record[name] or "" for name in ("model", "provider", "tier", "region", "speed")},
        calls=record["entry_calls"],
        attributes=dict(record["attributes"]),
        rate_card=None if entry is None else to_entry(entry, withdrawn=False),
        rate_card_row=record["rate_card_row"] or "",
        resolution=pb.ModelResolution.Value(
            f"MODEL_RESOLUTION_{resolution.get('by', 'unspecified').upper()}"
        ),
        matched_name=resolution.get("matched", ""),
        prompt_tokens=found.prompt_tokens,
        overlays=[
            pb.AppliedOverlay(position=one.position, condition=one.condition, effect=one.effect)
            for one in found.overlays
        ],
        lines=[_to_line(line) for line in found.lines],
        cost=to_money(found.cost_picos, currency_code),
        reproduced=found.is_reproduced,
        adjustments=[_to_adjustment(rows, currency_code) for rows in found.adjustments],
        adjusted_cost=to_money(found.adjusted_cost_picos, currency_code),
        tenant_prices_version=record["tenant_prices_version"],
        list_cost=to_money(sum(line.row["list_cost_picos"] for line in found.lines), currency_code),
        provider_usage=None if found.reported is None else _to_provider_usage(found.reported),
        usage_flags=_flags(found.reported),
    )


def _to_provider_usage(row: Row) -> usage_pb2.ProviderUsage:
    # As the engine keeps it: the model of an iteration stands behind the API.
    api, _, model = row["usage_api"].partition("#")
    return usage_pb2.ProviderUsage(
        provider=row["usage_provider"], api=api, usage_json=row["usage_json"], iteration_model=model
    )


def _flags(row: Row | None) -> list[str]:
    return row["usage_flags"].split(",") if row and row["usage_flags"] else []


def _to_line(line: ExplainedLine) -> pb.ExplainedLine:
    row = line.row
    return pb.ExplainedLine(
        line=usage_pb2.CostLine(
            usage_class=row["usage_class"],
            priced_as=row["priced_as"] or "",
            quantity=row["quantity"],
            billed_quantity=row["billed_quantity"],
            unit_price="" if row["unpriced"] else decimal_text(row["amount_picos"]),
            per=row["per"],
            cost_picos=row["cost_picos"],
            unpriced=row["unpriced"],
            list_price=_to_list_price(row) if row["tenant_prices_version"] else None,
        ),
        price_chain=line.price_chain,
        exact_picos="" if line.exact_picos is None else str(line.exact_picos),
    )


def _to_list_price(row: Row) -> usage_pb2.ListPrice:
    return usage_pb2.ListPrice(
        priced_as=row["list_priced_as"] or "",
        billed_quantity=row["list_billed_quantity"],
        unit_price=decimal_text(row["list_amount_picos"]) if row["list_per"] else "",
        per=row["list_per"],
        cost_picos=row["list_cost_picos"],
    )


def _to_adjustment(rows: Sequence[Row], currency_code: str) -> pb.RecordAdjustment:
    head = rows[0]
    return pb.RecordAdjustment(
        record_id=head["record_id"],
        post_time=to_timestamp(head["receive_time_ms"]),
        author=head["author"] or "",
        note=head["note"] or "",
        rate_card_id=head["rate_card_id"] or "",
        rate_card_version=head["rate_card_version"],
        rate_card_row=head["rate_card_row"] or "",
        lines=[
            pb.AdjustedLine(
                usage_class=row["usage_class"],
                priced_as=row["priced_as"] or "",
                billed_quantity=row["adjusted_quantity"] or row["billed_quantity"],
                unit_price=decimal_text(row["amount_picos"]) if row["per"] else "",
                per=row["per"],
                previous_cost_picos=row["previous_cost_picos"],
                difference_picos=row["cost_picos"],
                was_unpriced=row["prices_unpriced"],
                quantity=row["quantity"],
            )
            for row in rows
            if row["usage_class"] is not None
        ],
        cost=to_money(sum(row["cost_picos"] for row in rows), currency_code),
        kind=pb.CorrectionKind.Value(f"CORRECTION_KIND_{KIND_NAMES[head['kind']].upper()}"),
        calls=sum(row["calls"] for row in rows),
    )
