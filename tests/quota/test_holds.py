# SPDX-License-Identifier: Apache-2.0
"""What the contract says of holds in words, each rule by an example."""

import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from google.rpc import status_pb2
from quota.conftest import HOLD_ID_KEY, Stepped
from quota.engine_calls import (
    INPUT_PICOS,
    catalogue_of,
    check,
    extend,
    put_limits,
    record,
    release,
    reserve,
    status,
    time_ms,
)
from quota.model_level import COST, REQUESTS, TOKENS

from harness.engine_process import EngineError
from harness.grpc_status import refusal_of_status
from harness.store_process import StoreProcess
from taximeter.v1 import metering_service_pb2 as pb
from taximeter_server import _native

DAY_MS = 86_400_000
COST_MAX = 2**63 - 1
MIDNIGHT_MS = round(datetime(2028, 2, 29, tzinfo=UTC).timestamp()) * 1_000
DEARER = """
billing:
  rate_card:
    "m":
      input: 7.4
      output: 22.2
"""


def amounts(engine: _native.Engine, tenant: str) -> list[tuple[int, int]]:
    """Return what is used and held of every limit."""
    return [(limit.used, limit.held) for limit in status(engine, tenant)]


def test_hold_counts_until_it_is_settled_at_every_level(engine: _native.Engine, tenant: str) -> None:
    """A hold takes room at all levels; its record puts the real usage in its place and frees the rest."""
    path = f"{tenant}/team"
    for name in (tenant, path):
        put_limits(engine, name, {TOKENS: 100, COST: 100 * INPUT_PICOS})
    placed = reserve(engine, path, tokens=60, ttl_s=60)
    held = amounts(engine, path)
    fits_not, fits = check(engine, path, tokens=41), check(engine, path, tokens=40, dry_run=True)
    answer = record(engine, path, tokens=25, hold_id=placed.hold_id)

    assert placed.decision == pb.DECISION_ALLOW
    assert held == [(0, 60), (0, 60 * INPUT_PICOS)] * 2
    assert (fits_not.allowed, fits.allowed) == (False, True)
    assert (answer.hold.state, answer.hold.over_tokens) == (pb.HOLD_STATE_SETTLED, 0)
    assert amounts(engine, path) == [(25, 0), (25 * INPUT_PICOS, 0)] * 2


def test_usage_beyond_the_hold_is_counted_and_reported(engine: _native.Engine, tenant: str) -> None:
    """A call that uses more than it held is recorded in full, and the answer says by how much."""
    put_limits(engine, tenant, {TOKENS: 100})
    placed = reserve(engine, tenant, tokens=100, ttl_s=60)
    answer = record(engine, tenant, tokens=130, hold_id=placed.hold_id)

    assert answer.hold.state == pb.HOLD_STATE_SETTLED
    assert (answer.hold.over_tokens, answer.hold.over_cost_picos) == (30, 30 * INPUT_PICOS)
    assert amounts(engine, tenant) == [(130, 0)]


def test_a_hold_is_settled_once(engine: _native.Engine, tenant: str) -> None:
    """A second record of a hold is counted and says so; a duplicate repeats what the first was told."""
    put_limits(engine, tenant, {TOKENS: 100})
    placed = reserve(engine, tenant, tokens=30, ttl_s=60)
    first_id = secrets.token_hex(16)
    first = record(engine, tenant, tokens=40, hold_id=placed.hold_id, record_id=first_id)
    second = record(engine, tenant, tokens=20, hold_id=placed.hold_id)
    again = record(engine, tenant, tokens=40, hold_id=placed.hold_id, record_id=first_id)

    assert (first.hold.state, second.hold.state) == (pb.HOLD_STATE_SETTLED, pb.HOLD_STATE_SETTLED_BEFORE)
    assert again.duplicate
    assert again.hold == first.hold
    assert amounts(engine, tenant) == [(60, 0)]


def test_the_hold_belongs_to_the_payload(engine: _native.Engine, tenant: str) -> None:
    """The same record id with another hold is another payload."""
    put_limits(engine, tenant, {TOKENS: 100})
    one, two = (reserve(engine, tenant, tokens=10, ttl_s=60).hold_id for _ in range(2))
    record_id = secrets.token_hex(16)
    record(engine, tenant, tokens=1, hold_id=one, record_id=record_id)
    with pytest.raises(_native.RpcError) as caught:
        record(engine, tenant, tokens=1, hold_id=two, record_id=record_id)

    assert (
        refusal_of_status(status_pb2.Status.FromString(caught.value.args[2])).reason == "RECORD_ID_CONFLICT"
    )
    assert amounts(engine, tenant) == [(1, 10)]


