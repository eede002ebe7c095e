# SPDX-License-Identifier: Apache-2.0
"""A bounded load of records with known ids and known costs, kept up through whatever happens to the server.

Each record carries its id in the attribute "seq" too, so that a report can tell records apart. Workers send one
record until it is answered, or give up; what was sent and what was acknowledged is kept for the oracle.
"""

import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from taximeter.clock import system_clock_ms
from taximeter.record_id import RecordIds
from taximeter.v1 import metering_service_pb2, metering_service_pb2_grpc, usage_pb2

PICOS_PER_TOKEN = {
    "claude-opus-4-7": {"input": 15_000_000, "output": 75_000_000, "cache_read": 1_500_000},
    "claude-sonnet-4-6": {"input": 3_000_000, "output": 15_000_000, "cache_read": 300_000},
    "gpt-4o": {"input": 2_500_000, "output": 10_000_000},
    "gpt-5": {"input": 5_000_000, "output": 25_000_000},
}
"""Prices of the card that a new server starts with."""

RPC_TIMEOUT_S = 2.5
"""The server answers or fails within 2 s."""
ANSWER_LIMIT_S = 2.1
BATCH_SIZE = 10
RETRY_DELAY_S = 0.02
GIVE_UP_SHARE = 0.02
"""Share of failed attempts after which a caller does not try again."""
RETRYABLE = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED})
_RETRYABLE_NUMBERS = frozenset(code.value[0] for code in RETRYABLE)
_CHANNEL_OPTIONS = (
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 200),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
)

COMMITTED = metering_service_pb2.DURABILITY_COMMITTED
JOURNALED = metering_service_pb2.DURABILITY_JOURNALED
VOLATILE = metering_service_pb2.DURABILITY_VOLATILE


def tenant_names(count: int) -> list[str]:
    """Return tenants of one, two and three levels, of about count / 2 different roots."""
    return [f"root-{n // 2}{('', '/team', '/team/ann')[n % 3]}" for n in range(count)]


def open_channel(address: str) -> grpc.Channel:
    """Return a channel of its own connection that looks for a restarted server every 200 ms at least."""
    return grpc.insecure_channel(address, options=_CHANNEL_OPTIONS)


def picos_of(money: Any) -> int:
    """Return a Money in pico-units."""
    return int(money.units) * 10**12 + int(money.picos)


@dataclass(frozen=True, slots=True)
class Sent:
    """A record that was sent at least once, what it must cost, and the quota tokens it uses."""

    record: usage_pb2.UsageRecord
    cost_picos: int
    quota_tokens: int

    @property
    def seq(self) -> str:
        """Name of the record in reports."""
        return self.record.attributes["seq"]


@dataclass(slots=True)
class Tally:
    """What a worker, or all of them, did."""

    sent: dict[str, Sent] = field(default_factory=dict)
    acknowledged: dict[str, int] = field(default_factory=dict)
    """Durability of the acknowledgement by the record's name."""
    acknowledge_time_s: dict[str, float] = field(default_factory=dict)
    """time.monotonic() at the acknowledgement by the record's name."""
    problems: list[str] = field(default_factory=list)
    failures: list[tuple[float, grpc.StatusCode]] = field(default_factory=list)
    """Failed calls: time.monotonic() when they were sent, and how they failed."""
    slowest_answer_s: float = 0.0

    def add(self, other: "Tally") -> None:
        """Add what another did."""
        self.sent |= other.sent
        self.acknowledged |= other.acknowledged
        self.acknowledge_time_s |= other.acknowledge_time_s
        self.problems += other.problems
        self.failures += other.failures
        self.slowest_answer_s = max(self.slowest_answer_s, other.slowest_answer_s)


