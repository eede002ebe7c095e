# SPDX-License-Identifier: Apache-2.0
"""Adjustments: posted once, told apart, counted in no quota, and safe to post again whatever happens meanwhile."""

import threading
from datetime import datetime
from pathlib import Path

import pytest
from cards.conftest import NEW_PRICES, SECOND, meter_of
from conftest import FreshServer
from surface.forward_probe import wait_until

from harness.command_line import CommandLine
from harness.server_process import ServerProcess
from taximeter import (
    CardReference,
    ForbiddenError,
    InvalidArgumentError,
    Limits,
    Meter,
    PostedAdjustments,
    Role,
    ServerError,
    Usage,
    UsageRecord,
    new_record_id,
)

Interval = tuple[datetime, datetime]

FIRST = CardReference(version=1)
GPT = Usage(uncached_input_tokens=1_000, visible_output_tokens=100)
CHARGED_PICOS, CORRECTED_PICOS = 7_500_000_000, 2_250_000_000


def record_gpt(meter: Meter, tenant: str, at: datetime, count: int) -> None:
    """Record so many equal calls."""
    for first in range(0, count, 500):
        records = [
            UsageRecord(
                record_id=f"{tenant}-{number}", tenant=tenant, usage=GPT, model="gpt-5", occur_time=at
            )
            for number in range(first, min(first + 500, count))
        ]
        assert all(item.recorded for item in meter.record_batch(records))


def post(meter: Meter, days: Interval, tenant: str, card: CardReference = SECOND) -> PostedAdjustments:
    """Charge a tenant by a card."""
    return meter.post_adjustments(*days, card=card, tenant=tenant, note="the card was wrong")


def charged_picos(meter: Meter, days: Interval, tenant: str) -> tuple[int, int, int]:
    """Return what a tenant is charged, how much of it is adjustments, and its calls."""
    total = meter.report(*days, tenant=tenant).total
    return total.cost.picos, total.adjustment_cost.picos, total.calls


def test_differences_are_posted_once(meter: Meter, tenant: str, noon: datetime, days: Interval) -> None:
    """Afterwards the report is that of the card; posting again posts nothing, and calls and tokens stay."""
    record_gpt(meter, tenant, noon, 3)

    first, again = post(meter, days, tenant), post(meter, days, tenant)

    assert (first.adjustments_posted, first.conflicts, again.adjustments_posted) == (3, 0, 0)
    assert (first.total.cost_a.picos, first.total.cost_b.picos) == (3 * CHARGED_PICOS, 3 * CORRECTED_PICOS)
    assert charged_picos(meter, days, tenant) == (
        3 * CORRECTED_PICOS,
        3 * (CORRECTED_PICOS - CHARGED_PICOS),
        3,
    )
    total = meter.report(*days, tenant=tenant).total
    assert total.quantities == {"input": 3_000, "output": 300}


def test_a_correction_can_be_corrected(meter: Meter, tenant: str, noon: datetime, days: Interval) -> None:
    """There and back and there again: what is charged is always that of the card posted last."""
    record_gpt(meter, tenant, noon, 2)

    found = []
    for card in (SECOND, FIRST, SECOND):
        post(meter, days, tenant, card)
        found.append(charged_picos(meter, days, tenant)[0])

    assert found == [2 * CORRECTED_PICOS, 2 * CHARGED_PICOS, 2 * CORRECTED_PICOS]


def test_unpriced_usage_is_priced_later(meter: Meter, tenant: str, noon: datetime, days: Interval) -> None:
    """Only the lines without a price change, and are known as priced since; what is priced is left alone."""
    meter.record(tenant, GPT, model="mystery-1", occur_time=noon)
    meter.record(tenant, GPT, model="gpt-5", occur_time=noon)

    posted = meter.post_adjustments(*days, card=SECOND, tenant=tenant, only_unpriced=True, note="no row")

    total = meter.report(*days, tenant=tenant).total
    assert posted.adjustments_posted == 1
    assert total.cost.picos == CHARGED_PICOS + 111_000_000 + 70_000_000
    assert (total.unpriced_lines, total.adjusted_unpriced_lines) == (2, 2)
    assert (
        meter.compare_rate_cards(
            *days, card_b=SECOND, tenant=tenant, only_unpriced=True
        ).total.unpriced_lines_a
        == 0
    )


