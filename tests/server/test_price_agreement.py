# SPDX-License-Identifier: Apache-2.0
"""Two instances on one store, prices that change all the time, and events around every change: never a difference."""

import random
import secrets
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from server.api import Api, connect

from harness.server_process import ServerProcess
from harness.store_process import StoreProcess
from taximeter.clock import system_clock_ms
from taximeter.v1 import metering_service_pb2 as pb
from taximeter.v1 import rate_card_service_pb2 as cards_pb

TENANTS = ("acme", "acme/a", "acme/a/b", "globex")
"""Own prices are set for the first two; the third inherits them, and the last pays what the card says."""
TOKENS = 1_000_003
BATCH = 200
LEAD_MS = 6_500
RECORDERS = 3


@dataclass(frozen=True, slots=True)
class Answer:
    """What one instance made of one event."""

    occur_time_ms: int
    tenant: str
    instance: int
    rate_card_id: str
    tenant_prices_version: int
    cost_picos: int


@dataclass(slots=True)
class Run:
    """Everything that the threads share. effective_ms: of every change so far, withdrawn ones too."""

    apis: list[Api]
    effective_ms: list[int] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    changing: threading.Event = field(default_factory=threading.Event)


@pytest.fixture
def apis(tmp_path: Path) -> Iterator[list[Api]]:
    """Two real instances on one store and one ledger, called with the first one's admin key."""
    with ExitStack() as stack:
        short = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tx")))
        store = stack.enter_context(StoreProcess(short / "store"))
        arguments = ["--store", store.url, "--ledger", str(tmp_path / "ledger")]
        servers = [
            stack.enter_context(ServerProcess(tmp_path / name, arguments=arguments)) for name in ("a", "b")
        ]
        key = servers[0].admin_key
        yield [stack.enter_context(connect(server.address, key)) for server in servers]


def price_of(version: int) -> int:
    """Return the price of the card published as this version: no two cards have the same."""
    return 1_000 + version


def change(run: Run, number: int, chance: random.Random, spacing_ms: int) -> None:
    """Change prices once, through one instance or the other; now and then withdraw what was about to come."""
    api = run.apis[number % len(run.apis)]
    at_ms = max(system_clock_ms() + LEAD_MS, max(run.effective_ms, default=0) + spacing_ms)
    effective_time = Timestamp()
    effective_time.FromMilliseconds(at_ms)
    # Before anybody is told, so that events fall around it whatever becomes of it.
    run.effective_ms.append(at_ms)
    kind = number % 4
    if kind == 1:
        basis_points = chance.randrange(-9_000, 9_000)
        put = cards_pb.PutTenantPricesRequest(
            tenant=chance.choice(TENANTS[:2]),
            yaml=f"billing: {{markup_basis_points: {basis_points}}}",
            effective_time=effective_time,
        )
        api.call(api.rate_cards.PutTenantPrices, put)
        return
    yaml = f"billing: {{rate_card: {{m: {{input: {price_of(number)}e-3}}}}}}"
    publish = cards_pb.PublishRateCardRequest(yaml=yaml, effective_time=effective_time)
    entry = api.call(api.rate_cards.PublishRateCard, publish).entry
    if kind == 3:
        # Through the other instance, at the last moment.
        other = run.apis[(number + 1) % len(run.apis)]
        other.call(other.rate_cards.WithdrawRateCard, cards_pb.WithdrawRateCardRequest(version=entry.version))


def change_all(run: Run, count: int, spacing_ms: int) -> None:
    """Change prices count times, then wait until the last change has taken force."""
    chance = random.Random(count)
    try:
        for number in range(count):
            change(run, number, chance, spacing_ms)
            ahead_ms = run.effective_ms[-1] - system_clock_ms() - LEAD_MS
            time.sleep(max(ahead_ms, 0) / 1_000)
        time.sleep(max(run.effective_ms[-1] - system_clock_ms() + 300, 0) / 1_000)
    finally:
        run.changing.clear()


def record_until_done(run: Run, number: int) -> None:
    """Send the same events to both instances, each under ids of its own, while prices change."""
    chance = random.Random(number)
    while run.changing.is_set():
        now_ms = system_clock_ms()
        past = [at_ms for at_ms in list(run.effective_ms) if now_ms - 60_000 < at_ms < now_ms]
        events = [(event_time_ms(chance, now_ms, past), chance.choice(TENANTS)) for _ in range(BATCH)]
        for instance in chance.sample(range(len(run.apis)), len(run.apis)):
            answers = record_batch(run.apis[instance], instance, events)
            with run.lock:
                run.answers += answers


def event_time_ms(chance: random.Random, now_ms: int, past: list[int]) -> int:
    """Return an instant that has passed: just now, or within a few milliseconds of a change."""
    if past and chance.random() < 0.7:
        return min(chance.choice(past) + chance.choice((-2, -1, 0, 0, 1)), now_ms)
    return now_ms - chance.randrange(500)


