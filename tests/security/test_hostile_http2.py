# SPDX-License-Identifier: Apache-2.0
"""Clients that misuse HTTP/2: they are stopped, the server's memory stays bounded, and others are served meanwhile."""

import contextlib
import struct
import time
from collections.abc import Callable, Iterator

import grpc
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from security.hostile_http2 import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    PING,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    HostileClient,
    block,
    frame,
)
from server.api import Api, connect

from harness.http2_client import grpc_headers
from harness.process_memory import MIB, peak_growth
from harness.server_process import ServerProcess
from taximeter.v1 import access_service_pb2

CHECK_QUOTA = "/taximeter.v1.MeteringService/CheckQuota"
WHO_AM_I = "/taximeter.v1.AccessService/WhoAmI"
HEALTH = "/grpc.health.v1.Health/Check"
GROWTH_MAX = 48 * MIB
WAIT_S = 60
CANCEL = struct.pack(">I", 8)


@pytest.fixture(scope="module")
def hostile_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server of these tests' own: they measure its memory."""
    with ServerProcess(tmp_path_factory.mktemp("hostile") / "data") as running:
        yield running


@pytest.fixture
def good(hostile_server: ServerProcess) -> Iterator[Api]:
    """A good client, connected before the hostile one comes."""
    with connect(hostile_server.address, hostile_server.admin_key) as api:
        api.call(api.access.WhoAmI, access_service_pb2.WhoAmIRequest())
        yield api


@pytest.fixture
def hostile(hostile_server: ServerProcess) -> Iterator[HostileClient]:
    """The hostile client."""
    with HostileClient(hostile_server.address) as client:
        yield client


@pytest.fixture(autouse=True)
def others_are_served(hostile_server: ServerProcess, good: Api) -> Iterator[None]:
    """Whatever happens, memory stays bounded and the good client, old or new, is answered."""
    with peak_growth(hostile_server.process.pid) as growth:
        yield
        good.call(good.access.WhoAmI, access_service_pb2.WhoAmIRequest())
        with connect(hostile_server.address, hostile_server.admin_key) as another:
            another.call(another.access.WhoAmI, access_service_pb2.WhoAmIRequest())
    assert growth.peak_bytes < GROWTH_MAX


def open_stream(stream: int, headers: bytes, *, ended: bool = True) -> bytes:
    """Return the frame that opens a stream."""
    return frame(HEADERS, headers, flags=END_HEADERS | (END_STREAM if ended else 0), stream=stream)


FLOODS: dict[str, bytes] = {
    "pings": frame(PING, bytes(8)),
    "acknowledged pings": frame(PING, bytes(8), flags=ACK),
    "settings": frame(SETTINGS),
    "large settings": frame(SETTINGS, struct.pack(">HI", 0x99, 1) * 100),
    "window updates": frame(WINDOW_UPDATE, struct.pack(">I", 1)),
    "unknown frames": frame(0x42, b"x" * 100),
    "priorities": frame(2, struct.pack(">IB", 0, 1), stream=1),
}


@pytest.mark.parametrize("kind", FLOODS)
def test_floods_beside_calls_end_the_connection(kind: str, hostile: HostileClient) -> None:
    """A client that sends frames without end, and makes no call, is told to calm down and cut off."""
    hostile.greet()
    deadline = time.monotonic() + WAIT_S
    while hostile.send(FLOODS[kind] * 1_000):
        assert time.monotonic() < deadline, "the server took it all"
    assert hostile.end is not None
    # Where the server's GOAWAY crosses what is still sent, the client's own machine may drop it.
    assert hostile.end.error_code in {ENHANCE_YOUR_CALM, None}


def test_the_limit_of_pings_is_said(hostile: HostileClient) -> None:
    """A client that reads learns why it is cut off."""
    hostile.greet()
    for _ in range(40):
        hostile.send(FLOODS["pings"] * 50)
        time.sleep(0.005)
    end = hostile.wait_for_end(WAIT_S)

    assert end is not None
    assert end.error_code == ENHANCE_YOUR_CALM