def test_a_line_that_the_card_has_no_price_for_keeps_its_charge(
    meter: Meter, tenant: str, noon: datetime, days: Interval
) -> None:
    """Unpriced is a state, not zero: nothing is taken back because a card does not know a model."""
    meter.record(tenant, GPT, model="gpt-4o", occur_time=noon)
    before = charged_picos(meter, days, tenant)

    assert post(meter, days, tenant).adjustments_posted == 0
    assert charged_picos(meter, days, tenant) == before


def test_quotas_count_no_adjustments(meter: Meter, tenant: str, days: Interval) -> None:
    """What is used of a day's limits is the same before and after, up and down."""
    meter.put_tenant(tenant, Limits(tokens_per_day=10**6, cost_per_day_picos=10**12))
    meter.record(tenant, GPT, model="gpt-5")
    today = (days[1], days[1].replace(year=days[1].year + 1))
    before = meter.quota_status(tenant)

    assert post(meter, today, tenant).adjustments_posted == 1
    assert meter.quota_status(tenant) == before
    assert post(meter, today, tenant, FIRST).adjustments_posted == 1
    assert meter.quota_status(tenant) == before


def test_two_who_post_the_same_post_it_once(
    meter: Meter, tenant: str, noon: datetime, days: Interval
) -> None:
    """At the same time, and even different cards: no record is corrected twice from the same state."""
    record_gpt(meter, tenant, noon, 600)
    answers: list[PostedAdjustments] = []
    cards = (SECOND, SECOND, CardReference(version=2))
    threads = [
        threading.Thread(target=lambda card=card: answers.append(post(meter, days, tenant, card)))
        for card in cards
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sum(answer.adjustments_posted for answer in answers) == 600
    assert charged_picos(meter, days, tenant)[0] == 600 * CORRECTED_PICOS


def test_a_server_killed_in_the_middle_is_finished_by_posting_again(
    fresh_server: FreshServer, tenant: str, noon: datetime, days: Interval
) -> None:
    """What was posted is still there, what was not is posted, and nothing is posted twice."""
    server: ServerProcess = fresh_server()
    count = 2_500
    with meter_of(server) as meter:
        card = CardReference(version=meter.publish_rate_card(NEW_PRICES).entry.version)
        record_gpt(meter, tenant, noon, count)

        def kill(_records_read: int) -> None:
            server.kill()

        with pytest.raises(ServerError):
            meter.post_adjustments(*days, card=card, tenant=tenant, note="killed", on_progress=kill)
    server.restart()
    with meter_of(server) as meter:
        cost, adjustment, _ = charged_picos(meter, days, tenant)
        again = post(meter, days, tenant, card)
        difference = CORRECTED_PICOS - CHARGED_PICOS

        assert cost == count * CHARGED_PICOS + adjustment
        assert adjustment % difference == 0
        assert 0 < adjustment // difference < count
        assert again.adjustments_posted == count - adjustment // difference
        assert charged_picos(meter, days, tenant)[0] == count * CORRECTED_PICOS


def test_adjustments_outlive_a_store_that_loses_them(
    fresh_server: FreshServer, tenant: str, noon: datetime, days: Interval
) -> None:
    """They stand in the journal as records do: server and store killed together, nothing is lost or doubled."""
    server: ServerProcess = fresh_server()
    with meter_of(server) as meter:
        card = CardReference(version=meter.publish_rate_card(NEW_PRICES).entry.version)
        record_gpt(meter, tenant, noon, 20)
        post(meter, days, tenant, card)
    server.kill_store()
    server.kill()
    server.restart()

    with meter_of(server) as meter:
        assert charged_picos(meter, days, tenant)[0] == 20 * CORRECTED_PICOS
        assert post(meter, days, tenant, card).adjustments_posted == 0


def test_only_an_admin_of_all_tenants_may_post(
    meter: Meter, card_server: ServerProcess, tenant: str, noon: datetime, days: Interval
) -> None:
    """A tenant can never change what it is charged: not with a read key, nor as an admin of its own."""
    record_gpt(meter, tenant, noon, 1)
    for role, tenants in ((Role.READ, []), (Role.METER, []), (Role.ADMIN, [tenant])):
        secret = meter.create_key(role, tenants=tenants).secret
        with Meter(f"http://{card_server.address}", key=secret) as other, pytest.raises(ForbiddenError):
            post(other, days, tenant)

    assert charged_picos(meter, days, tenant)[0] == CHARGED_PICOS


@pytest.mark.parametrize(
    ("card", "note", "field"),
    [
        (SECOND, " ", "note"),
        (SECOND, "n" * 1_001, "note"),
        (CardReference(yaml=NEW_PRICES), "why", "card.yaml"),
    ],
)
def test_bad_requests_name_the_field(
    meter: Meter, days: Interval, card: CardReference, note: str, field: str
) -> None:
    """A note that says why, and a published card that adjustments can name, are required."""
    with pytest.raises(InvalidArgumentError) as caught:
        meter.post_adjustments(*days, card=card, note=note)

    assert [violation.field for violation in caught.value.field_violations] == [field]


def test_the_command_line_asks_before_it_posts(
    taximeter: CommandLine, meter: Meter, tenant: str, noon: datetime, card_file: Path
) -> None:
    """It shows the comparison, asks, and posts after yes only; --yes does not ask."""
    record_gpt(meter, tenant, noon, 2)
    day = ("--period", noon.date().isoformat(), "--tenant", tenant)
    posting = ("rate-card", "compare", "recorded", "v2", *day, "--post-adjustments", "--note", "a typo")

    asked = taximeter(*posting, stdin="n\n", status=1)
    assert "Post adjustments of -0.0105 USD for 2 records?" in asked.stderr
    assert taximeter.json("rate-card", "compare", "recorded", "v2", *day)["total"]["changed_records"] == 2

    document = taximeter.json(*posting, "--yes")
    assert (document["adjustments_posted"], document["total"]["difference"]) == (2, "-0.0105")
    assert "nothing to post" in taximeter(*posting).stderr

    for arguments, problem in (
        (("v1", "v2", "--note", "x"), "A must be recorded"),
        (("recorded", str(card_file), "--note", "x"), "publish"),
        (("recorded", "v2"), "--note"),
    ):
        refused = taximeter("rate-card", "compare", *arguments, *day, "--post-adjustments", status=2)
        assert problem in refused.stderr


def test_a_tenants_own_prices_stay_its_own(fresh_server: FreshServer, tenant: str, days: Interval) -> None:
    """A correction of the card keeps the markup that the tenant had when the usage happened."""
    server: ServerProcess = fresh_server()
    with meter_of(server) as meter:
        own = meter.put_tenant_prices(tenant, "billing: {markup_basis_points: 1000}").entry
        version = meter.publish_rate_card(NEW_PRICES).entry.version
        probe = f"{tenant}-probe"
        assert wait_until(
            lambda: meter.record(probe, GPT, model="gpt-5").cost.picos == CORRECTED_PICOS, timeout_s=20
        )
        today = (days[1], days[1].replace(year=days[1].year + 1))
        record_id = new_record_id()
        meter.record(tenant, GPT, model="gpt-5", record_id=record_id)

        posted = post(meter, today, tenant, FIRST)

        (found,) = meter.explain_record(record_id)
        assert posted.adjustments_posted == 1
        assert (found.tenant_prices_version, found.list_cost.picos) == (own.version, CORRECTED_PICOS)
        assert (found.cost.picos, found.reproduced) == (CORRECTED_PICOS * 11 // 10, True)
        assert found.adjusted_cost.picos == CHARGED_PICOS * 11 // 10
        post(meter, today, tenant, CardReference(version=version))
        total = meter.report(*today, tenant=tenant).total
        assert total.cost.picos == CORRECTED_PICOS * 11 // 10
        assert post(meter, today, tenant, CardReference(version=version)).adjustments_posted == 0
