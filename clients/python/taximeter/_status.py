# SPDX-License-Identifier: Apache-2.0
"""Turns gRPC statuses into the exceptions of `taximeter.errors`."""

from collections.abc import Iterable

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from taximeter.errors import ERROR_BY_CODE, FieldViolation, InternalError, ServerError

_DETAILS_KEY = "grpc-status-details-bin"
_CODE_BY_NUMBER: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}


def error_of_call(error: grpc.RpcError) -> ServerError:
    """Returns the exception for a call that failed. Raises nothing, whatever the details are."""
    status = status_pb2.Status(code=error.code().value[0], message=error.details() or "")
    for key, value in metadata_of(error):
        if key == _DETAILS_KEY and isinstance(value, bytes):
            try:
                status = status_pb2.Status.FromString(value)
            except DecodeError:
                # A proxy's garbage must not hide the status that came with it.
                break
    return error_of_status(status)


def metadata_of(error: grpc.RpcError) -> Iterable[tuple[str, str | bytes]]:
    """Returns the trailing metadata of a call that failed, of either kind of channel."""
    found: Iterable[tuple[str, str | bytes]] = error.trailing_metadata() or ()  # type: ignore[assignment]  # pairs all
    return found


def error_of_status(status: status_pb2.Status) -> ServerError:
    """Returns the exception for a google.rpc.Status, such as one item of a batch carries."""
    code = _CODE_BY_NUMBER.get(status.code, grpc.StatusCode.UNKNOWN)
    info = error_details_pb2.ErrorInfo()
    bad_request = error_details_pb2.BadRequest()
    for detail in status.details:
        for target in (info, bad_request):
            if detail.Is(target.DESCRIPTOR):
                detail.Unpack(target)
    return ERROR_BY_CODE.get(code, InternalError)(
        code,
        status.message or code.name,
        reason=info.reason,
        metadata=dict(info.metadata),
        field_violations=tuple(FieldViolation(v.field, v.description) for v in bad_request.field_violations),
    )
