# SPDX-License-Identifier: Apache-2.0
"""Calls of the engine with plain values, and answers in the terms of the model."""

import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from quota.model_level import COST, REQUESTS, TOKENS, Answer, Status

from taximeter.v1 import metering_service_pb2 as pb
from taximeter.v1 import quota_pb2, tenant_service_pb2
from taximeter_server.limits import Limits
from taximeter_server.rate_card import parse_rate_card
from taximeter_server.tenants import Tenant

INPUT_PICOS, OUTPUT_PICOS = 3_700_000, 11_100_000
"""Prices of a token by the card below, whole pico-units: no line is ever rounded."""
CARD = """
billing:
  rate_card:
    "m":
      input: 3.7
      output: 11.1
"""


SHADOW_NAMES = {REQUESTS: "requests_per_minute", TOKENS: "tokens_per_day", COST: "cost_per_day"}


class Engine(Protocol):
    """The native engine, in this process or another."""

    def set_catalogue(self, catalogue_json: bytes) -> None:
        """Swap the catalogue in."""

    def record(self, request: bytes) -> bytes:
        """Serve RecordRequest."""

    def check_quota(self, request: bytes) -> bytes:
        """Serve CheckQuotaRequest."""

    def extend_hold(self, request: bytes) -> bytes:
        """Serve ExtendHoldRequest."""

    def release_hold(self, request: bytes) -> bytes:
        """Serve ReleaseHoldRequest."""

    def quota_status(self, tenant: str) -> bytes:
        """Return GetQuotaStatusResponse."""

    def put_limits(self, levels: Sequence[Tenant]) -> None:
        """Set the limits of levels."""

    def put_plan(self, name: str, limits: Limits | None) -> None:
        """Set the limits of a plan, or remove it."""


def catalogue(
    card: str = CARD, keys: Sequence[Mapping[str, Any]] = (), leases: Mapping[str, int] | None = None
) -> bytes:
    """Return a catalogue with one card, in force for all times."""
    return catalogue_of([(0, card)], keys, leases)


def catalogue_of(
    cards: Sequence[tuple[int, str | None]],
    keys: Sequence[Mapping[str, Any]] = (),
    leases: Mapping[str, int] | None = None,
) -> bytes:
    """Return a catalogue of cards, each in force from a time in milliseconds; None is the card above."""
    documents = [(time_ms, parse_rate_card(card or CARD)) for time_ms, card in cards]
    found = {
        "revision": 1,
        "timeline": [
            {"version": version, "effective_time_ms": time_ms, "rate_card_id": document.rate_card_id}
            for version, (time_ms, document) in enumerate(documents, 1)
        ],
        "rate_cards": {
            document.rate_card_id: json.loads(document.canonical_json) for _, document in documents
        },
        "keys": list(keys),
        "leases": dict(leases or {}),
    }
    return json.dumps(found, sort_keys=True, separators=(",", ":")).encode()


def put_limits(engine: Engine, tenant: str, maxima: Mapping[int, int], **settings: Any) -> None:
    """Set the maxima of one level, by kind. settings: further fields of Tenant."""
    engine.put_limits([Tenant(name=tenant, limits=limits_of(maxima), **settings)])


def limits_of(maxima: Mapping[int, int], shadow: Iterable[int] = ()) -> Limits:
    """Return maxima by kind, and kinds that are only watched, as the engine takes them."""
    return Limits(
        requests_per_minute=maxima.get(REQUESTS),
        tokens_per_day=maxima.get(TOKENS),
        cost_per_day_picos=maxima.get(COST),
        shadow=tuple(SHADOW_NAMES[kind] for kind in sorted(shadow)),
    )


def check(
    engine: Engine, tenant: str, *, requests: int = 0, tokens: int | None = None, dry_run: bool = False
) -> Answer:
    """Ask whether a call may go on. tokens: estimated input."""
    request = pb.CheckQuotaRequest(tenant=tenant, model="m", requests=requests, dry_run=dry_run)
    if tokens is not None:
        request.estimate.uncached_input_tokens = tokens
    return to_answer(_check(engine, request))


