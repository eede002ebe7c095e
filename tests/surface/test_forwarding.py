# SPDX-License-Identifier: Apache-2.0
"""What the front hands on reaches the services behind it unchanged, in both directions, but for the caller."""

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status
from server.api import Api
from surface.forward_probe import (
    BIDI,
    CHUNK_BYTES,
    KEYS,
    STREAM,
    STREAM_CHUNKS,
    UNARY,
    UNLISTED,
    Backend,
    ForwardProbe,
    describe,
    start_front,
    wait_until,
)

from harness.server_process import ServerProcess

MIB = 1 << 20
READ_AHEAD_BYTES_MAX = 24 * MIB
"""What windows of flow control and buffers of two gRPC libraries and the front may hold together."""


@pytest.fixture
def probe(tmp_path: Path) -> Iterator[ForwardProbe]:
    """A front with a backend that is running."""
    backend = Backend(tmp_path / "rpc.sock")
    backend.start()
    engine, front = start_front(tmp_path, backend.socket_path)
    yield ForwardProbe(backend, front.address)
    front.drain(timeout_ms=1_000)
    backend.stop()
    engine.close()


@pytest.fixture
def channel(probe: ForwardProbe) -> Iterator[Any]:
    """A connection to the probe's front."""
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(probe.address, options) as found:
        yield found


def seen(probe: ForwardProbe, channel: Any, *metadata: tuple[str, Any], **options: float) -> dict[str, Any]:
    """Return what the backend sees of a call."""
    probe.backend.unary = describe
    answer = channel.unary_unary(UNARY)(b"", metadata=metadata, **options)
    found: dict[str, Any] = json.loads(answer)
    return found


def values(found: dict[str, Any], name: str) -> list[str]:
    """Return the values of a name in the metadata that arrived."""
    return [value for at, value in found["metadata"] if at == name]


def test_metadata_survives_and_the_caller_is_added(probe: ForwardProbe, channel: Any) -> None:
    """Metadata arrives as sent, repeated names and bytes included, with the true caller and without the key."""
    found = seen(
        probe,
        channel,
        *probe.metadata("read"),
        ("x-trace", "a"),
        ("x-trace", "b"),
        ("x-blob-bin", bytes(range(256))),
        ("traceparent", "00-1-2-01"),
    )

    assert values(found, "x-trace") == ["a", "b"]
    assert values(found, "x-blob-bin") == [bytes(range(256)).hex()]
    assert values(found, "traceparent") == ["00-1-2-01"]
    assert values(found, "x-taximeter-key-id") == [KEYS["read"].split("_")[1]]
    assert values(found, "x-taximeter-role") == ["read"]
    assert values(found, "x-taximeter-tenants") == ["acme,beta/x"]
    (peer,) = values(found, "x-taximeter-peer")
    assert re.fullmatch(r"127\.0\.0\.1:\d+", peer)
    assert KEYS["read"] not in json.dumps(found)
    assert values(found, "authorization") == []


@pytest.mark.parametrize(
    "forged",
    [
        ("x-taximeter-role", "admin"),
        ("x-taximeter-key-id", "root"),
        ("x-taximeter-tenants", ""),
        ("x-taximeter-tenants", "everything"),
        ("x-taximeter-role-bin", b"admin"),
        ("x-taximeter-anything", "else"),
        ("x-taximeter-peer", "192.0.2.1:1"),
    ],
)
def test_forged_identity_is_dropped(forged: tuple[str, Any], probe: ForwardProbe, channel: Any) -> None:
    """No name of the private side gets through from outside, alone, repeated or for a method without a key."""
    found = seen(probe, channel, forged, *probe.metadata("read"), forged)
    probe.backend.unary = describe
    health = json.loads(channel.unary_unary("/grpc.health.v1.Health/Check")(b"", metadata=(forged,)))

    assert values(found, "x-taximeter-role") == ["read"]
    assert values(found, "x-taximeter-tenants") == ["acme,beta/x"]
    names = [name for name, _ in found["metadata"] if name.startswith("x-taximeter-")]
    assert sorted(names) == [f"x-taximeter-{name}" for name in ("key-id", "peer", "role", "tenants")]
    assert [name for name, _ in health["metadata"] if name.startswith("x-taximeter-")] == []


