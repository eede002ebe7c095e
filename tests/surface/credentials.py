# SPDX-License-Identifier: Apache-2.0
"""Credentials good and bad, by the names in cases/bad-input.yaml, as metadata."""

import time
from collections.abc import Callable

from server.api import Api

from taximeter.v1 import access_service_pb2 as pb
from taximeter_server.keys import checksum_of

Kind = Callable[[], "Metadata"]
Metadata = tuple[tuple[str, str | bytes], ...]
"""The metadata of a call; values that are not text are bytes."""


def bearer(*secrets: str) -> Metadata:
    """Return metadata with one authorization for each key."""
    return tuple(("authorization", f"Bearer {secret}") for secret in secrets)


class Credentials:
    """Makes credentials, each kind once."""

    def __init__(self, admin: Api, admin_key: str) -> None:
        self._admin = admin
        self._admin_key = admin_key
        self._made: dict[str, Metadata] = {}
        self._kinds: dict[str, Kind] = {
            "admin": lambda: bearer(admin_key),
            "none": tuple,
            "role_meter": lambda: bearer(self._key(pb.ROLE_METER)),
            "role_read": lambda: bearer(self._key(pb.ROLE_READ)),
            "bound_here": lambda: bearer(self._key(pb.ROLE_METER, "good-input")),
            "bound_elsewhere": lambda: bearer(self._key(pb.ROLE_METER, "elsewhere")),
            "unknown_key": lambda: bearer(_with_id(admin_key, "aaaaaaaaaaaa")),
            "wrong_secret": lambda: bearer(_with_secret(admin_key)),
            "wrong_checksum": lambda: bearer(admin_key[:-1] + ("a" if admin_key[-1] != "a" else "b")),
            "cut_off": lambda: bearer(admin_key[: len(admin_key) // 2]),
            "revoked": lambda: bearer(self._revoked()),
            "expired": lambda: bearer(self._expired()),
            "other_scheme": lambda: (("authorization", f"Basic {admin_key}"),),
            "bare": lambda: (("authorization", admin_key),),
            "lower_case_scheme": lambda: (("authorization", f"bearer  {admin_key}"),),
            "too_long": lambda: bearer(f"{admin_key}{'a' * 1000}"),
            "trailing_space": lambda: bearer(f"{admin_key}_ "),
            "not_ascii": lambda: (("authorization", "Bearer tx_~"),),
            "twice": lambda: bearer(admin_key, admin_key),
            "two_different": lambda: bearer(admin_key, self._key(pb.ROLE_METER)),
        }

    def metadata(self, kind: str) -> Metadata:
        """Return the metadata of a kind; the admin's when kind is empty."""
        kind = kind or "admin"
        if kind not in self._made:
            self._made[kind] = self._kinds[kind]()
        return self._made[kind]

    def _create(self, key: pb.Key) -> pb.CreateKeyResponse:
        answer: pb.CreateKeyResponse = self._admin.call(
            self._admin.access.CreateKey, pb.CreateKeyRequest(key=key)
        )
        return answer

    def _key(self, role: pb.Role.ValueType, *tenants: str) -> str:
        return self._create(pb.Key(role=role, tenants=tenants)).secret

    def _revoked(self) -> str:
        made = self._create(pb.Key(role=pb.ROLE_ADMIN))
        self._admin.call(self._admin.access.RevokeKey, pb.RevokeKeyRequest(key_id=made.key.key_id))
        return made.secret

    def _expired(self) -> str:
        key = pb.Key(role=pb.ROLE_ADMIN)
        key.expire_time.FromMilliseconds(int(time.time() * 1000) + 300)  # noqa: TID251 (the server's clock)
        secret = self._create(key).secret
        time.sleep(0.4)
        return secret


def _with_id(secret: str, key_id: str) -> str:
    _, _, middle, _ = secret.split("_")
    body = f"tx_{key_id}_{middle}"
    return f"{body}_{checksum_of(body)}"


def _with_secret(secret: str) -> str:
    _, key_id, middle, _ = secret.split("_")
    body = f"tx_{key_id}_{middle[::-1]}"
    return f"{body}_{checksum_of(body)}"