@pytest.mark.parametrize("path", [CHECK_QUOTA, WHO_AM_I])
@pytest.mark.parametrize("is_known", [True, False])
def test_rapid_resets_end_the_connection(
    path: str, hostile: HostileClient, hostile_server: ServerProcess, *, is_known: bool
) -> None:
    """Streams that are opened and cancelled at once, again and again, end the connection (CVE-2023-44487)."""
    hostile.greet()
    headers = block(grpc_headers(path, hostile_server.admin_key if is_known else ""))
    stream, deadline = 1, time.monotonic() + WAIT_S
    alive = True
    while alive:
        assert time.monotonic() < deadline, "the server took it all"
        frames = []
        for _ in range(200):
            frames += [open_stream(stream, headers), frame(RST_STREAM, CANCEL, stream=stream)]
            stream += 2
        alive = hostile.send(b"".join(frames))


def test_continuations_without_end_end_the_connection(hostile: HostileClient) -> None:
    """Headers that never end are not collected (CVE-2024-27316)."""
    hostile.greet()
    hostile.send(frame(HEADERS, block([(":method", "POST")]), stream=1))
    deadline = time.monotonic() + WAIT_S
    while hostile.send(frame(CONTINUATION, block([("x-filler", "f" * 1_000)]), stream=1) * 10):
        assert time.monotonic() < deadline, "the server took it all"


def test_empty_continuations_end_the_connection(hostile: HostileClient) -> None:
    """Nor do continuations without content go on for ever."""
    hostile.greet()
    hostile.send(frame(HEADERS, block([(":method", "POST")]), stream=1))
    deadline = time.monotonic() + WAIT_S
    while hostile.send(frame(CONTINUATION, stream=1) * 100):
        assert time.monotonic() < deadline, "the server took it all"


def test_huge_headers_end_the_connection_or_the_call(
    hostile: HostileClient, hostile_server: ServerProcess
) -> None:
    """Headers of a megabyte on each of many streams are not kept."""
    hostile.greet()
    filler = [(f"x-filler-{at}", "f" * 1_000) for at in range(15)]
    headers = block([*grpc_headers(CHECK_QUOTA, hostile_server.admin_key), *filler])
    for stream in range(1, 2_001, 2):
        if not hostile.send(open_stream(stream, headers)):
            break


def test_too_many_streams_are_refused(hostile: HostileClient, hostile_server: ServerProcess) -> None:
    """More streams than the server allows are refused; holding ten thousand open is not possible."""
    hostile.greet()
    headers = block(grpc_headers(CHECK_QUOTA, hostile_server.admin_key))
    for first in range(1, 20_001, 200):
        streams = range(first, first + 200, 2)
        if not hostile.send(b"".join(open_stream(one, headers, ended=False) for one in streams)):
            break


def test_answers_that_nobody_takes_hold_up_nobody(
    hostile: HostileClient, hostile_server: ServerProcess
) -> None:
    """A client whose windows are zero keeps its own answers waiting, and no others."""
    hostile.greet(struct.pack(">HI", INITIAL_WINDOW_SIZE, 0))
    for path in (CHECK_QUOTA, WHO_AM_I, HEALTH):
        headers = block(grpc_headers(path, hostile_server.admin_key))
        first = {CHECK_QUOTA: 1, WHO_AM_I: 101, HEALTH: 201}[path]
        for stream in range(first, first + 80, 2):
            hostile.send(open_stream(stream, headers, ended=False))
            hostile.send(frame(DATA, bytes(5), flags=END_STREAM, stream=stream))
    assert hostile.end is None


def test_a_message_that_says_it_is_huge_is_refused_at_once(
    hostile: HostileClient, hostile_server: ServerProcess
) -> None:
    """Four gigabytes that are announced are neither awaited nor given room."""
    hostile.greet()
    headers = block(grpc_headers(CHECK_QUOTA, hostile_server.admin_key))
    for stream in range(1, 200, 2):
        hostile.send(open_stream(stream, headers, ended=False))
        hostile.send(frame(DATA, b"\0\xff\xff\xff\xff" + bytes(1_000), stream=stream))


def test_a_frame_that_says_it_is_huge_ends_the_connection(hostile: HostileClient) -> None:
    """A frame of 16 MiB is not read."""
    hostile.greet()
    hostile.send(b"\xff\xff\xff" + frame(DATA, stream=1)[3:] + bytes(1 << 16))

    assert hostile.wait_for_end(WAIT_S) is not None


