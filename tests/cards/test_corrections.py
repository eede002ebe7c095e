# SPDX-License-Identifier: Apache-2.0
"""Records that should have said something else: taken back or amended, once, with nothing of the record changed."""

import random
import threading
from datetime import UTC, datetime, timedelta

import pytest
from cards.conftest import SECOND, meter_of
from conftest import FreshServer
from surface.forward_probe import wait_until

from harness.command_line import CommandLine
from harness.server_process import ServerProcess
from taximeter import (
    AbortedError,
    CorrectedRecord,
    CorrectionKind,
    ExportFormat,
    ForbiddenError,
    InvalidArgumentError,
    Limits,
    Measures,
    Meter,
    NotFoundError,
    PreconditionError,
    Role,
    Usage,
    new_record_id,
)

Interval = tuple[datetime, datetime]

GPT = Usage(uncached_input_tokens=1_000, visible_output_tokens=100)
GPT_PICOS = 7_500_000_000
HALF = Usage(uncached_input_tokens=500, reasoning_tokens=10)
HALF_PICOS = 2_500_000_000 + 250_000_000


def recorded(meter: Meter, tenant: str, at: datetime, usage: Usage = GPT) -> str:
    """Record a call of gpt-5 and return its id."""
    record_id = new_record_id()
    meter.record(tenant, usage, model="gpt-5", record_id=record_id, occur_time=at)
    return record_id


def total(meter: Meter, days: Interval, tenant: str) -> Measures:
    """Return what a tenant used on the day, corrections included."""
    return meter.report(*days, tenant=tenant).total


def net(measures: Measures) -> tuple[int, dict[str, int], int]:
    """Return calls, quantities that are not 0, and cost."""
    return measures.calls, {name: n for name, n in measures.quantities.items() if n}, measures.cost.picos


def test_a_void_takes_everything_back(meter: Meter, tenant: str, noon: datetime, days: Interval) -> None:
    """Calls, quantities and cost of the record come to nothing; the record and the correction stay."""
    kept, taken = recorded(meter, tenant, noon), recorded(meter, tenant, noon)

    found = meter.void_record(tenant, taken, reason="sent twice")

    assert (found.duplicate, found.previous_cost.picos, found.cost.picos) == (False, GPT_PICOS, 0)
    assert found.lines == ()
    assert net(total(meter, days, tenant)) == (1, {"input": 1_000, "output": 100}, GPT_PICOS)
    report = meter.report(*days, tenant=tenant, group_by=["entry_kind"])
    assert {row.group["entry_kind"]: net(row.measures) for row in report.rows} == {
        "usage": (2, {"input": 2_000, "output": 200}, 2 * GPT_PICOS),
        "void": (-1, {"input": -1_000, "output": -100}, -GPT_PICOS),
    }
    assert total(meter, days, tenant).adjustment_cost.picos == -GPT_PICOS
    (explained,) = meter.explain_record(taken, tenant=tenant)
    (correction,) = explained.adjustments
    assert (correction.kind, correction.record_id, correction.note, correction.calls) == (
        CorrectionKind.VOID,
        found.correction_id,
        "sent twice",
        -1,
    )
    assert (explained.cost.picos, explained.adjusted_cost.picos, explained.reproduced) == (GPT_PICOS, 0, True)
    assert meter.explain_record(kept)[0].adjustments == ()


def test_an_amendment_is_priced_by_the_records_own_card(
    meter: Meter, tenant: str, noon: datetime, days: Interval
) -> None:
    """The new quantities cost what they would have cost then, whatever the prices are since."""
    record_id = recorded(meter, tenant, noon)

    found = meter.amend_record(tenant, record_id, HALF, reason="miscounted")

    assert (found.previous_cost.picos, found.cost.picos) == (GPT_PICOS, HALF_PICOS)
    assert [(line.usage_class, line.quantity, line.priced_as) for line in found.lines] == [
        ("input", 500, "input"),
        ("reasoning", 10, "output"),
    ]
    assert net(total(meter, days, tenant)) == (1, {"input": 500, "reasoning": 10}, HALF_PICOS)
    by_class = meter.report(*days, tenant=tenant, group_by=["usage_class"])
    assert {row.group["usage_class"]: row.measures.calls for row in by_class.rows} == {
        "input": 1,
        "output": 0,
        "reasoning": 1,
    }
    by_pricing = meter.report(*days, tenant=tenant, group_by=["pricing"])
    assert {row.group["pricing"]: net(row.measures)[0] for row in by_pricing.rows} == {"priced": 1}


