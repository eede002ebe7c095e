# SPDX-License-Identifier: Apache-2.0
"""The methods of AccessService about the audit log. A bound admin sees what concerns only tenants that it reaches."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from taximeter.v1 import access_service_pb2 as pb
from taximeter_server.audit_entry import OUTCOME_UNKNOWN, AuditEntry, AuditKind
from taximeter_server.audit_log import AuditLog
from taximeter_server.audit_verification import AuditVerifier
from taximeter_server.errors import InvalidFieldsError, PageTokenError, RangeInvalidError
from taximeter_server.pages import PageTokens, page_size_of
from taximeter_server.rpc.convert import timestamp_ms, to_timestamp
from taximeter_server.rpc.principal import Principal
from taximeter_server.rpc.server import Handler
from taximeter_server.tenant_path import check_tenant, is_reached, is_within

ENTRIES_PER_CALL_MAX = 50_000
"""Entries that one call looks at; a page may end there, with a token to go on."""
_TEXT_LENGTH_MAX = 200


@dataclass(frozen=True, slots=True)
class _Query:
    """Which events, newest first."""

    start_ms: int
    end_ms: int | None
    actor: str
    method: str
    tenant: str
    bounds: tuple[str, ...]

    def matches(self, entry: AuditEntry) -> bool:
        """Say whether an entry is asked for and may be seen."""
        return (
            (not self.actor or entry.actor == self.actor)
            and (not self.method or self.method in {entry.method, entry.method.rpartition("/")[2]})
            and (self.end_ms is None or entry.time_ms < self.end_ms)
            and (not self.tenant or any(is_within(tenant, self.tenant) for tenant in entry.tenants))
            and (not self.bounds or self._is_visible(entry))
        )

    def _is_visible(self, entry: AuditEntry) -> bool:
        return bool(entry.tenants) and all(is_reached(tenant, self.bounds) for tenant in entry.tenants)


class AuditMethods:
    """Serves ListAuditEvents and VerifyAuditLog."""

    def __init__(self, log: AuditLog, verifier: AuditVerifier, page_tokens: PageTokens) -> None:
        self._log = log
        self._verifier = verifier
        self._page_tokens = page_tokens

    def audit_handlers(self) -> Mapping[str, Handler]:
        """Return the handlers of these methods."""
        return {"ListAuditEvents": self.list_audit_events, "VerifyAuditLog": self.verify_audit_log}

    def list_audit_events(
        self, request: pb.ListAuditEventsRequest, principal: Principal
    ) -> pb.ListAuditEventsResponse:
        """List events, newest first."""
        query = _query_of(request, principal)
        page_size = page_size_of(request.page_size)
        binding = f"ListAuditEvents:{query}"
        before = self._log.length() + 1
        if request.page_token:
            before = _position(self._page_tokens.open(binding, request.page_token))
        response = pb.ListAuditEventsResponse()
        for entry, is_asked_for in self._looked_at(query, before):
            if is_asked_for:
                response.events.append(_to_event(entry))
            if len(response.events) == page_size or before - entry.sequence >= ENTRIES_PER_CALL_MAX:
                response.next_page_token = self._page_tokens.seal(binding, str(entry.sequence))
                break
        return response

    def _looked_at(self, query: _Query, before: int) -> Iterator[tuple[AuditEntry, bool]]:
        """Yield entries and whether they are asked for, until the start of the interval."""
        open_sequences = self._log.open_sequences()
        for entry in self._log.entries_before(before):
            if entry.time_ms < query.start_ms:
                return
            # An intent whose call has ended is told by its outcome.
            is_event = entry.kind is not AuditKind.INTENT or entry.sequence in open_sequences
            yield entry, is_event and query.matches(entry)

    def verify_audit_log(
        self, _request: pb.VerifyAuditLogRequest, principal: Principal
    ) -> pb.VerifyAuditLogResponse:
        """Walk the whole log; differences are the answer, not an error."""
        principal.require_unbound()
        found = self._verifier.verify()
        return pb.VerifyAuditLogResponse(
            entry_count=found.entry_count,
            open_call_count=found.open_call_count,
            chain_hash=found.chain_hash,
            differences=[
                pb.AuditDifference(
                    sequence=difference.sequence, place=difference.place, message=difference.message
                )
                for difference in found.differences
            ],
        )


def _query_of(request: pb.ListAuditEventsRequest, principal: Principal) -> _Query:
    """Return what is asked for. Raises InvalidFieldsError, RangeInvalidError, TenantForbiddenError."""
    if request.tenant:
        principal.require_reach(check_tenant(request.tenant, "tenant"))
    for field, text in (("actor", request.actor), ("method", request.method)):
        if len(text) > _TEXT_LENGTH_MAX:
            raise InvalidFieldsError.of(field, f"at most {_TEXT_LENGTH_MAX} characters")
    start_ms = timestamp_ms(request.start_time, "start_time") if request.HasField("start_time") else 0
    end_ms = timestamp_ms(request.end_time, "end_time") if request.HasField("end_time") else None
    if end_ms is not None and end_ms <= start_ms:
        raise RangeInvalidError("end_time", "must be after start_time")
    return _Query(start_ms, end_ms, request.actor, request.method, request.tenant, principal.tenants)


def _position(cursor: str) -> int:
    if not cursor.isdecimal():
        raise PageTokenError
    return int(cursor)


def _to_event(entry: AuditEntry) -> pb.AuditEvent:
    return pb.AuditEvent(
        sequence=entry.sequence,
        time=to_timestamp(entry.time_ms),
        actor=entry.actor,
        peer=entry.peer,
        method=entry.method,
        target=entry.target,
        tenants=entry.tenants,
        outcome=OUTCOME_UNKNOWN if entry.kind is AuditKind.INTENT else entry.outcome,
        changes=[
            pb.AuditChange(
                document=change.document,
                before_sha256=change.before_sha256,
                after_sha256=change.after_sha256,
            )
            for change in entry.changes
        ],
        request_sha256=entry.request_sha256,
        count=entry.count,
        chain_hash=entry.chain_hash,
    )
