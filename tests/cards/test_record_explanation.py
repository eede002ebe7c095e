# SPDX-License-Identifier: Apache-2.0
"""How a record got its price, told so that it can be checked with a pencil."""

from datetime import datetime, timedelta
from fractions import Fraction

import pytest
from cards.conftest import SECOND

from harness.command_line import CommandLine
from harness.server_process import ServerProcess
from taximeter import (
    InvalidArgumentError,
    Meter,
    ModelResolution,
    NotFoundError,
    RecordExplanation,
    Role,
    Usage,
    new_record_id,
)
from taximeter.v1 import rate_card_service_pb2
from taximeter_server._native import RateCard
from taximeter_server.rate_card import parse_rate_card

Interval = tuple[datetime, datetime]

USAGE = Usage(uncached_input_tokens=1_003, cache_write_1h_tokens=7, reasoning_tokens=11)


def explained(meter: Meter, record_id: str, tenant: str = "") -> RecordExplanation:
    """Explain the one record of an id."""
    (found,) = meter.explain_record(record_id, tenant=tenant)
    return found


def test_card_row_and_arithmetic_are_told(meter: Meter, tenant: str, noon: datetime) -> None:
    """Each line says which class's price it took and gives the exact product; the sum is what was charged."""
    record_id = new_record_id()
    recorded = meter.record(
        *(tenant, USAGE), model="gpt-5-2025-08-07", record_id=record_id, occur_time=noon, tier="batch"
    )

    found = explained(meter, record_id)

    assert (found.tenant, found.model, found.tier, found.occur_time) == (
        tenant,
        "gpt-5-2025-08-07",
        "batch",
        noon,
    )
    assert found.rate_card is not None
    assert (found.rate_card.rate_card_id, found.rate_card.version) == (recorded.rate_card_id, 1)
    assert (found.rate_card_row, found.resolution) == ("gpt-5", ModelResolution.SHORTENED_NAME)
    assert [(line.price_chain, line.line.priced_as) for line in found.lines] == [
        (("input",), "input"),
        (("cache_write_1h", "cache_write", "input"), "input"),
        (("reasoning", "output"), "output"),
    ]
    assert [line.line for line in found.lines] == list(recorded.lines)
    assert all(Fraction(line.exact_picos) == line.line.cost_picos for line in found.lines)
    assert (found.cost, found.reproduced, found.adjustments) == (recorded.cost, True, ())


def test_overlays_and_adjustments_are_told(meter: Meter, tenant: str, noon: datetime, days: Interval) -> None:
    """A correction names its card, its author and its arithmetic; and its own id leads to the record."""
    record_id = new_record_id()
    meter.record(tenant, USAGE, model="mystery-3", record_id=record_id, occur_time=noon)
    meter.post_adjustments(*days, card=SECOND, tenant=tenant, note="the model had no row")

    found = explained(meter, record_id)

    assert [line.line.unpriced for line in found.lines] == [True, True, True]
    assert (found.rate_card_row, found.resolution, found.cost.picos) == ("", ModelResolution.NONE, 0)
    (adjustment,) = found.adjustments
    assert (adjustment.note, adjustment.rate_card_version, adjustment.rate_card_row) == (
        "the model had no row",
        2,
        "mystery*",
    )
    assert [
        (line.usage_class, line.priced_as, line.billed_quantity, line.was_unpriced)
        for line in adjustment.lines
    ] == [
        ("input", "input", 1_003, True),
        ("cache_write_1h", "input", 7, True),
        ("reasoning", "output", 11, True),
    ]
    assert adjustment.cost.picos == 1_003 * 111_000 + 7 * 111_000 + 11 * 700_000
    assert found.adjusted_cost == adjustment.cost
    assert explained(meter, adjustment.record_id) == found