def test_deadline_survives(probe: ForwardProbe, channel: Any) -> None:
    """The service behind knows how long the caller waits, and that it waits for ever."""
    limited = seen(probe, channel, *probe.metadata(), timeout=7)
    unlimited = seen(probe, channel, *probe.metadata())

    assert 5 < limited["time_remaining_s"] < 7.1
    # grpcio's way to say that there is none.
    assert unlimited["time_remaining_s"] is None or unlimited["time_remaining_s"] > 10**6


@pytest.mark.parametrize("how", ["cancelled", "deadline", "connection lost"])
def test_cancellation_survives(how: str, probe: ForwardProbe) -> None:
    """A caller that goes away ends the call behind, whichever way it goes."""
    probe.backend.unary = probe.backend.wait_for_cancellation
    channel: Any = grpc.insecure_channel(probe.address)
    timeout_s = 0.3 if how == "deadline" else 30
    future = channel.unary_unary(UNARY).future(b"", metadata=probe.metadata(), timeout=timeout_s)
    time.sleep(0.2)
    assert not probe.backend.cancelled.is_set()
    if how == "cancelled":
        future.cancel()
    elif how == "connection lost":
        channel.close()

    assert probe.backend.cancelled.wait(5)
    channel.close()


def test_cancellation_ends_a_stream(probe: ForwardProbe, channel: Any) -> None:
    """A caller that stops in the middle of a stream ends it behind the front."""
    stream = channel.unary_stream(STREAM)(b"", metadata=probe.metadata())
    next(stream)
    stream.cancel()

    assert probe.backend.cancelled.wait(5)
    assert probe.backend.produced_chunks < STREAM_CHUNKS


def test_slow_reader_holds_a_stream_back(probe: ForwardProbe, channel: Any) -> None:
    """A stream runs ahead of its reader by the windows of flow control and no further."""
    stream = channel.unary_stream(STREAM)(b"", metadata=probe.metadata())
    read = 0
    for _ in range(5):
        for _ in range(20):
            assert len(next(stream)) == CHUNK_BYTES
            read += 1
        time.sleep(0.2)
        assert (probe.backend.produced_chunks - read) * CHUNK_BYTES < READ_AHEAD_BYTES_MAX
    rest = sum(1 for _ in stream)

    assert read + rest == STREAM_CHUNKS


def test_status_and_trailers_survive(probe: ForwardProbe, channel: Any) -> None:
    """Code, message, details and trailers of a failed call arrive as the service sent them."""
    message = "nicht möglich: 100% \n voll"
    status = status_pb2.Status(code=grpc.StatusCode.ABORTED.value[0], message=message)
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason="R", domain="d", metadata={"k": "v"}))

    def fail(_request: bytes, context: grpc.ServicerContext) -> bytes:
        details = ("grpc-status-details-bin", status.SerializeToString())
        context.set_trailing_metadata((details, ("x-more", "1"), ("x-more-bin", b"\x00\xff")))
        context.abort(grpc.StatusCode.ABORTED, message)

    probe.backend.unary = fail
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(UNARY)(b"", metadata=probe.metadata())

    call: Any = caught.value
    assert (call.code(), call.details()) == (grpc.StatusCode.ABORTED, message)
    assert rpc_status.from_call(call) == status
    trailers = dict(call.trailing_metadata())
    assert (trailers["x-more"], trailers["x-more-bin"]) == ("1", b"\x00\xff")


def test_leading_and_trailing_metadata_of_an_answer_survive(probe: ForwardProbe, channel: Any) -> None:
    """Metadata of the service arrives before and after the answer, as the service sent it."""

    def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
        context.send_initial_metadata((("x-first", "1"),))
        context.set_trailing_metadata((("x-last", "2"),))
        return request

    probe.backend.unary = answer
    response, call = channel.unary_unary(UNARY).with_call(b"abc", metadata=probe.metadata())

    assert response == b"abc"
    assert ("x-first", "1") in [tuple(pair) for pair in call.initial_metadata()]
    assert ("x-last", "2") in [tuple(pair) for pair in call.trailing_metadata()]