def test_corrections_are_idempotent(meter: Meter, tenant: str, noon: datetime, days: Interval) -> None:
    """Sending one again finds that the record says so already, and changes nothing."""
    record_id = recorded(meter, tenant, noon)

    same = meter.amend_record(tenant, record_id, GPT, reason="no change")
    first = meter.amend_record(tenant, record_id, HALF, reason="miscounted")
    again = meter.amend_record(tenant, record_id, HALF, reason="miscounted")
    back = meter.amend_record(tenant, record_id, GPT, reason="it was right")
    void = meter.void_record(tenant, record_id, reason="never happened")
    void_again = meter.void_record(tenant, record_id, reason="never happened")

    assert (same.duplicate, same.correction_id) == (True, "")
    assert (first.duplicate, again.duplicate, again.correction_id) == (False, True, first.correction_id)
    assert (again.cost, again.lines) == (first.cost, first.lines)
    assert (back.duplicate, back.cost.picos) == (False, GPT_PICOS)
    assert (void.duplicate, void_again.duplicate) == (False, True)
    assert void.correction_id == void_again.correction_id
    assert net(total(meter, days, tenant)) == (0, {}, 0)
    assert len(meter.explain_record(record_id, tenant=tenant)[0].adjustments) == 3


def test_refused(meter: Meter, tenant: str, noon: datetime) -> None:
    """A correction cannot be corrected, what is void stays void, and what is not there is said so."""
    record_id = recorded(meter, tenant, noon)
    correction_id = meter.void_record(tenant, record_id, reason="sent twice").correction_id

    with pytest.raises(PreconditionError, match="correction of") as of_correction:
        meter.void_record(tenant, correction_id, reason="undo")
    with pytest.raises(PreconditionError, match="taken back") as of_void:
        meter.amend_record(tenant, record_id, GPT, reason="undo")
    with pytest.raises(NotFoundError):
        meter.void_record(tenant, new_record_id(), reason="who knows")
    with pytest.raises(NotFoundError):
        meter.void_record("nobody", record_id, reason="another tenant's")
    with pytest.raises(InvalidArgumentError, match="occur_time"):
        meter.void_record(tenant, record_id, reason="then", occur_time=noon + timedelta(seconds=1))
    with pytest.raises(InvalidArgumentError, match="reason"):
        meter.void_record(tenant, record_id, reason=" ")
    with pytest.raises(InvalidArgumentError, match="visible_output_tokens"):
        meter.amend_record(tenant, record_id, Usage(visible_output_tokens=-1), reason="less than nothing")

    assert of_correction.value.reason == "RECORD_IS_CORRECTION"
    assert of_correction.value.metadata["record_id"] == record_id
    assert of_void.value.reason == "RECORD_VOIDED"


def test_only_admins_of_everything_correct(
    meter: Meter, card_server: ServerProcess, tenant: str, noon: datetime
) -> None:
    """Nobody takes back what they themselves are charged for."""
    record_id = recorded(meter, tenant, noon)
    for role, tenants in ((Role.METER, ()), (Role.READ, ()), (Role.ADMIN, (tenant,))):
        key = meter.create_key(role, tenants=tenants).secret
        with Meter(f"http://{card_server.address}", key=key) as other, pytest.raises(ForbiddenError):
            other.void_record(tenant, record_id, reason="mine")