def test_rounding_is_shown(meter: Meter, taximeter: CommandLine, tenant: str, noon: datetime) -> None:
    """A product that is no whole number of pico-units stands there as a fraction, beside what it was rounded to."""
    record_id = new_record_id()
    card = "billing: {rate_card: {whisper: {audio_ms: {price: 0.111, per: 3600000, min: 70000}}}}"
    priced = RateCard(parse_rate_card(card).canonical_json).price(
        model="whisper", usage={"audio_ms": 61_400}, occur_time_nanos=0
    )
    assert priced.cost_picos == 2_158_333_333
    meter.record(tenant, Usage(sandbox_ms=1), record_id=record_id, occur_time=noon)

    text = taximeter("rate-card", "explain", record_id).stdout
    document = taximeter.json("rate-card", "explain", record_id)["records"][0]

    assert "none: usage without a model" in text
    assert "unpriced: no price for sandbox_ms" in text
    assert document["lines"][0]["unpriced"] is True
    assert document["attributes"] == {}


def test_ids_are_unique_within_a_tenant_only(meter: Meter, tenant: str, noon: datetime) -> None:
    """Without a tenant each record of that id is explained, with one only its own."""
    record_id = new_record_id()
    tenants = [f"{tenant}-a", f"{tenant}-b", f"{tenant}-b/below"]
    for name in tenants:
        meter.record(name, USAGE, model="gpt-5", record_id=record_id, occur_time=noon)

    assert [found.tenant for found in meter.explain_record(record_id)] == tenants
    assert [found.tenant for found in meter.explain_record(record_id, tenant=tenants[1])] == [tenants[1]]


def test_a_bound_key_sees_its_records_only(
    meter: Meter, card_server: ServerProcess, tenant: str, noon: datetime
) -> None:
    """A record of another tenant is one that is not there."""
    record_id = new_record_id()
    meter.record(tenant, USAGE, model="gpt-5", record_id=record_id, occur_time=noon)
    secret = meter.create_key(Role.READ, tenants=[f"{tenant}-other"]).secret

    with Meter(f"http://{card_server.address}", key=secret) as other, pytest.raises(NotFoundError) as caught:
        other.explain_record(record_id)

    assert caught.value.reason == "RECORD_UNKNOWN"


def test_bad_requests_name_the_field(meter: Meter, taximeter: CommandLine) -> None:
    """No id, one that is too long, a tenant that is none; and an id that nobody has used."""
    for record_id, tenant, field in (
        ("", "", "record_id"),
        ("x" * 65, "", "record_id"),
        ("x", "A B", "tenant"),
    ):
        with pytest.raises(InvalidArgumentError) as caught:
            meter.explain_record(record_id, tenant=tenant)
        assert [violation.field for violation in caught.value.field_violations] == [field]
    assert "RECORD_UNKNOWN" in taximeter("rate-card", "explain", new_record_id(), status=1).stderr


@pytest.mark.parametrize(
    ("row", "model", "provider", "by", "matched"),
    [
        ("m: {input: 1}", "m", "", "name", "m"),
        ("openai/m: {input: 1}", "m", "openai", "name", "openai/m"),
        ("x: {aliases: [m], input: 1}", "m", "", "alias", "m"),
        ("m: {input: 1}", "m-2025-08-07", "", "shortened_name", "m"),
        ("x: {aliases: [m], input: 1}", "us.anthropic.m", "", "shortened_alias", "m"),
        ("'m*': {input: 1}", "mm", "", "pattern", "m*"),
        ("x: {aliases: ['*mini*'], input: 1}", "a-mini-b", "", "pattern", "*mini*"),
    ],
)
def test_models_resolve_in_ways_that_have_names(
    row: str, model: str, provider: str, by: str, matched: str
) -> None:
    """Each way that leads from a name to a row says which, and what of the row matched."""
    card = RateCard(parse_rate_card(f"billing: {{rate_card: {{{row}}}}}").canonical_json)

    found = card.resolve(model, provider)

    assert found is not None
    assert (found["by"], found["matched"]) == (by, matched)
    assert card.resolve("other", "") is None
    assert f"MODEL_RESOLUTION_{by.upper()}" in dict(rate_card_service_pb2.ModelResolution.items())


def test_old_records_are_found_in_files(meter: Meter, tenant: str, noon: datetime) -> None:
    """Whenever it happened within what the ledger takes."""
    record_id = new_record_id()
    then = noon - timedelta(days=30)
    meter.record(tenant, USAGE, model="gpt-5", record_id=record_id, occur_time=then)

    assert explained(meter, record_id, tenant).occur_time == then
