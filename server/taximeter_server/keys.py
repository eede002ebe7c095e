# SPDX-License-Identifier: Apache-2.0
"""API keys: ``tx_<id>_<secret>_<checksum>``. The store keeps the SHA-256 of the whole text, never the text.

The checksum lets scanners tell a leaked key from a random string; a key is accepted by its hash alone.
"""

import hashlib
import json
import secrets
import string
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self

import structlog

from taximeter_server.data_directory import write_private_file
from taximeter_server.errors import (
    InvalidFieldsError,
    KeyEndedError,
    KeyUnknownError,
    LastAdminKeyError,
    StoreCorruptError,
)
from taximeter_server.store import DocumentStore
from taximeter_server.tenant_path import check_tenant, is_within

ROLES = ("admin", "meter", "read")
NOTE_LENGTH_MAX = 200
TENANTS_MAX = 100

GRACE_PERIOD_MS = 86_400_000
"""A day: how long a rotated key goes on working unless said otherwise."""
GRACE_PERIOD_MS_MAX = 30 * 86_400_000

ID_LENGTH = 12
SECRET_LENGTH = 43
"""Characters of base 62: 256 bits."""
CHECKSUM_LENGTH = 6

_ID_ALPHABET = string.ascii_lowercase + string.digits
_SECRET_ALPHABET = string.digits + string.ascii_letters
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A key without its secret. Times are milliseconds since 1970 UTC; tenants empty means all."""

    key_id: str
    secret_sha256: str
    role: str
    tenants: tuple[str, ...]
    note: str
    create_time_ms: int
    expire_time_ms: int | None
    revoke_time_ms: int | None
    predecessor_id: str = ""
    successor_id: str = ""

    def is_live(self, now_ms: int) -> bool:
        """Say whether the key works."""
        return self.revoke_time_ms is None and (self.expire_time_ms is None or self.expire_time_ms > now_ms)

    def to_json(self) -> str:
        """Return the key's document."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, document: str) -> Self:
        """Read a key's document. Raises StoreCorruptError."""
        try:
            values = json.loads(document)
            return cls(**{**values, "tenants": tuple(values["tenants"])})
        except (ValueError, TypeError, KeyError) as error:
            raise StoreCorruptError(f"key document: {error}") from error


def make_secret() -> str:
    """Return a new key, ``tx_...``."""
    key_id = "".join(secrets.choice(_ID_ALPHABET) for _ in range(ID_LENGTH))
    secret = "".join(secrets.choice(_SECRET_ALPHABET) for _ in range(SECRET_LENGTH))
    body = f"tx_{key_id}_{secret}"
    return f"{body}_{checksum_of(body)}"


def checksum_of(body: str) -> str:
    """Return the CRC-32 of ``tx_<id>_<secret>`` in base 62, six digits."""
    number = zlib.crc32(body.encode())
    digits = ""
    for _ in range(CHECKSUM_LENGTH):
        number, digit = divmod(number, len(_SECRET_ALPHABET))
        digits = _SECRET_ALPHABET[digit] + digits
    return digits


def key_id_of(secret: str) -> str:
    """Return the id within a key. Raises ValueError when the text is no key."""
    parts = secret.split("_")
    if len(parts) != len(("tx", "id", "secret", "checksum")) or parts[0] != "tx":
        raise ValueError("not a key")
    if checksum_of("_".join(parts[:3])) != parts[3]:
        raise ValueError("not a whole key")
    return parts[1]


