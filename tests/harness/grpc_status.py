# SPDX-License-Identifier: Apache-2.0
"""What a call ended with, taken apart: code, message and the details that every status must carry."""

from dataclasses import dataclass, field
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from harness.secret_scan import SESSION

CODE_BY_NUMBER = {code.value[0]: code.name for code in grpc.StatusCode}


@dataclass(frozen=True)
class Refusal:
    """A status other than OK. fields: paths in BadRequest, in order; text: all of it, to search in."""

    code: str
    message: str
    reason: str = ""
    domain: str = ""
    facts: dict[str, str] = field(default_factory=dict)
    fields: tuple[str, ...] = ()
    text: str = ""


def refusal_of_status(status: status_pb2.Status) -> Refusal:
    """Return the status taken apart."""
    info, bad_request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    for detail in status.details:
        assert detail.Unpack(info) or detail.Unpack(bad_request), f"unexpected detail {detail.type_url}"
    text = f"{status.message}\n{info}\n{bad_request}"
    SESSION.note_status(text)
    return Refusal(
        code=CODE_BY_NUMBER[status.code],
        message=status.message,
        reason=info.reason,
        domain=info.domain,
        facts=dict(info.metadata),
        fields=tuple(violation.field for violation in bad_request.field_violations),
        text=text,
    )


def refusal_of(error: grpc.RpcError) -> Refusal:
    """Return the status of a failed call taken apart; without details when it carries none."""
    call: Any = error
    status = rpc_status.from_call(call)
    if status is None:
        return Refusal(code=call.code().name, message=call.details() or "")
    assert CODE_BY_NUMBER[status.code] == call.code().name
    return refusal_of_status(status)