def reserve(
    engine: Engine, tenant: str, *, tokens: int, ttl_s: int = 0, requests: int = 0, request_id: str = ""
) -> pb.CheckQuotaResponse:
    """Ask whether a call may go on, by name, with a hold, or both."""
    request = pb.CheckQuotaRequest(tenant=tenant, model="m", requests=requests, request_id=request_id)
    request.estimate.uncached_input_tokens = tokens
    if ttl_s:
        request.hold_ttl.FromSeconds(ttl_s)
    return _check(engine, request)


def extend(
    engine: Engine, tenant: str, hold_id: str, *, ttl_s: int, tokens: int | None = None
) -> pb.ExtendHoldResponse:
    """Let a hold live longer, and hold more."""
    request = pb.ExtendHoldRequest(tenant=tenant, hold_id=hold_id, model="m")
    request.hold_ttl.FromSeconds(ttl_s)
    if tokens is not None:
        request.estimate.uncached_input_tokens = tokens
    return pb.ExtendHoldResponse.FromString(engine.extend_hold(request.SerializeToString()))


def release(engine: Engine, tenant: str, hold_id: str) -> int:
    """Free a hold; returns its state."""
    request = pb.ReleaseHoldRequest(tenant=tenant, hold_id=hold_id)
    return pb.ReleaseHoldResponse.FromString(engine.release_hold(request.SerializeToString())).state


def record(
    engine: Engine,
    tenant: str,
    *,
    tokens: int,
    output_tokens: int = 0,
    occur_time_ms: int | None = None,
    hold_id: str = "",
    record_id: str = "",
) -> pb.RecordResponse:
    """Record usage."""
    request = pb.RecordRequest()
    request.record.record_id = record_id or secrets.token_hex(16)
    request.record.tenant = tenant
    request.record.model = "m"
    request.record.hold_id = hold_id
    request.record.usage.uncached_input_tokens = tokens
    request.record.usage.visible_output_tokens = output_tokens
    if occur_time_ms is not None:
        request.record.occur_time.FromMilliseconds(occur_time_ms)
    return pb.RecordResponse.FromString(engine.record(request.SerializeToString()))


def status(engine: Engine, tenant: str) -> list[Status]:
    """Return the limits of a tenant and its parents."""
    answer = tenant_service_pb2.GetQuotaStatusResponse.FromString(engine.quota_status(tenant))
    return [to_status(limit) for limit in answer.limits]


def to_answer(response: pb.CheckQuotaResponse | pb.ExtendHoldResponse) -> Answer:
    """Return a decision in the terms of the model."""
    retry_after_ms = _duration_ms(response.retry_after) if response.HasField("retry_after") else None
    allowed = response.decision == pb.DECISION_ALLOW
    return Answer(allowed, [to_status(limit) for limit in response.limits], retry_after_ms)


def to_status(limit: quota_pb2.LimitStatus) -> Status:
    """Return a limit in the terms of the model."""
    return Status(
        limit.tenant,
        limit.kind,
        limit.maximum,
        limit.used,
        limit.held,
        limit.remaining,
        time_ms(limit.reset_time) if limit.HasField("reset_time") else None,
        _duration_ms(limit.retry_after) if limit.HasField("retry_after") else None,
        limit.exceeded,
        limit.shadow,
        limit.would_deny,
        time_ms(limit.temporary_until_time) if limit.HasField("temporary_until_time") else None,
    )


def time_ms(time: Timestamp) -> int:
    """Return a time of whole milliseconds."""
    assert time.nanos % 1_000_000 == 0
    return time.seconds * 1000 + time.nanos // 1_000_000


def _check(engine: Engine, request: pb.CheckQuotaRequest) -> pb.CheckQuotaResponse:
    return pb.CheckQuotaResponse.FromString(engine.check_quota(request.SerializeToString()))


def _duration_ms(duration: Duration) -> int:
    assert duration.nanos % 1_000_000 == 0
    return duration.seconds * 1000 + duration.nanos // 1_000_000