def test_released_hold_frees_at_once_and_only_once(engine: _native.Engine, tenant: str) -> None:
    """Releasing frees; doing it again changes nothing, and a record afterwards is counted and says so."""
    put_limits(engine, tenant, {TOKENS: 100})
    kept = reserve(engine, tenant, tokens=30, ttl_s=60)
    freed = reserve(engine, tenant, tokens=50, ttl_s=60)
    states = [release(engine, tenant, freed.hold_id) for _ in range(2)]
    assert amounts(engine, tenant) == [(0, 30)]
    late = record(engine, tenant, tokens=7, hold_id=freed.hold_id)
    record(engine, tenant, tokens=1, hold_id=kept.hold_id)

    assert states == [pb.HOLD_STATE_RELEASED] * 2
    assert release(engine, tenant, kept.hold_id) == pb.HOLD_STATE_SETTLED
    assert late.hold.state == pb.HOLD_STATE_RELEASED
    assert amounts(engine, tenant) == [(8, 0)]


def test_a_denied_check_holds_nothing(engine: _native.Engine, tenant: str) -> None:
    """Where one level says no, no level holds anything, and there is no hold."""
    put_limits(engine, tenant, {TOKENS: 100})
    put_limits(engine, f"{tenant}/a", {TOKENS: 10})
    denied = reserve(engine, f"{tenant}/a", tokens=11, ttl_s=60)

    assert (denied.decision, denied.hold_id) == (pb.DECISION_DENY, "")
    assert not denied.HasField("hold_expire_time")
    assert amounts(engine, f"{tenant}/a") == [(0, 0), (0, 0)]


def test_same_request_id_holds_once(engine: _native.Engine, tenant: str) -> None:
    """A check sent a hundred times under one name counts once, and always answers with the same hold."""
    put_limits(engine, tenant, {REQUESTS: 5, TOKENS: 100})
    request_id = secrets.token_hex(16)
    answers = [
        reserve(engine, tenant, tokens=60, ttl_s=60, request_id=request_id, requests=5) for _ in range(100)
    ]
    denied_id = secrets.token_hex(16)
    refused = reserve(engine, tenant, tokens=60, request_id=denied_id)
    release(engine, tenant, answers[0].hold_id)

    assert len({answer.hold_id for answer in answers}) == 1
    assert [answer.duplicate for answer in answers] == [False] + [True] * 99
    assert {answer.decision for answer in answers} == {pb.DECISION_ALLOW}
    assert amounts(engine, tenant) == [(5, 0), (0, 0)]
    again = reserve(engine, tenant, tokens=60, request_id=denied_id)
    assert (refused.decision, again.decision) == (pb.DECISION_DENY, pb.DECISION_DENY)


def test_extension_is_all_or_nothing(engine: _native.Engine, tenant: str) -> None:
    """A hold grows at all levels or at none; where it may not, amounts and expiry stay as they were."""
    path = f"{tenant}/a"
    put_limits(engine, tenant, {TOKENS: 100})
    put_limits(engine, path, {TOKENS: 1_000})
    placed = reserve(engine, path, tokens=40, ttl_s=30)
    grown = extend(engine, path, placed.hold_id, ttl_s=600, tokens=100)
    refused = extend(engine, path, placed.hold_id, ttl_s=3_600, tokens=101)
    smaller = extend(engine, path, placed.hold_id, ttl_s=1, tokens=1)

    assert (grown.decision, refused.decision) == (pb.DECISION_ALLOW, pb.DECISION_DENY)
    assert [(limit.tenant, limit.exceeded) for limit in refused.limits] == [(tenant, True), (path, False)]
    assert time_ms(grown.expire_time) > time_ms(placed.hold_expire_time)
    assert refused.expire_time == grown.expire_time == smaller.expire_time
    assert amounts(engine, path) == [(0, 100), (0, 100)]


def test_ended_hold_is_not_extended(engine: _native.Engine, tenant: str) -> None:
    """Extending a hold that was released is an error that says how it ended."""
    placed = reserve(engine, tenant, tokens=1, ttl_s=30)
    release(engine, tenant, placed.hold_id)
    with pytest.raises(_native.RpcError) as caught:
        extend(engine, tenant, placed.hold_id, ttl_s=30)
    refusal = refusal_of_status(status_pb2.Status.FromString(caught.value.args[2]))

    assert (refusal.code, refusal.reason) == ("FAILED_PRECONDITION", "HOLD_ENDED")
    assert refusal.facts == {"state": "RELEASED"}


def test_hold_pins_the_rate_card(make_engine: Callable[..., _native.Engine], tenant: str) -> None:
    """A record is priced by the card that its hold was placed under, however the card has changed since."""
    engine = make_engine()
    placed = reserve(engine, tenant, tokens=10, ttl_s=60)
    time.sleep(0.005)
    now_ms = time.time_ns() // 1_000_000  # noqa: TID251 (the engine's clock is the machine's)
    engine.set_catalogue(catalogue_of([(0, None), (now_ms, DEARER)]))
    time.sleep(0.005)
    pinned = record(engine, tenant, tokens=10, hold_id=placed.hold_id)
    unpinned = record(engine, tenant, tokens=10)
    repeated = reserve(engine, tenant, tokens=10, request_id=secrets.token_hex(16))

    assert (pinned.cost.picos, unpinned.cost.picos) == (10 * INPUT_PICOS, 20 * INPUT_PICOS)
    assert (pinned.rate_card_id, unpinned.rate_card_id) == (placed.rate_card_id, repeated.rate_card_id)
    assert placed.rate_card_id != repeated.rate_card_id


