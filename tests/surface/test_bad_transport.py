# SPDX-License-Identifier: Apache-2.0
"""What arrives below or beside gRPC messages: other protocols, odd headers, bombs, cut-off calls."""

import contextlib
import socket
import ssl
import zlib
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from surface.conftest import Totals
from surface.credentials import Credentials
from surface.request_cases import cases
from surface.test_bad_input import call, now_s, refuse

from harness.grpc_status import refusal_of
from harness.http2_client import Http2Client, frame, grpc_headers
from harness.process_memory import MIB, peak_growth
from harness.server_process import ServerProcess
from taximeter.v1 import metering_service_pb2 as pb

RECORD = "/taximeter.v1.MeteringService/Record"
WHO_AM_I = "/taximeter.v1.AccessService/WhoAmI"
INVALID_ARGUMENT, RESOURCE_EXHAUSTED, DEADLINE_EXCEEDED, UNIMPLEMENTED = 3, 8, 4, 12
BOMB_BYTES = 512 * MIB


def record_request() -> bytes:
    """Return a record that would be stored."""
    return next(case for case in cases("accepted") if case.method == "Record").request(now_s(), {})


@pytest.fixture(autouse=True)
def nothing_breaks(totals: Totals) -> None:
    """Before each test nothing has been stored that was not to be."""
    totals.assert_unchanged()


@pytest.fixture
def client(server: ServerProcess) -> Http2Client:
    """A connection of its own."""
    return Http2Client(server.address)