class Keys:
    """All keys of a store."""

    def __init__(self, store: DocumentStore, clock: Callable[[], int]) -> None:
        self._store = store
        self._clock = clock

    def create(
        self, *, role: str, tenants: Sequence[str], note: str, expire_time_ms: int | None
    ) -> tuple[Key, str]:
        """Make a key. Returns it and its secret, which nothing can show again. Raises InvalidFieldsError."""
        if role not in ROLES:
            raise InvalidFieldsError.required("key.role")
        if len(tenants) > TENANTS_MAX:
            raise InvalidFieldsError.of("key.tenants", f"at most {TENANTS_MAX}")
        for number, tenant in enumerate(tenants):
            check_tenant(tenant, f"key.tenants[{number}]")
        if len(note) > NOTE_LENGTH_MAX:
            raise InvalidFieldsError.of("key.note", f"at most {NOTE_LENGTH_MAX} characters")
        if expire_time_ms is not None and expire_time_ms <= self._clock():
            raise InvalidFieldsError.of("key.expire_time", "must lie ahead")
        secret = make_secret()
        key = replace(
            self._from_secret(secret, role),
            tenants=tuple(dict.fromkeys(tenants)),
            note=note,
            expire_time_ms=expire_time_ms,
        )
        self._put(key)
        return key, secret

    def _put(self, key: Key) -> None:
        self._store.change_keys(lambda _documents: {key.key_id: key.to_json()})

    def _from_secret(self, secret: str, role: str) -> Key:
        return Key(
            key_id=key_id_of(secret),
            secret_sha256=hashlib.sha256(secret.encode()).hexdigest(),
            role=role,
            tenants=(),
            note="",
            create_time_ms=self._clock(),
            expire_time_ms=None,
            revoke_time_ms=None,
        )

    def list(self) -> list[Key]:
        """Return all keys, newest first."""
        keys = [Key.from_json(document) for document in self._store.keys()]  # noqa: SIM118 (as below)
        return sorted(keys, key=lambda key: (-key.create_time_ms, key.key_id))

    def get(self, key_id: str) -> Key:
        """Return one key. Raises KeyUnknownError."""
        document = self._store.key(key_id)
        return _key_of({} if document is None else {key_id: document}, key_id)

    def bound_to(self, tenant: str) -> tuple[Key, ...]:
        """Return the keys that work and are bound to a tenant, or to one below it, newest first."""
        now_ms = self._clock()
        return tuple(
            key
            for key in self.list()
            if key.is_live(now_ms) and any(is_within(bound, tenant) for bound in key.tenants)
        )

    def revoke(self, key_id: str) -> Key:
        """Revoke a key; again is fine and keeps the first time. Raises KeyUnknownError, LastAdminKeyError."""

        def change(documents: dict[str, str]) -> dict[str, str]:
            key = _key_of(documents, key_id)
            if key.revoke_time_ms is not None:
                return {}
            now_ms = self._clock()
            others = (Key.from_json(text) for other_id, text in documents.items() if other_id != key_id)
            if _is_whole_admin(key, now_ms) and not any(_is_whole_admin(other, now_ms) for other in others):
                raise LastAdminKeyError
            return {key_id: replace(key, revoke_time_ms=now_ms).to_json()}

        self._store.change_keys(change)
        return self.get(key_id)

    def rotate(self, key_id: str, grace_period_ms: int | None) -> tuple[Key, str, Key]:
        """Make the successor of a key, which goes on working for the grace period, a day when None.

        Returns (successor, its secret, the old key). Raises KeyUnknownError, KeyEndedError, InvalidFieldsError.
        """
        grace_ms = GRACE_PERIOD_MS if grace_period_ms is None else grace_period_ms
        if not 0 <= grace_ms <= GRACE_PERIOD_MS_MAX:
            raise InvalidFieldsError.of("grace_period", "0 s to 30 days")
        secret = make_secret()
        made: list[Key] = []

        def change(documents: dict[str, str]) -> dict[str, str]:
            old = _key_of(documents, key_id)
            now_ms = self._clock()
            _check_rotatable(old, now_ms)
            lifetime_ms = None if old.expire_time_ms is None else old.expire_time_ms - old.create_time_ms
            successor = replace(
                self._from_secret(secret, old.role),
                tenants=old.tenants,
                note=old.note,
                expire_time_ms=None if lifetime_ms is None else now_ms + lifetime_ms,
                predecessor_id=old.key_id,
            )
            end_ms = now_ms + grace_ms
            if old.expire_time_ms is not None:
                end_ms = min(end_ms, old.expire_time_ms)
            old = replace(old, expire_time_ms=end_ms, successor_id=successor.key_id)
            made[:] = [successor, old]
            return {key.key_id: key.to_json() for key in made}

        self._store.change_keys(change)
        successor, old = made
        return successor, secret, old

    def ensure_admin_key(self, file: Path) -> None:
        """Make an admin key, kept in file, when the store has no key at all.

        The file is written first: a key in the store whose secret is nowhere would lock everybody out. A file that
        is already there, from a start that was cut off or a store that was lost, is taken up again.
        """
        if self._store.keys():
            return
        secret = _read_secret(file) or make_secret()
        write_private_file(file, f"{secret}\n".encode())
        key = replace(self._from_secret(secret, "admin"), note="made at first start")
        self._put(key)
        _log.info("made an admin key", key_id=key.key_id, file=str(file))


def _key_of(documents: Mapping[str, str], key_id: str) -> Key:
    document = documents.get(key_id)
    if document is None:
        raise KeyUnknownError
    return Key.from_json(document)


def _is_whole_admin(key: Key, now_ms: int) -> bool:
    """Say whether the key can do everything, for all tenants."""
    return key.role == "admin" and not key.tenants and key.is_live(now_ms)


def _check_rotatable(key: Key, now_ms: int) -> None:
    if key.revoke_time_ms is not None:
        raise KeyEndedError("REVOKED")
    if key.successor_id:
        raise KeyEndedError("ROTATED")
    if not key.is_live(now_ms):
        raise KeyEndedError("EXPIRED")


def _read_secret(file: Path) -> str | None:
    try:
        secret = file.read_text(encoding="ascii").strip()
        key_id_of(secret)
    except (OSError, ValueError):
        return None
    return secret