@pytest.mark.parametrize("size_bytes", [0, 1, 70_000, 5 * MIB])
def test_messages_of_any_size_survive(size_bytes: int, probe: ForwardProbe, channel: Any) -> None:
    """The front looks into no message that it hands on: empty or large, it arrives bit for bit."""
    sent = (b"0123456789abcdef" * (size_bytes // 16 + 1))[:size_bytes]

    assert channel.unary_unary(UNARY)(sent, metadata=probe.metadata()) == sent


def test_both_directions_stream_at_once(probe: ForwardProbe, channel: Any) -> None:
    """In a bidirectional stream each answer comes before the next message is sent."""
    turn = threading.Semaphore(1)

    def messages() -> Iterator[bytes]:
        for number in range(20):
            assert turn.acquire(timeout=5)
            yield str(number).encode()

    answers = []
    for answer in channel.stream_stream(BIDI)(messages(), metadata=probe.metadata(), timeout=10):
        answers.append(answer)
        turn.release()

    assert answers == [b"answer to %d" % number for number in range(20)]


def test_many_calls_share_the_connection(probe: ForwardProbe, channel: Any) -> None:
    """Hundreds of calls at once are each answered with their own answer."""
    call = channel.unary_unary(UNARY)
    with ThreadPoolExecutor(64) as threads:
        sent = [b"%d" % number for number in range(1_000)]
        answers = list(threads.map(lambda body: call(body, metadata=probe.metadata(), timeout=20), sent))

    assert answers == sent


def test_services_that_go_away_come_back(probe: ForwardProbe, channel: Any) -> None:
    """While the services are away a call is UNAVAILABLE, and served again once they are back."""
    call = channel.unary_unary(UNARY)
    call(b"", metadata=probe.metadata())
    probe.backend.stop()
    with pytest.raises(grpc.RpcError) as caught:
        call(b"", metadata=probe.metadata(), timeout=5)
    probe.backend.start()

    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    assert call(b"back", metadata=probe.metadata(), timeout=5) == b"back"


def test_method_outside_the_table_is_not_forwarded(probe: ForwardProbe, channel: Any) -> None:
    """A method that the services have and the table has not cannot be reached, not even by an admin."""
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(UNLISTED)(b"", metadata=probe.metadata())

    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_reflection_streams_through_the_server(admin: Api) -> None:
    """Reflection answers message by message, and describes methods down to their fields."""
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(admin.channel)
    symbols = ["taximeter.v1.MeteringService", "taximeter.v1.UsageRecord", "no.such.Symbol"]
    requests = [reflection_pb2.ServerReflectionRequest(file_containing_symbol=symbol) for symbol in symbols]
    answers = list(stub.ServerReflectionInfo(iter(requests), metadata=admin.metadata, timeout=5))

    assert b"CheckQuotaRequest" in answers[0].file_descriptor_response.file_descriptor_proto[0]
    assert b"record_id" in answers[1].file_descriptor_response.file_descriptor_proto[0]
    assert answers[2].error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]


def test_health_watch_sees_the_server_stop(fresh_server: Callable[..., ServerProcess]) -> None:
    """Whoever watches health hears NOT_SERVING before the server is gone."""
    server = fresh_server()
    found: list[int] = []

    def watch() -> None:
        with grpc.insecure_channel(server.address) as channel:
            try:
                stub: Any = health_pb2_grpc.HealthStub(channel)
                found.extend(answer.status for answer in stub.Watch(health_pb2.HealthCheckRequest()))
            except grpc.RpcError:
                return

    watcher = threading.Thread(target=watch)
    watcher.start()
    assert wait_until(lambda: bool(found))
    server.stop()
    watcher.join(10)

    kinds = health_pb2.HealthCheckResponse
    assert found == [kinds.SERVING, kinds.NOT_SERVING]
