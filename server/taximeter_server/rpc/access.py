# SPDX-License-Identifier: Apache-2.0
"""AccessService: making, rotating and revoking keys. A bound admin manages keys within its bounds only."""

from collections.abc import Callable, Mapping
from typing import ClassVar

from google.protobuf.descriptor import ServiceDescriptor

from taximeter.v1 import access_service_pb2 as pb
from taximeter_server import __version__
from taximeter_server.audit import Audit
from taximeter_server.errors import InvalidFieldsError, KeyUnknownError, TenantForbiddenError
from taximeter_server.keys import Key, Keys
from taximeter_server.pages import PageTokens
from taximeter_server.rpc.audit_events import AuditMethods
from taximeter_server.rpc.convert import duration_ms, role_name, timestamp_ms, to_key, to_role
from taximeter_server.rpc.principal import Principal
from taximeter_server.rpc.server import Handler
from taximeter_server.tenant_path import check_tenant, is_reached


class AccessService(AuditMethods):
    """Serves taximeter.v1.AccessService."""

    descriptor: ClassVar[ServiceDescriptor] = pb.DESCRIPTOR.services_by_name["AccessService"]
    serves_without_store: ClassVar[bool] = False

    def __init__(
        self,
        keys: Keys,
        audit: Audit,
        *,
        apply: Callable[[], None],
        page_tokens: PageTokens,
    ) -> None:
        """apply: brings this instance's engine up to date, so that a change holds when the call is answered."""
        super().__init__(audit.log, audit.verifier, page_tokens)
        self._keys = keys
        self._uses = audit.uses
        self._apply = apply

    def handlers(self) -> Mapping[str, Handler]:
        """Return the handler of every method."""
        return {
            "CreateKey": self.create_key,
            "ListKeys": self.list_keys,
            "RevokeKey": self.revoke_key,
            "RotateKey": self.rotate_key,
            "WhoAmI": self.who_am_i,
            **self.audit_handlers(),
        }

    def slow_methods(self) -> frozenset[str]:
        """Return the methods that read the whole audit log."""
        return frozenset({"ListAuditEvents", "VerifyAuditLog"})

    def create_key(self, request: pb.CreateKeyRequest, principal: Principal) -> pb.CreateKeyResponse:
        """Make a key."""
        wanted = request.key
        for number, tenant in enumerate(wanted.tenants):
            principal.require_reach(check_tenant(tenant, f"key.tenants[{number}]"))
        if not wanted.tenants:
            # A key without bounds reaches more than a bound admin may give away.
            principal.require_unbound()
        expire_time_ms = None
        if wanted.HasField("expire_time"):
            expire_time_ms = timestamp_ms(wanted.expire_time, "key.expire_time")
        key, secret = self._keys.create(
            role=role_name(wanted.role),
            tenants=wanted.tenants,
            note=wanted.note,
            expire_time_ms=expire_time_ms,
        )
        self._apply()
        return pb.CreateKeyResponse(key=to_key(key), secret=secret)

    def list_keys(self, request: pb.ListKeysRequest, principal: Principal) -> pb.ListKeysResponse:
        """List the keys that the caller may manage."""
        keys = [key for key in self._keys.list() if _may_manage(principal, key)]
        page, next_page_token = self._page_tokens.page(
            keys,
            cursor_of=lambda key: key.key_id,
            binding=f"ListKeys:{','.join(principal.tenants)}",
            page_size=request.page_size,
            page_token=request.page_token,
        )
        uses = self._uses.latest()
        listed = [to_key(key, last_use_time_ms=uses.get(key.key_id)) for key in page]
        return pb.ListKeysResponse(keys=listed, next_page_token=next_page_token)

    def revoke_key(self, request: pb.RevokeKeyRequest, principal: Principal) -> pb.RevokeKeyResponse:
        """Revoke a key."""
        if not request.key_id:
            raise InvalidFieldsError.required("key_id")
        self._require_manageable(principal, request.key_id)
        key = self._keys.revoke(request.key_id)
        self._apply()
        return pb.RevokeKeyResponse(key=to_key(key))

    def rotate_key(self, request: pb.RotateKeyRequest, principal: Principal) -> pb.RotateKeyResponse:
        """Make the successor of a key."""
        if not request.key_id:
            raise InvalidFieldsError.required("key_id")
        self._require_manageable(principal, request.key_id)
        grace_period_ms = None
        if request.HasField("grace_period"):
            grace_period_ms = duration_ms(request.grace_period, "grace_period")
        successor, secret, old = self._keys.rotate(request.key_id, grace_period_ms)
        self._apply()
        return pb.RotateKeyResponse(key=to_key(successor), secret=secret, predecessor=to_key(old))

    def _require_manageable(self, principal: Principal, key_id: str) -> None:
        if not principal.tenants:
            return
        try:
            key = self._keys.get(key_id)
        except KeyUnknownError:
            # A bound admin must not learn which keys exist outside its bounds.
            raise TenantForbiddenError from None
        if not _may_manage(principal, key):
            raise TenantForbiddenError

    def who_am_i(self, _request: pb.WhoAmIRequest, principal: Principal) -> pb.WhoAmIResponse:
        """Show the caller."""
        return pb.WhoAmIResponse(
            key_id=principal.key_id,
            role=to_role(principal.role),
            tenants=principal.tenants,
            server_version=__version__,
        )


def _may_manage(principal: Principal, key: Key) -> bool:
    if not principal.tenants:
        return True
    return bool(key.tenants) and all(is_reached(tenant, principal.tenants) for tenant in key.tenants)
