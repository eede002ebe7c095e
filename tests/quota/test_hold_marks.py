# SPDX-License-Identifier: Apache-2.0
"""What the store keeps of holds beside their amounts: where it lies, how small it is, and when it goes."""

from typing import Any

import pytest
from google.rpc import status_pb2
from quota.conftest import Stepped
from quota.engine_calls import extend, put_limits, record, release, reserve, status
from quota.model_level import TOKENS

from harness.engine_process import EngineError
from harness.grpc_status import refusal_of_status
from taximeter.v1 import metering_service_pb2 as pb

COUNT, TTL_S, REMEMBERED_S = 10, 60, 300
PLACE_MS = 4
"""Holds that are placed within so many milliseconds have their marks in one hash."""
PLACED_SIZE, ENDED_SIZE = 29, 1


def place_of(time_ms: int) -> str:
    """Where holds of up to 64 s have their marks that are placed at a time."""
    return f"{{tx:holds}}:{time_ms // PLACE_MS:x}:0"


def sizes(store: Any, place: str) -> list[int]:
    """The bytes of each mark."""
    return sorted(len(mark) for mark in store.hvals(place))


def reason_of(caught: pytest.ExceptionInfo[EngineError]) -> str:
    """The reason of a refusal."""
    return refusal_of_status(status_pb2.Status.FromString(caught.value.status)).reason


def test_marks_of_one_moment_are_one_compact_hash(stepped: Stepped, tenant: str) -> None:
    """It expires as a whole, when the last of them has been remembered; of an ended hold one byte is left."""
    stepped.advance(1_000)
    place = place_of(stepped.now_ms)
    placed = [reserve(stepped.engine, tenant, tokens=5, ttl_s=TTL_S) for _ in range(COUNT)]
    with stepped.store.client() as store:
        marks, encoding = sizes(store, place), store.object("encoding", place)
        kept_s = store.ttl(place)
        record(stepped.engine, tenant, tokens=1, hold_id=placed[0].hold_id)
        release(stepped.engine, tenant, placed[1].hold_id)
        after = sizes(store, place)

    assert marks == [PLACED_SIZE] * COUNT
    assert encoding == b"listpack"
    assert TTL_S + REMEMBERED_S < kept_s <= TTL_S + REMEMBERED_S + 10
    assert after == [ENDED_SIZE] * 2 + [PLACED_SIZE] * (COUNT - 2)


def test_an_extended_hold_outlives_the_marks_beside_it(stepped: Stepped, tenant: str) -> None:
    """It is settled long after those have gone, and once; what was placed beside it is forgotten by then."""
    engine = stepped.engine
    stepped.advance(1_000)
    place = place_of(stepped.now_ms)
    extended, other = (reserve(engine, tenant, tokens=5, ttl_s=TTL_S) for _ in range(2))
    extend(engine, tenant, extended.hold_id, ttl_s=3_000, tokens=8)
    with stepped.store.client() as store:
        assert sizes(store, place) == [PLACED_SIZE]
        stepped.advance(2_000_000)
        assert not store.exists(place)
    late = record(engine, tenant, tokens=3, hold_id=other.hold_id)
    states = [record(engine, tenant, tokens=9, hold_id=extended.hold_id).hold for _ in range(2)]

    assert late.hold.state == pb.HOLD_STATE_EXPIRED
    assert [hold.state for hold in states] == [pb.HOLD_STATE_SETTLED, pb.HOLD_STATE_SETTLED_BEFORE]
    assert states[0].over_tokens == 1
    with pytest.raises(EngineError) as caught:
        release(engine, tenant, other.hold_id)
    assert reason_of(caught) == "HOLD_UNKNOWN"


def test_a_place_of_another_type_stops_the_check(stepped: Stepped, tenant: str) -> None:
    """A check whose mark cannot be written counts nothing, and holds nothing."""
    stepped.advance(1_000)
    put_limits(stepped.engine, tenant, {TOKENS: 100})
    place = place_of(stepped.now_ms)
    with stepped.store.client() as store:
        store.set(place, "planted")
        with pytest.raises(EngineError) as caught:
            reserve(stepped.engine, tenant, tokens=5, ttl_s=TTL_S)
        store.delete(place)

    assert reason_of(caught) == "STORE_CORRUPT"
    assert [(limit.used, limit.held) for limit in status(stepped.engine, tenant)] == [(0, 0)]
