# SPDX-License-Identifier: Apache-2.0
"""Ledger entries for tests: plain values, their stored form, and a deterministic supply of varied ones."""

import random
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import google.protobuf
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_tools import protoc  # type: ignore[import-untyped]

from taximeter_server.ledger import KIND_ADJUSTMENT, KIND_VOID

REPOSITORY = Path(__file__).resolve().parents[2]
JUNE_US = 1_780_272_000_000_000  # 2026-06-01T00:00:00Z
DAY_US = 86_400_000_000

Encoder = Callable[["Entry"], bytes]


@dataclass(frozen=True, slots=True)
class ListPrice:
    """What the card would charge for a line whose tenant has its own prices; nothing when the card has no price."""

    priced_as: str = ""
    billed_quantity: int = 0
    amount_picos: int = 0
    per: int = 0
    cost_picos: int = 0


@dataclass(frozen=True, slots=True)
class Line:
    """One usage class of an entry."""

    usage_class: str
    quantity: int
    cost_picos: int = 0
    unpriced: bool = False
    list_price: ListPrice = ListPrice()
    prices_unpriced: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    """One priced record. Times are since 1970 UTC."""

    tenant: str = "acme"
    occur_time_us: int = JUNE_US
    model: str = "claude-opus-4-7"
    provider: str = ""
    tier: str = ""
    region: str = ""
    speed: str = ""
    calls: int = 1
    rate_card_id: str = "ab" * 32
    tenant_prices_id: str = ""
    attributes: dict[str, str] = field(default_factory=dict)
    lines: tuple[Line, ...] = (Line("input", 1_000, 15_000_000),)
    record_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    occur_time_rest_nanos: int = 0
    kind: int = 0
    adjusted_record_id: str = ""


def make_encoder(directory: Path) -> Encoder:
    """Return what turns an Entry into a serialized taximeter.ledger.v1.LedgerEntry, after the proto itself."""
    descriptors = directory / "ledger.binpb"
    proto = "taximeter/ledger/v1/ledger_entry.proto"
    status = protoc.main(
        ["protoc", f"-I{REPOSITORY / 'proto'}", f"--descriptor_set_out={descriptors}", proto]
    )
    assert status == 0, google.protobuf.__version__
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(descriptors.read_bytes()).file:
        pool.Add(file)
    message = message_factory.GetMessageClass(pool.FindMessageTypeByName("taximeter.ledger.v1.LedgerEntry"))

    def encode(entry: Entry) -> bytes:
        return message(
            tenant=entry.tenant,
            record_id=entry.record_id,
            occur_time_nanos=entry.occur_time_us * 1_000 + entry.occur_time_rest_nanos,
            receive_time_ms=entry.occur_time_us // 1_000,
            model=entry.model,
            provider=entry.provider,
            tier=entry.tier,
            region=entry.region,
            speed=entry.speed,
            attributes=[{"key": key, "value": value} for key, value in sorted(entry.attributes.items())],
            quality=1,
            calls=entry.calls,
            rate_card_id=bytes.fromhex(entry.rate_card_id),
            rate_card_version=3 if entry.rate_card_id else 0,
            rate_card_row=entry.model,
            lines=[
                {
                    "usage_class": line.usage_class,
                    "priced_as": "" if line.unpriced else line.usage_class,
                    "quantity": line.quantity,
                    "billed_quantity": line.quantity,
                    "amount_picos": 0 if line.unpriced else 15_000_000_000_000,
                    "per": 0 if line.unpriced else 1_000_000,
                    "cost_picos": line.cost_picos,
                    "unpriced": line.unpriced,
                    **{f"list_{name}": value for name, value in asdict(line.list_price).items()},
                    "prices_unpriced": line.prices_unpriced,
                    "calls": entry.calls if entry.kind > KIND_ADJUSTMENT else 0,
                }
                for line in entry.lines
            ],
            cost_picos=sum(line.cost_picos for line in entry.lines),
            tenant_prices_version=4 if entry.tenant_prices_id else 0,
            tenant_prices_id=bytes.fromhex(entry.tenant_prices_id),
            list_cost_picos=sum(line.list_price.cost_picos for line in entry.lines),
            kind=entry.kind,
            adjusted_record_id=entry.adjusted_record_id,
        ).SerializeToString()

    return encode


TENANTS = ("acme", "acme/research", "acme/research/alice", "acmes", "globex", "initech/ops", "-dash", "a.b")
MODELS = ("claude-opus-4-7", "gpt-5", "=HYPERLINK(1)", 'quo"te, comma', "")
CLASSES = (
    *("input", "input_audio", "cache_read", "cache_read_image", "cache_write", "cache_write_1h", "output"),
    *("output_image", "reasoning", "tool_calls", "sandbox_ms", "storage_byte_hours", "custom_class"),
)


def varied_entries(count: int, *, seed: int, days: int = 20, start_us: int = JUNE_US) -> Iterator[Entry]:
    """Yield entries that differ in everything a report can group or filter by."""
    chance = random.Random(seed)
    for _ in range(count):
        classes = chance.sample(CLASSES, chance.choice((0, 1, 2, 3, 5)))
        yield Entry(
            tenant=chance.choice(TENANTS),
            occur_time_us=start_us + chance.randrange(days * DAY_US),
            occur_time_rest_nanos=chance.randrange(1_000),
            model=chance.choice(MODELS),
            provider=chance.choice(("anthropic", "openai", "")),
            tier=chance.choice(("", "batch", "priority")),
            region=chance.choice(("", "eu")),
            speed=chance.choice(("", "fast")),
            calls=chance.choice((1, 1, 1, 7)),
            rate_card_id=chance.choice(("", "ab" * 32, "cd" * 32)),
            attributes={
                key: chance.choice(("x", "y", ""))
                for key in chance.sample(("team", "a-b.c", "n"), chance.randrange(4))
            },
            lines=tuple(_varied_line(chance, usage_class) for usage_class in classes),
            record_id=str(uuid.UUID(int=chance.getrandbits(128))),
        )


def void_of(entry: Entry) -> Entry:
    """Return what takes an entry back."""
    lines = tuple(
        replace(
            line,
            quantity=-line.quantity,
            cost_picos=-line.cost_picos,
            unpriced=False,
            prices_unpriced=line.unpriced,
        )
        for line in entry.lines
    )
    return replace(
        entry,
        kind=KIND_VOID,
        calls=-entry.calls,
        lines=lines,
        adjusted_record_id=entry.record_id,
        record_id=f"adj-{entry.record_id}",
    )


def _varied_line(chance: random.Random, usage_class: str) -> Line:
    unpriced = chance.random() < 0.1
    cost_picos = 0 if unpriced else chance.choice((1, 500_000, 1_500_000, 10**12 + 7, 10**18 + 1))
    return Line(usage_class, chance.randrange(1, 10**10), cost_picos, unpriced)


def at(entry: Entry, time_us: int) -> Entry:
    """Return entry as if it had occurred at time_us, with a record_id of its own."""
    return replace(entry, occur_time_us=time_us, record_id=str(uuid.uuid4()))
