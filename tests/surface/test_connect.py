# SPDX-License-Identifier: Apache-2.0
"""Calls in JSON over HTTP, as callers without gRPC make them."""

import http.client
import json
import secrets
import subprocess
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

import pytest
from server.api import Api

from harness.secret_scan import SESSION
from harness.server_process import ServerProcess
from taximeter.v1 import metering_service_pb2 as pb

CHECK = "/taximeter.v1.MeteringService/CheckQuota"
RECORD = "/taximeter.v1.MeteringService/Record"
WHO_AM_I = "/taximeter.v1.AccessService/WhoAmI"
REPORT = "/taximeter.v1.MeteringService/Report"


class JsonCaller:
    """One HTTP/1.1 connection that calls with a key."""

    def __init__(self, server: ServerProcess) -> None:
        self.connection = http.client.HTTPConnection(server.address, timeout=10)
        self.key = server.admin_key

    def call(self, path: str, body: Any, **headers: str) -> tuple[int, Any]:
        """Return HTTP status and answer. body: what becomes JSON, or bytes."""
        sent = body if isinstance(body, bytes) else json.dumps(body).encode()
        all_headers = {"authorization": f"Bearer {self.key}", "content-type": "application/json"}
        all_headers |= {name.replace("_", "-"): value for name, value in headers.items()}
        self.connection.request("POST", path, sent, all_headers)
        answer = self.connection.getresponse()
        text = answer.read()
        if answer.status != HTTPStatus.OK:
            SESSION.note_status(text.decode(errors="replace"))
        if answer.headers.get_content_type() == "application/json":
            return answer.status, json.loads(text)
        return answer.status, text


@pytest.fixture
def caller(server: ServerProcess) -> Iterator[JsonCaller]:
    """A connection of the test's own."""
    found = JsonCaller(server)
    yield found
    found.connection.close()


def record(**changes: Any) -> dict[str, Any]:
    """Return a request to record a call."""
    usage = {"uncachedInputTokens": 1_200, "visibleOutputTokens": "300"}
    named = {"recordId": secrets.token_hex(16), "tenant": "json", "model": "gpt-4o", "usage": usage}
    return {"record": named | changes}


def test_check_record_and_report_in_json(caller: JsonCaller) -> None:
    """A call is checked, recorded with its exact cost, found as a duplicate, and reported, on one connection."""
    status, checked = caller.call(CHECK, {"tenant": "json", "model": "gpt-4o"})
    assert (status, checked["decision"]) == (HTTPStatus.OK, "DECISION_ALLOW")

    request = record()
    (status, first), (_, again) = caller.call(RECORD, request), caller.call(RECORD, request)
    assert (status, first.get("duplicate"), again["duplicate"]) == (HTTPStatus.OK, None, True)
    assert first["cost"] == {"currencyCode": "USD", "picos": "6000000000"}

    query = {"startTime": "2020-01-01T00:00:00Z", "endTime": "2020-02-01T00:00:00Z", "tenant": "json"}
    status, report = caller.call(REPORT, {"query": query})
    assert (status, "asOf" in report) == (HTTPStatus.OK, True)


def test_both_spellings_of_names_are_read(caller: JsonCaller) -> None:
    """Names may be those of the proto files, too."""
    sent = {"record_id": secrets.token_hex(16), "tenant": "json", "model": "gpt-4o", "usage": {"calls": 1}}

    assert caller.call(RECORD, {"record": sent})[0] == HTTPStatus.OK


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b"", "EOF"),
        (b"[]", "expected"),
        (b"{", "EOF"),
        (b'{"tenat": "x"}', "tenat"),
        (b'{"tenant": 7}', "expected"),
        (b'{"tenant": "json"} x', "trailing"),
        (b'{"tenant": "\xff"}', "request is not valid JSON"),
        (b"[" * 100_000, "request is not valid JSON"),
    ],
)
def test_bad_json_is_said(body: bytes, named: str, caller: JsonCaller) -> None:
    """What is no request of the method is 400, with what is wrong in it."""
    status, answer = caller.call(CHECK, body)

    assert (status, answer["code"]) == (HTTPStatus.BAD_REQUEST, "invalid_argument")
    assert named in answer["message"]
    assert answer["details"][0]["debug"]["reason"] == "MALFORMED_MESSAGE"