def test_quotas_stay_as_they_are(meter: Meter, tenant: str) -> None:
    """What was counted against the day was decided by, and stays counted."""
    meter.put_tenant(tenant, Limits(tokens_per_day=10_000))
    record_id = new_record_id()
    meter.record(tenant, GPT, model="gpt-5", record_id=record_id)
    before = [limit.used for limit in meter.quota_status(tenant)]

    meter.void_record(tenant, record_id, reason="sent twice")

    assert [limit.used for limit in meter.quota_status(tenant)] == before


def test_prices_are_compared_with_what_a_record_is_now(
    meter: Meter, tenant: str, noon: datetime, days: Interval
) -> None:
    """A comparison leaves out what is void and prices an amended record as amended; adjusting it once is enough."""
    void, amended = recorded(meter, tenant, noon), recorded(meter, tenant, noon)
    unpriced = new_record_id()
    meter.record(tenant, GPT, model="mystery-1", record_id=unpriced, occur_time=noon)
    meter.void_record(tenant, void, reason="sent twice")
    meter.void_record(tenant, unpriced, reason="sent twice")
    meter.amend_record(tenant, amended, HALF, reason="miscounted")
    second_picos = 500 * 1_250_000 + 10 * 10_000_000

    compared = meter.compare_rate_cards(*days, card_b=SECOND, tenant=tenant).total
    posted = meter.post_adjustments(*days, card=SECOND, tenant=tenant, note="the card was wrong")
    again = meter.post_adjustments(*days, card=SECOND, tenant=tenant, note="the card was wrong")

    assert (compared.calls, compared.cost_a.picos, compared.cost_b.picos) == (1, HALF_PICOS, second_picos)
    assert (compared.unpriced_lines_a, compared.unpriced_lines_b) == (0, 0)
    assert (posted.adjustments_posted, again.adjustments_posted) == (1, 0)
    measures = total(meter, days, tenant)
    assert net(measures) == (1, {"input": 500, "reasoning": 10}, second_picos)
    assert measures.unpriced_lines == measures.adjusted_unpriced_lines == 2
    by_pricing = meter.report(*days, tenant=tenant, group_by=["pricing"])
    assert {row.group["pricing"]: net(row.measures)[1] for row in by_pricing.rows} == {
        "priced": {"input": 500, "reasoning": 10},
        "unpriced": {},
    }
    meter.void_record(tenant, amended, reason="never happened")
    assert net(total(meter, days, tenant)) == (0, {}, 0)