def record_batch(api: Api, instance: int, events: list[tuple[int, str]]) -> list[Answer]:
    """Record events through one instance; what it refuses to price yet is sent again until it does."""
    request = pb.RecordBatchRequest()
    for time_ms, tenant in events:
        record = request.records.add(record_id=secrets.token_hex(16), tenant=tenant, model="m")
        record.usage.uncached_input_tokens = TOKENS
        record.occur_time.FromMilliseconds(time_ms)
    while True:
        results = api.call(api.metering.RecordBatch, request).results
        if all(result.HasField("response") for result in results):
            break
        time.sleep(0.1)
    return [
        Answer(
            time_ms,
            tenant,
            instance,
            response.rate_card_id,
            response.tenant_prices_version,
            response.cost.units * 10**12 + response.cost.picos,
        )
        for (time_ms, tenant), response in zip(events, (result.response for result in results), strict=True)
    ]


class FinalTimeline:
    """The oracle: what the whole timeline, as it stands in the end, says about an instant."""

    def __init__(self, api: Api) -> None:
        request = cards_pb.ListRateCardsRequest(page_size=1_000)
        entries = list(api.call(api.rate_cards.ListRateCards, request).entries)
        self.entries = [entry for entry in reversed(entries) if not entry.withdrawn]
        self.withdrawn_count = len(entries) - len(self.entries)
        self._prices = {
            entry.rate_card_id: self._price(api, entry.rate_card_id)
            for entry in self.entries
            if entry.rate_card_id
        }
        self._factors = {
            entry.version: self._factor(api, entry)
            for entry in self.entries
            if entry.kind == cards_pb.RATE_CARD_ENTRY_KIND_TENANT_PRICES
        }

    @staticmethod
    def _price(api: Api, rate_card_id: str) -> Fraction | None:
        yaml = api.call(
            api.rate_cards.GetRateCard, cards_pb.GetRateCardRequest(rate_card_id=rate_card_id)
        ).yaml
        _, found, price = yaml.partition("{m: {input: ")
        return Fraction(price.partition("}")[0]) if found else None

    @staticmethod
    def _factor(api: Api, entry: cards_pb.RateCardEntry) -> Fraction:
        request = cards_pb.GetTenantPricesRequest(tenant=entry.tenant, at_time=entry.effective_time)
        yaml = api.call(api.rate_cards.GetTenantPrices, request).yaml
        return Fraction(10_000 + int(yaml.rpartition(": ")[2].rstrip("}")), 10_000)

    def expected(self, answer: Answer) -> Answer:
        """Return what any instance must make of an event."""
        due = [e for e in self.entries if e.effective_time.ToMilliseconds() <= answer.occur_time_ms]
        card = [e for e in due if e.kind == cards_pb.RATE_CARD_ENTRY_KIND_CARD][-1]
        version, factor = 0, Fraction(1)
        level = answer.tenant
        while level and not version:
            own = [e for e in due if e.tenant == level]
            if own:
                version, factor = own[-1].version, self._factors[own[-1].version]
            level = level.rpartition("/")[0]
        price = self._prices[card.rate_card_id]
        cost_picos = 0 if price is None else round(price * factor * TOKENS * 10**6)
        return Answer(
            answer.occur_time_ms, answer.tenant, answer.instance, card.rate_card_id, version, cost_picos
        )


@pytest.mark.parametrize(
    ("changes", "spacing_ms", "events_min"),
    [
        (8, 250, 400),
        pytest.param(20, 2_500, 100_000, marks=[pytest.mark.wide, pytest.mark.timeout(600)]),
    ],
    ids=["small", "wide"],
)
def test_no_two_instances_price_one_instant_differently(
    apis: list[Api], changes: int, spacing_ms: int, events_min: int
) -> None:
    """Each event is priced by both instances, while prices change, as the timeline says in the end."""
    run = Run(apis)
    run.changing.set()
    with ThreadPoolExecutor(RECORDERS + 1) as pool:
        tasks = [pool.submit(change_all, run, changes, spacing_ms)]
        tasks += [pool.submit(record_until_done, run, number) for number in range(RECORDERS)]
        for task in tasks:
            task.result()
    timeline = FinalTimeline(apis[0])
    differences = [
        (answer, expected) for answer in run.answers if (expected := timeline.expected(answer)) != answer
    ]
    events = len(run.answers) // len(apis)
    print(f"{events:,} events, {changes} changes, {len(differences)} differences")  # noqa: T201 (figures)

    assert differences == [], differences[:5]
    assert events >= events_min
    assert timeline.withdrawn_count == changes // 4
    # All of it has happened, on both instances: every standing change has priced something.
    for instance in range(len(apis)):
        seen = {answer.rate_card_id for answer in run.answers if answer.instance == instance}
        assert seen >= {entry.rate_card_id for entry in timeline.entries[1:] if entry.rate_card_id}