def test_errors_say_what_grpc_says(caller: JsonCaller) -> None:
    """An error carries code, message and reason, whichever side of the server has found it."""
    status, here = caller.call(RECORD, record(model=""))
    assert (status, here["code"], here["message"]) == (400, "invalid_argument", "record.model: required")
    assert [detail["type"] for detail in here["details"]] == ["google.rpc.ErrorInfo", "google.rpc.BadRequest"]
    assert here["details"][0]["debug"]["reason"] == "FIELD_REQUIRED"

    status, forwarded = caller.call("/taximeter.v1.TenantService/GetTenant", {"tenant": "nobody-here"})
    assert (status, forwarded["code"]) == (HTTPStatus.NOT_FOUND, "not_found")
    assert forwarded["details"][0]["debug"]["reason"] == "TENANT_UNKNOWN"
    assert forwarded["message"] == "the tenant has no settings"


def test_keys_and_roles_hold_for_json_too(caller: JsonCaller, server: ServerProcess) -> None:
    """No key is 401, and what pretends to be the server's own word about the caller is not believed."""
    caller.key = "none"
    forged = {"x_taximeter_role": "admin", "x_taximeter_key_id": "forged"}
    assert caller.call(WHO_AM_I, {}, **forged)[0] == HTTPStatus.UNAUTHORIZED
    caller.key = server.admin_key
    status, who = caller.call(WHO_AM_I, {}, **forged)
    assert (status, who["keyId"] != "forged") == (HTTPStatus.OK, True)


@pytest.mark.parametrize(
    ("path", "headers", "status", "code"),
    [
        ("/taximeter.v1.MeteringService/Nothing", {}, 501, "unimplemented"),
        ("/", {}, 501, "unimplemented"),
        ("/taximeter.v1.MeteringService/ExportReport", {}, 501, "unimplemented"),
        (CHECK, {"content_encoding": "gzip"}, 501, "unimplemented"),
        (CHECK, {"connect_timeout_ms": "0"}, 504, "deadline_exceeded"),
    ],
)
def test_what_is_not_served_is_said(
    path: str, headers: dict[str, str], status: int, code: str, caller: JsonCaller
) -> None:
    """Methods that are not there or stream, compressed requests and a deadline in the past are refused as such."""
    found, answer = caller.call(path, {"tenant": "json"}, **headers)

    assert (found, answer["code"]) == (status, code)


def test_large_requests_are_refused(caller: JsonCaller) -> None:
    """A request of more than 1 MiB is refused with its reason."""
    status, answer = caller.call(CHECK, b" " * ((1 << 20) + 100))

    assert (status, answer["code"]) == (HTTPStatus.TOO_MANY_REQUESTS, "resource_exhausted")
    assert answer["details"][0]["debug"]["reason"] == "MESSAGE_TOO_LARGE"


def test_messages_may_be_protobuf(caller: JsonCaller, admin: Api) -> None:
    """With application/proto both messages are protobuf, as Connect clients send them."""
    del admin
    request = pb.CheckQuotaRequest(tenant="json").SerializeToString()
    status, answer = caller.call(CHECK, request, content_type="application/proto")

    assert status == HTTPStatus.OK
    assert pb.CheckQuotaResponse.FromString(answer).decision == pb.DECISION_ALLOW


@pytest.mark.parametrize("version", ["--http1.1", "--http2-prior-knowledge"])
def test_curl_calls(version: str, server: ServerProcess) -> None:
    """The command curl calls over both versions of HTTP."""
    command = ["curl", "-sS", version, f"http://{server.address}{CHECK}", "-d", '{"tenant": "json"}',
               "-H", "content-type: application/json", "-H", f"authorization: Bearer {server.admin_key}"]  # fmt: skip
    answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout

    assert json.loads(answer)["decision"] == "DECISION_ALLOW"