def bomb() -> bytes:
    """Return 512 MiB of zeros as gzip, made without ever holding them."""
    compressor = zlib.compressobj(level=9, wbits=31)
    zeros = bytes(MIB)
    parts = [compressor.compress(zeros) for _ in range(BOMB_BYTES // MIB)]
    return b"".join(parts) + compressor.flush()


def test_compressed_bomb_is_refused_in_little_memory(
    server: ServerProcess, client: Http2Client, totals: Totals
) -> None:
    """A small message that expands to 512 MiB is refused once it is too large, not after expanding it."""
    packed = bomb()
    assert len(packed) < MIB
    headers = grpc_headers(RECORD, server.admin_key, ("grpc-encoding", "gzip"))
    with peak_growth(server.process.pid) as growth, client:
        answer = client.call(headers, frame(packed, compressed=True))

    assert (answer.grpc_status, answer.grpc_message) == (RESOURCE_EXHAUSTED, "message larger than 1 MiB")
    assert growth.peak_bytes < 32 * MIB
    totals.assert_unchanged()


def test_many_bombs_at_once_are_refused_in_little_memory(server: ServerProcess, client: Http2Client) -> None:
    """Sixteen bombs on one connection grow the server no more than their limits together allow."""
    packed = frame(bomb(), compressed=True)
    headers = grpc_headers(RECORD, server.admin_key, ("grpc-encoding", "gzip"))
    with peak_growth(server.process.pid) as growth, client:
        streams = [client.open(headers) for _ in range(16)]
        for stream in streams:
            client.send(stream, packed, end=True)
        found = {client.answer(stream).grpc_status for stream in streams}

    assert found == {RESOURCE_EXHAUSTED}
    assert growth.peak_bytes < 64 * MIB


def test_compressed_messages_are_served(server: ServerProcess, totals: Totals) -> None:
    """Callers may compress their messages with gzip."""
    channel: Any
    with grpc.insecure_channel(server.address) as channel:
        metadata = (("authorization", f"Bearer {server.admin_key}"),)
        answer = channel.unary_unary(RECORD, response_deserializer=pb.RecordResponse.FromString)(
            record_request(), metadata=metadata, compression=grpc.Compression.Gzip, timeout=10
        )
    totals.forget()

    assert answer.durability == pb.DURABILITY_COMMITTED


@pytest.mark.parametrize(
    ("body", "encoding", "status"),
    [
        pytest.param(frame(b"\x0a\x00", compressed=True), "gzip", INVALID_ARGUMENT, id="not gzip"),
        pytest.param(frame(b"", compressed=True), "gzip", INVALID_ARGUMENT, id="empty gzip"),
        pytest.param(
            frame(zlib.compress(b"x" * 100, wbits=31)[:-9], compressed=True),
            "gzip",
            INVALID_ARGUMENT,
            id="cut gzip",
        ),
        pytest.param(frame(zlib.compress(b""), compressed=True), "deflate", UNIMPLEMENTED, id="deflate"),
        pytest.param(frame(b"", compressed=True), "identity", UNIMPLEMENTED, id="compressed identity"),
        pytest.param(b"", "identity", INVALID_ARGUMENT, id="no frame"),
        pytest.param(b"\x00\x00", "identity", INVALID_ARGUMENT, id="half a prefix"),
        pytest.param(frame(b"\x0a\x00", length=100), "identity", INVALID_ARGUMENT, id="too short"),
        pytest.param(frame(b"\x0a\x00", length=1), "identity", INVALID_ARGUMENT, id="too long"),
        pytest.param(frame(b"", length=2**32 - 1), "identity", INVALID_ARGUMENT, id="says 4 GiB"),
        pytest.param(frame(b"\x0a\x00") * 2, "identity", INVALID_ARGUMENT, id="two messages"),
        pytest.param(b"\x02" + frame(b"\x0a\x00")[1:], "identity", INVALID_ARGUMENT, id="unknown flag"),
    ],
)
def test_bad_frames_are_refused(
    body: bytes, encoding: str, status: int, server: ServerProcess, client: Http2Client, totals: Totals
) -> None:
    """A frame that is not one message in a known encoding is the caller's fault."""
    with client:
        answer = client.call(grpc_headers(RECORD, server.admin_key, ("grpc-encoding", encoding)), body)

    assert (answer.http_status, answer.grpc_status) == (200, status)
    totals.assert_unchanged()


@pytest.mark.parametrize(
    "content_type", ["application/jsonp", "text/plain", "application/grpc-web+proto", "", None]
)
@pytest.mark.parametrize("path", [RECORD, WHO_AM_I])
def test_other_content_types_are_refused(
    content_type: str | None, path: str, server: ServerProcess, client: Http2Client
) -> None:
    """What is neither gRPC nor Connect is answered with 415 by HTTP, on either side of the front."""
    headers = [pair for pair in grpc_headers(path, server.admin_key) if pair[0] != "content-type"]
    headers += [] if content_type is None else [("content-type", content_type)]
    with client:
        answer = client.call(headers, frame(record_request()))

    assert answer.http_status == 415


@pytest.mark.parametrize(
    "content_type", ["application/grpc", "application/grpc+proto", "application/grpc;charset=x"]
)
def test_grpc_content_types_are_served(content_type: str, server: ServerProcess, client: Http2Client) -> None:
    """Every spelling of the content type that the specification allows is served."""
    with client:
        answer = client.call(
            grpc_headers(WHO_AM_I, server.admin_key, ("content-type", content_type)), frame(b"")
        )

    assert (answer.http_status, answer.grpc_status) == (200, 0)


@pytest.mark.parametrize(
    "path",
    [
        "/taximeter.v1.MeteringService/Nonsense",
        "/taximeter.v1.MeteringService/record",
        "/taximeter.v1.MeteringService/Record/",
        "/taximeter.v2.MeteringService/Record",
        "/grpc.channelz.v1.Channelz/GetServers",
        "/",
    ],
)
def test_unknown_methods_are_unimplemented(path: str, server: ServerProcess, client: Http2Client) -> None:
    """A method that does not exist is UNIMPLEMENTED, with a key and without."""
    with client:
        found = [
            client.call(grpc_headers(path, key), frame(record_request())).grpc_status
            for key in (server.admin_key, "none")
        ]

    assert found == [UNIMPLEMENTED, UNIMPLEMENTED]


def test_other_protocols_are_closed(server: ServerProcess) -> None:
    """What is no call of HTTP/1.1, TLS and noise on the port end in a closed connection, and the server goes on."""
    host, _, port = server.address.rpartition(":")
    for sent in (
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /taximeter.v1.MeteringService/Record HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
        bytes(range(256)) * 10,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 100,
    ):
        with socket.create_connection((host, int(port)), 5) as connection:
            connection.sendall(sent)
            with contextlib.suppress(ConnectionResetError):
                while data := connection.recv(1 << 16):
                    assert b" 200 " not in data
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection((host, int(port)), 5) as connection, pytest.raises((ssl.SSLError, OSError)):
        context.wrap_socket(connection)
    serving_status(server)


def serving_status(server: ServerProcess) -> None:
    """Fail unless the server says that it serves."""
    channel: Any
    with grpc.insecure_channel(server.address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=5)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_cut_off_calls_store_nothing(server: ServerProcess, totals: Totals) -> None:
    """A call that ends in the middle of its message, by reset or by a lost connection, stores nothing."""
    body = frame(record_request())
    headers = grpc_headers(RECORD, server.admin_key)
    for cut in range(1, len(body), 3):
        with Http2Client(server.address) as client:
            stream = client.open(headers)
            client.send(stream, body[:cut])
            if cut % 2:
                client.reset(stream)
                assert client.call(grpc_headers(WHO_AM_I, server.admin_key), frame(b"")).grpc_status == 0
    totals.assert_unchanged()
    serving_status(server)


def test_rapid_resets_leave_other_callers_alone(server: ServerProcess, totals: Totals) -> None:
    """Thousands of calls opened and reset at once neither break the server nor other connections."""
    with Http2Client(server.address) as client, contextlib.suppress(OSError):
        for _ in range(3000):
            client.reset(client.open(grpc_headers(RECORD, server.admin_key)))
    totals.assert_unchanged()
    serving_status(server)


def test_health_of_an_unknown_service_is_not_found(channel: Any) -> None:
    """Health of a service that does not exist is NOT_FOUND, without a key."""
    stub: Any = health_pb2_grpc.HealthStub(channel)
    with pytest.raises(grpc.RpcError) as caught:
        stub.Check(health_pb2.HealthCheckRequest(service="nonsense"), timeout=5)

    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("size_bytes", [9_000, 17_000, 30_000])
@pytest.mark.parametrize("method", ["Record", "WhoAmI"])
def test_too_much_metadata_is_refused(
    size_bytes: int, method: str, channel: Any, credentials: Credentials, totals: Totals
) -> None:
    """Metadata beyond 8 KiB is the caller's fault, for calls on either side of the front."""
    path = RECORD if method == "Record" else WHO_AM_I
    metadata = (*credentials.metadata(""), ("x-filler", "f" * size_bytes))
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(path)(record_request(), metadata=metadata, timeout=5)

    assert refusal_of(caught.value).reason == "MESSAGE_TOO_LARGE"
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    totals.assert_unchanged()


def test_huge_metadata_breaks_nothing(channel: Any, credentials: Credentials, totals: Totals) -> None:
    """Metadata beyond what HTTP/2 is willing to read ends the call and not the connection."""
    metadata = (*credentials.metadata(""), ("x-filler", "f" * 200_000))
    with pytest.raises(grpc.RpcError):
        channel.unary_unary(RECORD)(record_request(), metadata=metadata, timeout=5)
    totals.assert_unchanged()
    channel.unary_unary(WHO_AM_I)(b"", metadata=credentials.metadata(""), timeout=5)


def test_much_metadata_is_served(channel: Any, credentials: Credentials, totals: Totals) -> None:
    """Metadata of 6 KiB is no reason to refuse a call, on either side of the front."""
    metadata = (*credentials.metadata(""), ("x-filler", "f" * 6_000))
    call(channel, "Record", record_request(), metadata)
    channel.unary_unary(WHO_AM_I)(b"", metadata=metadata, timeout=5)
    totals.forget()


@pytest.mark.parametrize("timeout", ["0n", "0S", "1n", "1u", "00000001n"])
def test_spent_deadline_writes_nothing(
    timeout: str, server: ServerProcess, client: Http2Client, totals: Totals
) -> None:
    """A call whose deadline has passed when it arrives is DEADLINE_EXCEEDED before anything is written."""
    headers = grpc_headers(RECORD, server.admin_key, ("grpc-timeout", timeout))
    with client:
        answer = client.call(headers, frame(record_request()))

    assert answer.grpc_status == DEADLINE_EXCEEDED
    totals.assert_unchanged()


@pytest.mark.parametrize(
    "timeout", ["", "S", "1", "1x", "-1S", "+1S", "99999999H", "18446744073709551615H", "1e3S"]
)
def test_odd_deadlines_are_served(
    timeout: str, server: ServerProcess, client: Http2Client, totals: Totals
) -> None:
    """A deadline that is huge, or cannot be read, leaves the server's own limit."""
    headers = grpc_headers(RECORD, server.admin_key, ("grpc-timeout", timeout))
    with client:
        answer = client.call(headers, frame(record_request()))
    totals.forget()

    assert answer.grpc_status == 0


def test_short_deadlines_end_in_an_answer_or_in_time(
    channel: Any, credentials: Credentials, totals: Totals
) -> None:
    """A deadline of a millisecond ends in OK or DEADLINE_EXCEEDED, and a retry with the same id finds the truth."""
    outcomes = set()
    for _ in range(50):
        request = record_request()
        try:
            call(channel, "Record", request, credentials.metadata(""), timeout_s=0.001)
            first = "OK"
        except grpc.RpcError as error:
            first = error.code().name
        again = pb.RecordResponse.FromString(call(channel, "Record", request, credentials.metadata("")))
        outcomes.add((first, again.duplicate))
    totals.forget()

    assert outcomes <= {("OK", True), ("DEADLINE_EXCEEDED", True), ("DEADLINE_EXCEEDED", False)}


def test_no_deadline_is_served(channel: Any, credentials: Credentials, totals: Totals) -> None:
    """A call without a deadline is served within the server's own limit."""
    answer = channel.unary_unary(RECORD)(record_request(), metadata=credentials.metadata(""))
    totals.forget()

    assert answer


def test_refusals_do_not_flood_the_log(server: ServerProcess, channel: Any, credentials: Credentials) -> None:
    """Callers cannot fill the log with bad requests."""
    before = len(server.log)
    for _ in range(300):
        refuse(channel, "Record", b"\x00", credentials.metadata(""))
        refuse(channel, "PutTenant", b"\x00", credentials.metadata(""))

    assert len(server.log) - before < 2_000
