# SPDX-License-Identifier: Apache-2.0
"""A hundred thousand events over the public port: every sum of every report equals an oracle's, to the pico-unit."""

import secrets
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import pytest
from exact.oracle import Card, Event, Sums, price, sums_by
from exact.workload import CARD_YAML, CLASSES, DAY_MS, DEFAULTS, FIRST_ROWS, ROWS, events
from server.api import Api, connect

from harness.server_process import ServerProcess
from taximeter.v1 import metering_service_pb2 as pb
from taximeter.v1 import operations_service_pb2, rate_card_service_pb2, usage_pb2

EVENTS = 100_000
BATCH = 500
SENDERS = 4
DIMENSIONS = (
    "",
    "tenant",
    "root_tenant",
    "model",
    "provider",
    "day",
    "usage_class",
    "rate_card_id",
    "attributes.workflow_uuid",
    "attributes.agent_uuid",
    "attributes.nobody_has_it",
)
FIELD_BY_CLASS = {
    "input": "uncached_input_tokens",
    "cache_read": "cache_read_tokens",
    "cache_write": "cache_write_tokens",
    "cache_write_1h": "cache_write_1h_tokens",
    "output": "visible_output_tokens",
    "reasoning": "reasoning_tokens",
    "tool_calls": "tool_calls",
    "sandbox_ms": "sandbox_ms",
    "storage_byte_hours": "storage_byte_hours",
}
REPORT_TIMEOUT_S = 30
RECORDS_THEN_REPORTS = 200


@dataclass
class Replay:
    """A server with all events recorded, and what is known of them."""

    api: Api
    expected: dict[str, dict[str | None, Sums]]
    now_ms: int


def to_record(event: Event) -> usage_pb2.UsageRecord:
    """Return an event as a record."""
    usage = usage_pb2.Usage(calls=event.calls)
    for usage_class, quantity in event.usage.items():
        if usage_class in FIELD_BY_CLASS:
            setattr(usage, FIELD_BY_CLASS[usage_class], quantity)
        else:
            usage.other[usage_class] = quantity
    found = usage_pb2.UsageRecord(
        record_id=event.record_id,
        tenant=event.tenant,
        model=event.model,
        provider=event.provider,
        usage=usage,
        attributes=event.attributes,
    )
    found.occur_time.FromMilliseconds(event.occur_time_ms)
    return found


def send(api: Api, batch: Sequence[Event]) -> list[bool]:
    """Record a batch; returns for each event whether it was a duplicate."""
    request = pb.RecordBatchRequest(records=[to_record(event) for event in batch])
    for _ in range(5):
        answer = api.call(api.metering.RecordBatch, request)
        if all(result.HasField("response") for result in answer.results):
            return [result.response.duplicate for result in answer.results]
        # The machine may have been too busy to answer in time: the same again.
        codes = {result.error.code for result in answer.results if result.HasField("error")}
        assert codes <= {4, 14}, codes
    raise AssertionError("the server does not record")


@pytest.fixture(scope="module")
def replay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replay]:
    """Record all events from several senders at once, and a part of them twice."""
    server = ServerProcess(tmp_path_factory.mktemp("exact") / "data")
    with server, connect(server.address, server.admin_key) as api:
        first = api.call(api.rate_cards.GetRateCard, rate_card_service_pb2.GetRateCardRequest())
        entry = api.call(
            api.rate_cards.PublishRateCard, rate_card_service_pb2.PublishRateCardRequest(yaml=CARD_YAML)
        ).entry
        cards = (
            Card(first.entry.rate_card_id, FIRST_ROWS),
            Card(entry.rate_card_id, ROWS, DEFAULTS, CLASSES),
        )
        card_from_ms = entry.effective_time.ToMilliseconds()
        now_ms = entry.publish_time.ToMilliseconds()
        recorded = list(
            events(
                EVENTS, seed="replay", now_ms=now_ms, card_from_ms=card_from_ms, last_ms=card_from_ms + 60_000
            )
        )
        batches = [recorded[at : at + BATCH] for at in range(0, EVENTS, BATCH)]
        with ThreadPoolExecutor(SENDERS) as senders:
            first_time = list(senders.map(lambda batch: send(api, batch), batches))
            again = list(senders.map(lambda batch: send(api, batch), batches[::20]))
        assert {duplicate for batch in again for duplicate in batch} == {True}
        assert len(first_time) == len(batches)
        priced = price(recorded, lambda event: cards[event.occur_time_ms >= card_from_ms])
        yield Replay(api, {dimension: sums_by(priced, dimension) for dimension in DIMENSIONS}, now_ms)