class RecordMaker:
    """Makes records, the same ones for the same seed but for ids and times."""

    def __init__(self, name: str, tenants: Sequence[str], *, seed: int) -> None:
        """name: prefix of the records' names, unlike that of every other maker."""
        self._name = name
        self._tenants = tenants
        self._random = random.Random(f"{name} {seed}")
        self._record_ids = RecordIds()
        self._count = 0

    def make(self) -> Sent:
        """Return the next record: every second one with a dated id, the others without a date."""
        self._count += 1
        seq = f"{self._name}-{self._count:08d}"
        model = self._random.choice(sorted(PICOS_PER_TOKEN))
        prices = PICOS_PER_TOKEN[model]
        quantities = {usage_class: self._random.randint(1, 100_000) for usage_class in prices}
        now_ms = system_clock_ms()
        record = usage_pb2.UsageRecord(
            record_id=self._record_ids.new() if self._count % 2 else f"undated-{seq}",
            tenant=self._random.choice(self._tenants),
            model=model,
            usage=usage_pb2.Usage(
                uncached_input_tokens=quantities["input"],
                visible_output_tokens=quantities["output"],
                cache_read_tokens=quantities.get("cache_read", 0),
            ),
            occur_time=Timestamp(seconds=now_ms // 1000, nanos=now_ms % 1000 * 1_000_000),
            attributes={"seq": seq},
        )
        return Sent(
            record,
            cost_picos=sum(prices[name] * quantity for name, quantity in quantities.items()),
            quota_tokens=quantities["input"] + quantities["output"],
        )


class Load:
    """Threads that record until stopped. Usable as a context manager; read `tally` after it has stopped."""

    def __init__(
        self,
        address: str,
        key: str,
        *,
        seed: int,
        name: str = "load",
        tenant_count: int = 20,
        single_count: int = 3,
        batch_count: int = 1,
        pause_s: float = 0.004,
    ) -> None:
        """single_count: threads of Record. batch_count: threads of RecordBatch. pause_s: between two calls."""
        self._address = address
        self._metadata = (("authorization", f"Bearer {key}"),)
        self._pause_s = pause_s
        self._stopping = threading.Event()
        self.tally = Tally()
        self.tenants = tenant_names(tenant_count)
        self.tallies: list[Tally] = []
        self._threads: list[threading.Thread] = []
        for number in range(single_count + batch_count):
            maker = RecordMaker(f"{name}-{number}", self.tenants, seed=seed)
            tally = Tally()
            size = 1 if number < single_count else BATCH_SIZE
            arguments = (maker, tally, random.Random(f"{name} {number} {seed}"), size)
            self.tallies.append(tally)
            self._threads.append(threading.Thread(target=self._work, args=arguments, daemon=True))

    def __enter__(self) -> Self:
        """Start all threads."""
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop all threads."""
        self.stop()

    @property
    def acknowledged_count(self) -> int:
        """Records acknowledged so far."""
        return sum(len(tally.acknowledged) for tally in self.tallies)

    def stop(self) -> Tally:
        """Stop all threads; attempts under way are finished, failed ones are given up. Safe to call twice."""
        if not self._stopping.is_set():
            self._stopping.set()
            for thread in self._threads:
                thread.join(RPC_TIMEOUT_S * 4)
                if thread.is_alive():
                    self.tally.problems.append("a worker hangs")
            for tally in self.tallies:
                self.tally.add(tally)
        return self.tally

    def _work(self, maker: RecordMaker, tally: Tally, rng: random.Random, size: int) -> None:
        try:
            with open_channel(self._address) as channel:
                stub = metering_service_pb2_grpc.MeteringServiceStub(channel)
                while not self._stopping.is_set():
                    group = [maker.make() for _ in range(size)]
                    tally.sent |= {sent.seq: sent for sent in group}
                    self._send(stub, group, tally, rng)
                    time.sleep(self._pause_s)
        except Exception as error:  # noqa: BLE001 (a thread must say why it ended)
            tally.problems.append(f"a worker ended: {error!r}")

    def _send(self, stub: Any, group: list[Sent], tally: Tally, rng: random.Random) -> None:
        """Send what is not yet acknowledged, until it is or the caller gives up."""
        call = self._call_single if len(group) == 1 else self._call_batch
        left = group
        while left:
            started = time.monotonic()
            try:
                left = call(stub, left, tally)
            except grpc.RpcError as error:
                tally.failures.append((started, error.code()))
                if error.code() not in RETRYABLE:
                    tally.problems.append(f"{error.code()}: {error.details()}")
            tally.slowest_answer_s = max(tally.slowest_answer_s, time.monotonic() - started)
            if left:
                if self._stopping.is_set() or rng.random() < GIVE_UP_SHARE:
                    return
                time.sleep(RETRY_DELAY_S)

    def _call_single(self, stub: Any, group: list[Sent], tally: Tally) -> list[Sent]:
        (sent,) = group
        request = metering_service_pb2.RecordRequest(record=sent.record)
        response = stub.Record(request, metadata=self._metadata, timeout=RPC_TIMEOUT_S)
        _acknowledge(sent, response, tally)
        return []

    def _call_batch(self, stub: Any, group: list[Sent], tally: Tally) -> list[Sent]:
        request = metering_service_pb2.RecordBatchRequest(records=[sent.record for sent in group])
        results = stub.RecordBatch(request, metadata=self._metadata, timeout=RPC_TIMEOUT_S).results
        left = []
        for sent, result in zip(group, results, strict=True):
            if result.HasField("response"):
                _acknowledge(sent, result.response, tally)
            else:
                left.append(sent)
                if result.error.code not in _RETRYABLE_NUMBERS:
                    tally.problems.append(f"{sent.seq}: {result.error.code} {result.error.message}")
        return left


def _acknowledge(sent: Sent, response: Any, tally: Tally) -> None:
    tally.acknowledged[sent.seq] = response.durability
    tally.acknowledge_time_s[sent.seq] = time.monotonic()
    if picos_of(response.cost) != sent.cost_picos:
        tally.problems.append(
            f"{sent.seq} costs {sent.cost_picos} and was answered {picos_of(response.cost)}"
        )


def record_again(
    channel: grpc.Channel, key: str, sents: Iterable[Sent], *, check: Callable[[Sent, Any], None]
) -> None:
    """Send records again in batches and hand every answer to check. Raises grpc.RpcError."""
    stub = metering_service_pb2_grpc.MeteringServiceStub(channel)
    for group in _groups(list(sents), 200):
        request = metering_service_pb2.RecordBatchRequest(records=[sent.record for sent in group])
        metadata = (("authorization", f"Bearer {key}"),)
        results = stub.RecordBatch(request, metadata=metadata, timeout=10, wait_for_ready=True).results
        for sent, result in zip(group, results, strict=True):
            check(sent, result)


def _groups(sents: list[Sent], size: int) -> Iterator[list[Sent]]:
    for start in range(0, len(sents), size):
        yield sents[start : start + size]
