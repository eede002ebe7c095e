# SPDX-License-Identifier: Apache-2.0
"""Recorded usage priced again: exact, by tenant and model, and without changing anything."""

import json
from collections import defaultdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from cards.conftest import NEW_PRICES, SECOND

from harness.command_line import CommandLine
from harness.server_process import ServerProcess
from taximeter import CardReference, ForbiddenError, InvalidArgumentError, Meter, Role, Usage, UsageRecord
from taximeter._convert_rate_cards import reference_message
from taximeter.v1 import rate_card_service_pb2, rate_card_service_pb2_grpc

Interval = tuple[datetime, datetime]

OPUS = Usage(uncached_input_tokens=142_500, visible_output_tokens=38_200, cache_read_tokens=12_300)
AUDIO = Usage(other={"audio_ms": 61_400})


def record_some(meter: Meter, tenant: str, at: datetime) -> None:
    """Record a call of each kind: priced, by another tier, without a row, with a minimum, without a model."""
    meter.record(tenant, OPUS, model="claude-opus-4-7", occur_time=at)
    meter.record(f"{tenant}/x", OPUS, model="claude-opus-4-7", tier="batch", occur_time=at)
    meter.record(f"{tenant}/x", Usage(uncached_input_tokens=1003), model="mystery-9", occur_time=at)
    meter.record(tenant, AUDIO, model="whisper", occur_time=at)
    meter.record(tenant, Usage(tool_calls=3), occur_time=at)


def test_costs_are_those_of_each_card(meter: Meter, tenant: str, noon: datetime, days: Interval) -> None:
    """What was charged, what the card would charge, the difference, and what has no price, each exact."""
    record_some(meter, tenant, noon)

    found = meter.compare_rate_cards(*days, card_b=SECOND, tenant=tenant)

    values = [
        (
            *(row.tenant.removeprefix(tenant), row.model, row.calls, row.changed_records),
            *(row.cost_a.picos, row.cost_b.picos, row.difference_percent),
            *(row.unpriced_lines_a, row.unpriced_lines_b),
        )
        for row in found.rows
    ]
    assert values == [
        ("", None, 1, 0, 0, 0, "", 1, 1),
        ("", "claude-opus-4-7", 1, 1, 5_020_950_000_000, 1_673_650_000_000, "-66.666667", 0, 0),
        ("", "whisper", 1, 1, 0, 1_893_166_667, "", 1, 0),
        ("/x", "claude-opus-4-7", 1, 1, 5_020_950_000_000, 836_825_000_000, "-83.333333", 0, 0),
        ("/x", "mystery-9", 1, 1, 0, 111_333_000, "", 1, 0),
    ]
    assert found.total.difference.picos == sum(row.difference.picos for row in found.rows)
    assert (found.total.calls, found.total.changed_records, found.total.unpriced_lines_a) == (5, 4, 3)
    assert (found.card_a, found.card_b.version) == (None, 2)


def test_two_cards_are_compared_with_each_other(
    meter: Meter, tenant: str, noon: datetime, days: Interval
) -> None:
    """A card in place of what was charged; the same card differs in nothing, published or not."""
    record_some(meter, tenant, noon)

    first = meter.compare_rate_cards(*days, card_a=CardReference(version=1), card_b=SECOND, tenant=tenant)
    same = meter.compare_rate_cards(
        *days, card_a=SECOND, card_b=CardReference(yaml=NEW_PRICES), tenant=tenant
    )

    assert first.rows == meter.compare_rate_cards(*days, card_b=SECOND, tenant=tenant).rows
    assert first.card_a is not None
    assert first.card_a.version == 1
    assert same.total.changed_records == 0
    assert same.total.cost_a == same.total.cost_b == first.total.cost_b


def test_only_unpriced_lines_can_be_looked_at(
    meter: Meter, tenant: str, noon: datetime, days: Interval
) -> None:
    """Then calls and costs are those of the entries that have such a line, and of these lines alone."""
    record_some(meter, tenant, noon)

    found = meter.compare_rate_cards(*days, card_b=SECOND, tenant=tenant, only_unpriced=True)

    assert [row.model for row in found.rows] == [None, "whisper", "mystery-9"]
    assert (found.total.calls, found.total.cost_a.picos) == (3, 0)
    assert found.total.cost_b.picos == 1_893_166_667 + 111_333_000


def test_nothing_changes(meter: Meter, tenant: str, noon: datetime, days: Interval) -> None:
    """A comparison is a dry run: reports say the same afterwards."""
    record_some(meter, tenant, noon)
    before = meter.report(*days, tenant=tenant, group_by=["tenant", "usage_class", "rate_card_id"]).rows

    meter.compare_rate_cards(*days, card_b=SECOND, tenant=tenant)

    assert (
        meter.report(*days, tenant=tenant, group_by=["tenant", "usage_class", "rate_card_id"]).rows == before
    )


def test_context_is_that_of_the_whole_call(meter: Meter, tenant: str, noon: datetime, days: Interval) -> None:
    """Lines of one call are priced together, and a record of several calls meets no context condition."""
    card = CardReference(
        yaml="billing: {rate_card: {'gpt-5': {input: 1, output: 2, when: [{context_over: 1000, multiply: 2}]}}}"
    )
    usage = Usage(uncached_input_tokens=600, cache_read_tokens=401, visible_output_tokens=100)
    meter.record(tenant, usage, model="gpt-5", occur_time=noon)
    meter.record(tenant, Usage(**{**_fields(usage), "calls": 2}), model="gpt-5", occur_time=noon)

    found = meter.compare_rate_cards(*days, card_b=card, tenant=tenant)

    once = 1_001_000_000 + 200_000_000
    assert found.total.cost_b.picos == 3 * once