GARBAGE: dict[str, bytes] = {
    "zeros": bytes(100_000),
    "text": b"hello " * 10_000,
    "http1": b"GET / HTTP/1.1\r\nhost: x\r\n\r\n",
    "tls": bytes.fromhex("16030100c8010000c4"),
    "half a preface": PREFACE[:10] + bytes(30),
    "even stream": PREFACE + frame(SETTINGS) + frame(HEADERS, b"\x82", flags=END_HEADERS, stream=2),
    "broken compression": PREFACE
    + frame(SETTINGS)
    + frame(HEADERS, b"\xff" * 9, flags=END_HEADERS, stream=1),
}


@pytest.mark.parametrize("kind", GARBAGE)
def test_garbage_ends_the_connection(kind: str, hostile: HostileClient) -> None:
    """What is no HTTP/2 ends the connection, once enough of it has come to tell."""
    hostile.send(GARBAGE[kind])
    if kind == "tls":
        hostile.send(bytes(200))

    assert hostile.wait_for_end(WAIT_S) is not None


SLOW: dict[str, Callable[[HostileClient], None]] = {
    "nothing": lambda _: None,
    "part of a preface": lambda client: _ignore(client.send(PREFACE[:5])),
    "no call": HostileClient.greet,
    "no settings": lambda client: _ignore(client.send(PREFACE + frame(HEADERS, b"\x82", stream=1))),
    "headers that go on": lambda client: _ignore(
        client.send(PREFACE + frame(SETTINGS) + frame(HEADERS, block([(":method", "POST")]), stream=1))
    ),
}


def _ignore(_: object) -> None:
    return


@pytest.mark.wide
@pytest.mark.parametrize("kind", SLOW)
@pytest.mark.timeout(120)
def test_a_client_that_makes_no_call_is_cut_off(kind: str, hostile: HostileClient) -> None:
    """A connection is not kept for a client that never gets to its first call (slowloris)."""
    SLOW[kind](hostile)

    assert hostile.wait_for_end(WAIT_S) is not None


def test_refused_calls_slow_down(good: Api) -> None:
    """A client without a key is refused at leisure, at most 100 times a second: guessing keys takes time."""
    stranger = good.with_key("tx_aaaaaaaaaaaa_b_c")
    started = time.monotonic()
    for _ in range(250):
        stranger.fail(stranger.access.WhoAmI, access_service_pb2.WhoAmIRequest())

    assert time.monotonic() - started > 1.4


def test_strangers_make_room(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Where all connections are taken by clients that nobody knows, the oldest goes when another client comes."""
    directory = tmp_path_factory.mktemp("crowded") / "data"
    with (
        ServerProcess(directory, environment={"TAXIMETER_CONNECTIONS_MAX": "20"}) as server,
        connect(server.address, server.admin_key) as known,
        contextlib.ExitStack() as stack,
    ):
        known.call(known.access.WhoAmI, access_service_pb2.WhoAmIRequest())
        strangers = [stack.enter_context(HostileClient(server.address)) for _ in range(40)]
        with connect(server.address, server.admin_key) as another:
            another.call(another.access.WhoAmI, access_service_pb2.WhoAmIRequest())
        known.call(known.access.WhoAmI, access_service_pb2.WhoAmIRequest())
        assert strangers[0].wait_for_end(WAIT_S) is not None


def test_old_connections_end_between_calls(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A connection that has reached its age is closed in order: its client notices nothing but a new connection."""
    directory = tmp_path_factory.mktemp("aging") / "data"
    with (
        ServerProcess(directory, environment={"TAXIMETER_CONNECTION_AGE_MAX_S": "1"}) as server,
        connect(server.address, server.admin_key) as api,
        HostileClient(server.address) as watched,
    ):
        watched.greet()
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline:
            api.call(api.access.WhoAmI, access_service_pb2.WhoAmIRequest())
        assert watched.wait_for_end(WAIT_S) is not None


def test_reflection_can_be_turned_off(tmp_path_factory: pytest.TempPathFactory) -> None:
    """With --no-reflection nobody is told what the API is."""
    directory = tmp_path_factory.mktemp("silent") / "data"
    with (
        ServerProcess(directory, arguments=["--no-reflection"]) as server,
        connect(server.address, server.admin_key) as api,
    ):
        stub = reflection_pb2_grpc.ServerReflectionStub(api.channel)
        request = reflection_pb2.ServerReflectionRequest(list_services="*")
        assert api.fail(stub.ServerReflectionInfo, iter([request]))[0] is grpc.StatusCode.UNIMPLEMENTED
