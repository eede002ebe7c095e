# SPDX-License-Identifier: Apache-2.0
"""The part of the client for who may do what, and who has done what: keys and the audit log."""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

from taximeter import _convert, _convert_quota, _convert_settings
from taximeter._session import ADMINISTRATION_PAGE_SIZE, ADMINISTRATION_TIMEOUT_S, Session
from taximeter._timeline import VERIFY_TIMEOUT_S, Timeline
from taximeter.audit import AuditChange, AuditDifference, AuditEvent, AuditVerification
from taximeter.settings import Caller, CreatedKey, Key, Role, RotatedKey
from taximeter.v1 import access_service_pb2, access_service_pb2_grpc


class Access(Timeline):
    """Calls of AccessService. All raise ServerError."""

    def __init__(self, session: Session) -> None:
        """Takes the session to call through."""
        super().__init__(session)
        self._access = access_service_pb2_grpc.AccessServiceStub(session.channel)

    def create_key(
        self,
        role: Role,
        *,
        tenants: Iterable[str] = (),
        note: str = "",
        expire_time: datetime | None = None,
    ) -> CreatedKey:
        """Makes a key; its secret is never shown again. Not retried: each call makes another key."""
        key = access_service_pb2.Key(
            role=access_service_pb2.Role.Value(f"ROLE_{role.value}"),
            tenants=tenants,
            note=note,
            expire_time=_convert.timestamp(expire_time),
        )
        request = access_service_pb2.CreateKeyRequest(key=key)
        response = self._session.unary(self._access.CreateKey, request, ADMINISTRATION_TIMEOUT_S)
        return CreatedKey(_convert_settings.key(response.key), response.secret)

    def list_keys(self) -> tuple[Key, ...]:
        """Returns the keys without their secrets, newest first."""

        def fetch(token: str) -> access_service_pb2.ListKeysResponse:
            request = access_service_pb2.ListKeysRequest(page_size=ADMINISTRATION_PAGE_SIZE, page_token=token)
            return self._session.unary(self._access.ListKeys, request, ADMINISTRATION_TIMEOUT_S)

        return tuple(_convert_settings.key(key) for page in self._session.pages(fetch) for key in page.keys)

    def revoke_key(self, key_id: str) -> Key:
        """Revokes a key; it is refused everywhere within 5 s. Raises NotFoundError."""
        request = access_service_pb2.RevokeKeyRequest(key_id=key_id)
        response = self._session.unary(self._access.RevokeKey, request, ADMINISTRATION_TIMEOUT_S)
        return _convert_settings.key(response.key)

    def rotate_key(self, key_id: str, *, grace_period: timedelta | None = None) -> RotatedKey:
        """Makes the successor of a key; both work until the grace period, a day if not given, is over.

        Its secret is never shown again. Not retried. Raises NotFoundError, PreconditionError for a key that has ended
        or has a successor.
        """
        request = access_service_pb2.RotateKeyRequest(
            key_id=key_id, grace_period=_convert_quota.duration(grace_period)
        )
        response = self._session.unary(self._access.RotateKey, request, ADMINISTRATION_TIMEOUT_S)
        return RotatedKey(
            _convert_settings.key(response.key), response.secret, _convert_settings.key(response.predecessor)
        )

    def list_audit_events(
        self,
        *,
        start_time: datetime | None = None,
        end_time: datetime | None = None,
        actor: str = "",
        method: str = "",
        tenant: str = "",
    ) -> Iterator[AuditEvent]:
        """Yields what admins have changed or tried to, newest first, page by page.

        actor: id of a key. method: its full name or the name alone. tenant: with everything below it.
        """

        def fetch(token: str) -> access_service_pb2.ListAuditEventsResponse:
            request = access_service_pb2.ListAuditEventsRequest(
                start_time=_convert.timestamp(start_time),
                end_time=_convert.timestamp(end_time),
                actor=actor,
                method=method,
                tenant=tenant,
                page_size=ADMINISTRATION_PAGE_SIZE,
                page_token=token,
            )
            return self._session.unary(self._access.ListAuditEvents, request, VERIFY_TIMEOUT_S)

        for page in self._session.pages(fetch):
            yield from (_event(message) for message in page.events)

    def verify_audit_log(self) -> AuditVerification:
        """Walks the whole log, its copies, and what it is about, and names every difference."""
        request = access_service_pb2.VerifyAuditLogRequest()
        response = self._session.unary(self._access.VerifyAuditLog, request, VERIFY_TIMEOUT_S)
        return AuditVerification(
            entry_count=response.entry_count,
            open_call_count=response.open_call_count,
            chain_hash=response.chain_hash,
            differences=tuple(
                AuditDifference(found.sequence, found.place, found.message) for found in response.differences
            ),
        )

    def whoami(self) -> Caller:
        """Returns who the caller is."""
        request = access_service_pb2.WhoAmIRequest()
        response = self._session.unary(self._access.WhoAmI, request, ADMINISTRATION_TIMEOUT_S)
        return _convert_settings.caller(response)


def _event(message: access_service_pb2.AuditEvent) -> AuditEvent:
    return AuditEvent(
        sequence=message.sequence,
        time=_convert.instant(message.time),
        actor=message.actor,
        peer=message.peer,
        method=message.method,
        target=message.target,
        tenants=tuple(message.tenants),
        outcome=message.outcome,
        changes=tuple(
            AuditChange(change.document, change.before_sha256, change.after_sha256)
            for change in message.changes
        ),
        request_sha256=message.request_sha256,
        count=message.count,
        chain_hash=message.chain_hash,
    )