def _fields(usage: Usage) -> dict[str, Any]:
    return {
        name: getattr(usage, name)
        for name in ("uncached_input_tokens", "cache_read_tokens", "visible_output_tokens")
    }


def test_sums_of_many_records_are_exact(meter: Meter, tenant: str, noon: datetime, days: Interval) -> None:
    """Each line is rounded by itself, as it would have been charged, in the tail and in files alike."""
    card = CardReference(yaml="billing: {rate_card: {'gpt-5': {input: {price: 0.1, per: 3}}}}")
    expected: dict[int, int] = defaultdict(int)
    for first in range(0, 1_500, 500):
        records = [
            UsageRecord(
                record_id=f"{tenant}-{number}",
                tenant=f"{tenant}/{number % 3}",
                usage=Usage(uncached_input_tokens=number + 1),
                model="gpt-5",
                occur_time=noon + timedelta(seconds=number),
            )
            for number in range(first, first + 500)
        ]
        assert all(item.recorded for item in meter.record_batch(records))
        for number in range(first, first + 500):
            tokens = number + 1
            # Half to even never decides: a third is below or above a half.
            expected[number % 3] += (tokens * 10**11 * 2 + 3) // 6

    found = meter.compare_rate_cards(*days, card_b=card, tenant=tenant)

    assert [row.cost_b.picos for row in found.rows] == [expected[number] for number in range(3)]
    assert found.total.changed_records == 1_500


def test_a_read_key_sees_its_tenants_only(
    meter: Meter, card_server: ServerProcess, tenant: str, noon: datetime, days: Interval
) -> None:
    """A bound key compares what it may read, and cannot ask for another tenant."""
    record_some(meter, tenant, noon)
    secret = meter.create_key(Role.READ, tenants=[f"{tenant}/x"]).secret

    with Meter(f"http://{card_server.address}", key=secret) as reader:
        rows = reader.compare_rate_cards(*days, card_b=SECOND).rows
        with pytest.raises(ForbiddenError):
            reader.compare_rate_cards(*days, card_b=SECOND, tenant=tenant)

    assert {row.tenant for row in rows} == {f"{tenant}/x"}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"end_time": "start"}, "end_time"),
        ({"end_time": "far"}, "end_time"),
        ({"start_time": None}, "start_time"),
        ({"tenant": "Not/A Path"}, "tenant"),
        ({"card_b": CardReference(rate_card_id="ab")}, "card_b.rate_card_id"),
        ({"card_b": CardReference(yaml="billing: {currency: EUR, rate_card: {}}")}, "card_b"),
    ],
)
def test_bad_requests_name_the_field(
    card_server: ServerProcess, days: Interval, change: dict[str, Any], field: str
) -> None:
    """A reversed or endless range, no start, a bad tenant, a bad card: said before anything is read."""
    request = rate_card_service_pb2.CompareRateCardsRequest(tenant=str(change.get("tenant", "")))
    request.start_time.FromDatetime(days[0])
    ends = {"start": days[0], "far": days[0] + timedelta(days=401)}
    request.end_time.FromDatetime(ends.get(str(change.get("end_time")), days[1]))
    if "start_time" in change:
        request.ClearField("start_time")
    request.card_b.CopyFrom(reference_message(change.get("card_b", SECOND)))
    with grpc.insecure_channel(card_server.address) as channel:
        stub = rate_card_service_pb2_grpc.RateCardServiceStub(channel)
        metadata = (("authorization", f"Bearer {card_server.admin_key}"),)
        with pytest.raises(grpc.RpcError) as caught:
            list(stub.CompareRateCards(request, metadata=metadata, timeout=10))

    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert str(caught.value.details()).startswith(f"{field}: ")


def test_a_card_that_makes_a_line_too_dear_is_refused(
    meter: Meter, tenant: str, noon: datetime, days: Interval
) -> None:
    """The record that could not be charged is named."""
    meter.record(tenant, OPUS, model="claude-opus-4-7", occur_time=noon, record_id="record-too-expensive")
    dear = CardReference(yaml="billing: {rate_card: {'claude-opus-4-7': {input: {price: 9000000, per: 1}}}}")

    with pytest.raises(Exception, match="record-too-expensive") as caught:
        meter.compare_rate_cards(*days, card_b=dear, tenant=tenant)

    assert getattr(caught.value, "reason", "") == "COST_OUT_OF_RANGE"


def test_the_command_line_compares(
    taximeter: CommandLine, meter: Meter, tenant: str, noon: datetime, card_file: Path
) -> None:
    """A table for people, exact decimals for programs, CSV for spreadsheets with numbers that stay numbers."""
    record_some(meter, tenant, noon)
    day = noon.date().isoformat()
    arguments = ("rate-card", "compare", "recorded", str(card_file), "--period", day, "--tenant", tenant)

    table = taximeter(*arguments).stdout
    document = json.loads(taximeter(*arguments, "--output", "json").stdout)
    csv_lines = taximeter(*arguments, "--output", "csv").stdout.splitlines()

    assert "not published" in table
    assert "-66.666667" in table
    assert document["card_a"] == "recorded"
    assert document["total"]["cost_a"] == "10.0419"
    assert document["total"]["difference"] == "-7.529420500333"
    assert f"{tenant},claude-opus-4-7,1,1,5.02095,1.67365,-3.3473,-66.666667,0,0" in csv_lines
    assert (
        "--to is before --from"
        in taximeter(
            *("rate-card", "compare", "recorded", "current", "--from", "2026-06-03", "--to", "2026-06-02"),
            status=2,
        ).stderr
    )
    with pytest.raises(InvalidArgumentError):
        meter.compare_rate_cards(noon, noon, card_b=SECOND)