def test_own_prices_and_list_prices_are_taken_back(meter: Meter, tenant: str) -> None:
    """Both prices of a line come to nothing."""
    meter.put_tenant_prices(tenant, "billing: {markup_basis_points: 1000}")
    # Events may be dated ahead, so nobody has to wait for prices to take force.
    at = datetime.now(UTC) + timedelta(minutes=1)  # noqa: TID251
    around = (at - timedelta(hours=1), at + timedelta(hours=1))
    record_id = recorded(meter, tenant, at)

    amended = meter.amend_record(tenant, record_id, HALF, reason="miscounted")

    measures = total(meter, around, tenant)
    assert (measures.cost.picos, measures.list_cost.picos) == (HALF_PICOS * 11 // 10, HALF_PICOS)
    assert amended.cost == measures.cost
    meter.void_record(tenant, record_id, reason="never happened")
    measures = total(meter, around, tenant)
    assert (measures.cost.picos, measures.list_cost.picos) == (0, 0)


def test_at_the_same_time(card_server: ServerProcess, meter: Meter, tenant: str, noon: datetime) -> None:
    """Of many who correct one record at once each learns what became of it, and the record is as one of them said."""
    record_id = recorded(meter, tenant, noon)
    answers: list[CorrectedRecord | AbortedError] = []

    def correct(tokens: int) -> None:
        with meter_of(card_server) as mine:
            try:
                usage = Usage(uncached_input_tokens=tokens)
                answers.append(mine.amend_record(tenant, record_id, usage, reason=f"it was {tokens}"))
            except AbortedError as error:
                answers.append(error)

    threads = [threading.Thread(target=correct, args=(tokens,)) for tokens in (1, 2, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    (explained,) = meter.explain_record(record_id, tenant=tenant)
    made = [one for one in answers if isinstance(one, CorrectedRecord) and not one.duplicate]
    assert len(answers) == len(threads)
    assert len(explained.adjustments) == len({one.correction_id for one in made})
    assert explained.adjusted_cost.picos in {tokens * 5_000_000 for tokens in (1, 2, 3)}


def test_exported_as_correction(meter: Meter, tenant: str, noon: datetime, days: Interval) -> None:
    """FOCUS tells the lines of a correction by their charge class, at the price that was charged."""
    record_id = recorded(meter, tenant, noon)
    meter.void_record(tenant, record_id, reason="sent twice")

    text = b"".join(meter.export_report(*days, tenant=tenant, file_format=ExportFormat.FOCUS)).decode()

    head, *rows = [line.split(",") for line in text.strip().splitlines()]
    places = [head.index(name) for name in ("ChargeClass", "BilledCost", "ConsumedQuantity")]
    found = sorted(tuple(row[place].strip('"') for place in places) for row in rows)
    assert [(name, quantity) for name, _, quantity in found] == [
        ("", "100"),
        ("", "1000"),
        ("Correction", "-100"),
        ("Correction", "-1000"),
    ]


def test_command_line(meter: Meter, taximeter: CommandLine, tenant: str, noon: datetime) -> None:
    """Void and amend say what became of the record; explain shows it."""
    record_id = recorded(meter, tenant, noon)
    options = ("--tenant", tenant, "--reason", "miscounted", "--output", "json")

    amended = taximeter.json("record", "amend", record_id, "--input-tokens", "500", *options)
    void = taximeter.json("record", "void", record_id, *options)
    text = taximeter("rate-card", "explain", record_id).stdout

    assert (amended["previous_cost"], amended["cost"]) == ("0.0075", "0.0025")
    assert amended["lines"][0]["quantity"] == 500
    assert (void["cost"], void["duplicate"], void["lines"]) == ("0.00", False, [])
    assert f"Void {void['correction_id']}" in text
    assert "-500: -500 x 5 / 1,000,000 = -0.0025 USD" in text


def test_levels_on_the_command_line(taximeter: CommandLine, tenant: str, noon: datetime) -> None:
    """A reading of a level answers what the level before has come to."""
    at = [(noon + timedelta(hours=hours)).isoformat() for hours in (0, 2)]

    taximeter("record", "level", tenant, "sessions", "1000", "--at", at[0])
    found = taximeter.json("record", "level", tenant, "sessions", "0", "--at", at[1], "--output", "json")

    assert found["byte_hours"] == 2_000


def test_files_streams_and_journal_agree(fresh_server: FreshServer, noon: datetime, days: Interval) -> None:
    """Whatever was amended or taken back, from files or streams, before or after a crash, the sums are what is left."""
    server = fresh_server()
    chance = random.Random(7)
    expected: dict[str, Usage | None] = {}
    with meter_of(server) as meter:
        for _ in range(40):
            expected[recorded(meter, "acme", noon)] = GPT
        wait_until(lambda: meter.server_status().unarchived_entries == 0, timeout_s=60)
        for _ in range(10):
            expected[recorded(meter, "acme", noon)] = GPT
        for record_id in chance.sample(sorted(expected), 25):
            usage = chance.choice((None, HALF, Usage(tool_calls=2), Usage()))
            if usage is None:
                meter.void_record("acme", record_id, reason="sent twice")
            else:
                meter.amend_record("acme", record_id, usage, reason="miscounted")
            expected[record_id] = usage
        before = net(total(meter, days, "acme"))
    server.kill()
    server.start()
    with meter_of(server) as meter:
        assert net(total(meter, days, "acme")) == before
    kept = [usage for usage in expected.values() if usage is not None]
    assert before[0] == len(kept)
    assert before[1]["input"] == sum(usage.uncached_input_tokens for usage in kept)
    assert before[2] == GPT_PICOS * kept.count(GPT) + HALF_PICOS * kept.count(HALF)