def reported(replay: Replay, dimension: str) -> tuple[dict[str | None, Sums], Sums]:
    """Return a report's groups and its total."""
    query = pb.ReportQuery(group_by=[dimension] if dimension else [])
    query.start_time.FromMilliseconds(replay.now_ms - 40 * DAY_MS)
    query.end_time.FromMilliseconds(replay.now_ms + 2 * DAY_MS)
    request = pb.ReportRequest(query=query, page_size=10_000)
    answer: Any = replay.api.metering.Report(request, metadata=replay.api.metadata, timeout=REPORT_TIMEOUT_S)
    assert answer.next_page_token == ""
    groups: dict[str | None, Sums] = {}
    for row in answer.rows:
        (value,) = [each.value if each.HasField("value") else None for each in row.group] or [""]
        groups[value] = to_sums(row.measures)
    return groups, to_sums(answer.total)


def to_sums(measures: pb.ReportMeasures) -> Sums:
    """Return measures in the terms of the oracle."""
    found = Sums(measures.calls, cost_picos=measures.cost.units * 10**12 + measures.cost.picos)
    found.quantities.update(measures.quantities)
    found.unpriced_lines = measures.unpriced_lines
    return found


def assert_reports_equal_the_oracle(replay: Replay) -> None:
    """Compare every dimension, group by group, and parts with totals."""
    everything = replay.expected[""][""]
    assert everything.unpriced_lines > 0
    for dimension in DIMENSIONS:
        groups, total = reported(replay, dimension)
        assert groups == replay.expected[dimension], dimension
        parts = Sums()
        for sums in groups.values():
            parts.calls += sums.calls
            parts.quantities += sums.quantities
            parts.cost_picos += sums.cost_picos
            parts.unpriced_lines += sums.unpriced_lines
        assert total == parts, dimension
        # A call with several classes counts in the group of each.
        assert replace(total, calls=everything.calls) == everything, dimension
        assert (total.calls == everything.calls) == (dimension != "usage_class")


def unarchived(api: Api) -> int:
    """Return how many entries are not in files yet."""
    answer = api.call(api.operations.GetServerStatus, operations_service_pb2.GetServerStatusRequest())
    return int(answer.unarchived_entries)


@pytest.mark.timeout(240)
def test_reports_equal_the_oracle_to_the_last_pico(replay: Replay) -> None:
    """Every sum by every dimension is the oracle's, while events are being archived and once all are."""
    assert_reports_equal_the_oracle(replay)
    deadline_s = time.monotonic() + 60
    while unarchived(replay.api):
        assert time.monotonic() < deadline_s, "the archiver does not keep up"
        time.sleep(0.2)
    assert_reports_equal_the_oracle(replay)


@pytest.mark.timeout(120)
def test_report_after_a_record_contains_it(server: ServerProcess) -> None:
    """A report sent right after a record was answered contains it, whatever the archiver is doing."""
    tenant = f"exact-{secrets.token_hex(6)}"
    deadline_s = time.monotonic() + 60
    with connect(server.address, server.admin_key) as api:
        count, archived = 0, False
        while count < RECORDS_THEN_REPORTS or not archived:
            assert time.monotonic() < deadline_s, "nothing is archived meanwhile"
            count += 1
            record = usage_pb2.UsageRecord(record_id=secrets.token_hex(16), tenant=tenant, model="gpt-5")
            record.usage.uncached_input_tokens = 1
            api.call(api.metering.Record, pb.RecordRequest(record=record))
            query = pb.ReportQuery(tenant=tenant)
            now_s = int(time.time())  # noqa: TID251 (the server's clock is the machine's)
            query.start_time.FromSeconds(now_s - 86_400)
            query.end_time.FromSeconds(now_s + 86_400)
            total = api.call(api.metering.Report, pb.ReportRequest(query=query)).total
            assert (total.calls, total.quantities["input"]) == (count, count)
            # Fewer entries wait than this test has made: the archiver has been at them.
            archived = archived or unarchived(api) < count
