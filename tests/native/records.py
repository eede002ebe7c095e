# SPDX-License-Identifier: Apache-2.0
"""Records as the tests of the engine send them."""

import secrets
from typing import Any

from google.rpc import status_pb2

from harness.engine_process import EngineError
from harness.grpc_status import refusal_of_status
from taximeter.v1 import metering_service_pb2 as pb

TENANT = "acme/research/alice"


def uuid_v7(time_ms: int, rest: int = 1) -> str:
    """Return a UUIDv7 of an instant, always the same one for the same rest."""
    digits = f"{time_ms << 80 | 7 << 76 | 2 << 62 | rest:032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def new_id() -> str:
    """Return an id without a date."""
    return secrets.token_hex(16)


def request(record_id: str, *, tenant: str = TENANT, tokens: int = 10) -> bytes:
    """Return a request to record usage of now."""
    found = pb.RecordRequest()
    found.record.record_id = record_id
    found.record.tenant = tenant
    found.record.model = "m"
    found.record.usage.uncached_input_tokens = tokens
    found.record.attributes["k"] = "v"
    return found.SerializeToString()


def outcome(engine: Any, record_id: str, *, tenant: str = TENANT, tokens: int = 10) -> str:
    """Record; returns "new", "duplicate", or the reason of the refusal."""
    try:
        answer = pb.RecordResponse.FromString(engine.record(request(record_id, tenant=tenant, tokens=tokens)))
    except EngineError as error:
        return refusal_of_status(status_pb2.Status.FromString(error.status)).reason
    return "duplicate" if answer.duplicate else "new"