def test_hold_of_another_store_is_unknown_and_its_record_counted(
    engine: _native.Engine, short_directory: Path, tmp_path: Path, tenant: str
) -> None:
    """A store that has forgotten a hold says so; a record of it is counted by the card and the day that it pinned."""
    placed = reserve(engine, tenant, tokens=10, ttl_s=60)
    with StoreProcess(short_directory / "forgetful") as store:
        other = _native.Engine(
            store_url=store.url, journal_dir=str(tmp_path), exclusive_store=True, hold_id_key=HOLD_ID_KEY
        )
        other.open(archived_ids=["0-0"] * _native.PARTITION_COUNT, timeout_ms=10_000)
        other.set_catalogue(catalogue_of([(0, None)]))
        put_limits(other, tenant, {TOKENS: 100})
        for call in (
            lambda: extend(other, tenant, placed.hold_id, ttl_s=60),
            lambda: release(other, tenant, placed.hold_id),
        ):
            with pytest.raises(_native.RpcError) as caught:
                call()
            assert (
                refusal_of_status(status_pb2.Status.FromString(caught.value.args[2])).reason == "HOLD_UNKNOWN"
            )
        answer = record(other, tenant, tokens=7, hold_id=placed.hold_id)
        used = amounts(other, tenant)
        other.close()

    assert answer.hold.state == pb.HOLD_STATE_EXPIRED
    assert used == [(7, 0)]
    assert release(engine, tenant, placed.hold_id) == pb.HOLD_STATE_RELEASED


def test_hold_id_opens_where_it_was_sealed(
    engine: _native.Engine,
    make_engine: Callable[..., _native.Engine],
    store: StoreProcess,
    tmp_path: Path,
    tenant: str,
) -> None:
    """Every instance with the store's key opens an id, one without it, or for another tenant, does not."""
    placed = reserve(engine, tenant, tokens=10, ttl_s=60)
    stranger = _native.Engine(store_url=store.url, journal_dir=str(tmp_path), exclusive_store=True)
    stranger.open(archived_ids=["0-0"] * _native.PARTITION_COUNT, timeout_ms=10_000)
    stranger.set_catalogue(catalogue_of([(0, None)]))
    for one, name in ((stranger, tenant), (engine, f"{tenant}/a")):
        with pytest.raises(_native.RpcError) as caught:
            record(one, name, tokens=1, hold_id=placed.hold_id)
        refusal = refusal_of_status(status_pb2.Status.FromString(caught.value.args[2]))
        assert (refusal.reason, refusal.fields) == ("FIELD_INVALID", ("record.hold_id",))
    stranger.close()

    assert release(make_engine(), tenant, placed.hold_id) == pb.HOLD_STATE_RELEASED


def test_many_holds_take_bounded_room(stepped: Stepped, tenant: str) -> None:
    """However many holds a level has, of whatever times to live, it keeps some hundred sums of them."""
    engine = stepped.engine
    stepped.set(MIDNIGHT_MS + DAY_MS // 2)
    put_limits(engine, tenant, {TOKENS: 1_000_000})
    for number in range(1_000):
        if number % 50 == 0:
            stepped.advance(1_000)
        reserve(engine, tenant, tokens=1, ttl_s=1 + number * 37 % 3_600)
    (held,) = (limit.held for limit in status(engine, tenant))

    assert 950 < held <= 1_000
    assert stepped.level_bytes(tenant) < 8_192
    stepped.advance(4_000_000)
    assert [limit.held for limit in status(engine, tenant)] == [0]


def test_hold_that_would_overflow_is_refused(stepped: Stepped, tenant: str) -> None:
    """Amounts beyond what a counter holds are an error that changes nothing, limited or not."""
    engine, cost = stepped.engine, 10_000_000_000 * INPUT_PICOS
    placed = [reserve(engine, tenant, tokens=10_000_000_000, ttl_s=3_600) for _ in range(COST_MAX // cost)]
    with pytest.raises(EngineError) as caught:
        reserve(engine, tenant, tokens=10_000_000_000, ttl_s=3_600)
    refusal = refusal_of_status(status_pb2.Status.FromString(caught.value.status))

    assert (refusal.code, refusal.reason) == ("OUT_OF_RANGE", "COUNTER_OVERFLOW")
    put_limits(engine, tenant, {COST: COST_MAX})
    assert status(engine, tenant)[0].held == len(placed) * cost
    for answer in placed:
        release(engine, tenant, answer.hold_id)
    assert status(engine, tenant)[0].held == 0
