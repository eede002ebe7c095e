# SPDX-License-Identifier: Apache-2.0
"""A gRPC server that fails on purpose: the real one gives no status on demand.

It speaks the real protocol on a real socket and only decides which status comes next.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from taximeter.v1 import access_service_pb2, metering_service_pb2


@dataclass(frozen=True)
class Pushback:
    """A status with the time that the server asks for, in milliseconds as it is written."""

    pushback_ms: str
    code: grpc.StatusCode


@dataclass
class FailingServer:
    """Answers each call with the next planned outcome, and with an empty answer when the plan is used up."""

    address: str = ""
    plan: deque[status_pb2.Status | Pushback | Callable[[], object]] = field(default_factory=deque)
    requests: list[Any] = field(default_factory=list)

    def handle(self, empty: type[Message]) -> Callable[[object, grpc.ServicerContext], object]:
        """Returns the handler of a method whose answer is `empty`."""

        def handler(request: object, context: grpc.ServicerContext) -> object:
            self.requests.append(request)
            if not self.plan:
                return empty()
            outcome = self.plan.popleft()
            if isinstance(outcome, Pushback):
                context.set_trailing_metadata((("grpc-retry-pushback-ms", outcome.pushback_ms),))
                context.abort(outcome.code, "on purpose")
            if isinstance(outcome, status_pb2.Status):
                context.abort_with_status(rpc_status.to_status(outcome))
            return outcome()

        return handler


def failure(code: grpc.StatusCode, reason: str = "", field_path: str = "") -> status_pb2.Status:
    """A status as the server sends it: with a reason, and a field where one is named."""
    status = status_pb2.Status(code=code.value[0], message=f"{code.name} on purpose")
    details = []
    if reason:
        details.append(
            error_details_pb2.ErrorInfo(reason=reason, domain="taximeter.dev", metadata={"error_id": "9f2c"})
        )
    if field_path:
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=field_path, description="must be 0 or more"
        )
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return status


@contextmanager
def serving() -> Iterator[FailingServer]:
    """Runs a failing server on a port of its own."""
    failing = FailingServer()
    methods: dict[str, dict[str, tuple[type[Message], type[Message]]]] = {
        "MeteringService": {
            "Record": (metering_service_pb2.RecordRequest, metering_service_pb2.RecordResponse),
            "RecordBatch": (
                metering_service_pb2.RecordBatchRequest,
                metering_service_pb2.RecordBatchResponse,
            ),
            "CheckQuota": (metering_service_pb2.CheckQuotaRequest, metering_service_pb2.CheckQuotaResponse),
        },
        "AccessService": {
            "WhoAmI": (access_service_pb2.WhoAmIRequest, access_service_pb2.WhoAmIResponse),
            "CreateKey": (access_service_pb2.CreateKeyRequest, access_service_pb2.CreateKeyResponse),
        },
    }
    server = grpc.server(ThreadPoolExecutor(4))
    for service, handlers in methods.items():
        server.add_generic_rpc_handlers(
            [
                grpc.method_handlers_generic_handler(
                    f"taximeter.v1.{service}",
                    {
                        name: grpc.unary_unary_rpc_method_handler(
                            failing.handle(answer), request.FromString, answer.SerializeToString
                        )
                        for name, (request, answer) in handlers.items()
                    },
                )
            ]
        )
    failing.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield failing
    finally:
        server.stop(0).wait()
