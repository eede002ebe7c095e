# SPDX-License-Identifier: Apache-2.0
"""API keys: shown once, stored as a hash, revocable, and never a way to be locked out."""

import hashlib
import re
import stat
from pathlib import Path

import pytest
import redis
import structlog
from server.stopped_clock import StoppedClock

from taximeter_server.embedded_store import EmbeddedStore
from taximeter_server.errors import InvalidFieldsError, KeyUnknownError
from taximeter_server.keys import Key, Keys, checksum_of, key_id_of, make_secret
from taximeter_server.store import DocumentStore


@pytest.fixture
def keys(documents: DocumentStore, clock: StoppedClock) -> Keys:
    """The keys of an empty store."""
    return Keys(documents, clock)


def create(keys: Keys, **settings: object) -> tuple[Key, str]:
    """Create a key with settings that are left out at their simplest."""
    defaults: dict[str, object] = {"role": "meter", "tenants": (), "note": "", "expire_time_ms": None}
    return keys.create(**{**defaults, **settings})  # type: ignore[arg-type]


def test_secret_has_its_published_form() -> None:
    """A key is tx_<id>_<secret>_<checksum>, and its checksum catches every changed character."""
    secret = make_secret()

    assert re.fullmatch(r"tx_[a-z0-9]{12}_[0-9A-Za-z]{43}_[0-9A-Za-z]{6}", secret)
    assert key_id_of(secret) == secret.split("_")[1]
    for position in range(3, len(secret)):
        changed = secret[:position] + ("a" if secret[position] != "a" else "b") + secret[position + 1 :]
        with pytest.raises(ValueError, match="key"):
            key_id_of(changed)


def test_checksum_never_changes() -> None:
    """The checksum of a known text is what scanners were told."""
    assert checksum_of("tx_abc_def") == "0fGCVz"


def test_store_holds_the_hash_and_not_the_secret(keys: Keys, embedded_store: EmbeddedStore) -> None:
    """Nothing in the store gives a key away."""
    key, secret = create(keys)
    client = redis.Redis.from_url(embedded_store.url, decode_responses=True)
    stored = str(client.hgetall("{tx:cfg}:keys"))

    assert key.secret_sha256 == hashlib.sha256(secret.encode()).hexdigest()
    assert key.secret_sha256 in stored
    assert secret.split("_")[2] not in stored


def test_keys_are_listed_newest_first(keys: Keys, clock: StoppedClock) -> None:
    """list() shows every key with its settings, newest first."""
    first, _ = create(keys, note="first")
    clock.now_ms += 1
    second, _ = create(keys, role="read", tenants=("acme", "acme", "beta/x"), note="second")

    assert keys.list() == [second, first]
    assert second.tenants == ("acme", "beta/x")


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"role": "owner"}, "key.role"),
        ({"tenants": ("acme", "../x")}, "key.tenants[1]"),
        ({"tenants": ("acme",) * 101}, "key.tenants"),
        ({"note": "x" * 201}, "key.note"),
        ({"expire_time_ms": 1_780_495_629_123}, "key.expire_time"),
    ],
)
def test_bad_key_is_refused(keys: Keys, settings: dict[str, object], field: str) -> None:
    """A key that would be useless or unbounded is refused by the field's name, and nothing is stored."""
    with pytest.raises(InvalidFieldsError) as caught:
        create(keys, **settings)

    assert caught.value.violations[0].field == field
    assert keys.list() == []


def test_revoking_twice_keeps_the_first_time(keys: Keys, clock: StoppedClock) -> None:
    """A revoked key stays revoked since the first time."""
    key, _ = create(keys)
    revoked = keys.revoke(key.key_id)
    clock.now_ms += 1000

    assert revoked.revoke_time_ms == clock.now_ms - 1000
    assert keys.revoke(key.key_id) == revoked


def test_unknown_key_cannot_be_revoked(keys: Keys) -> None:
    """Revoking a key that never was is an error."""
    with pytest.raises(KeyUnknownError):
        keys.revoke("nosuchkey")


def test_first_start_makes_one_admin_key(keys: Keys, tmp_path: Path) -> None:
    """The first start leaves one admin key, whole, in a private file, and logs where and not what."""
    file = tmp_path / "admin.key"
    with structlog.testing.capture_logs() as logs:
        keys.ensure_admin_key(file)
        keys.ensure_admin_key(file)
    (key,) = keys.list()
    secret = file.read_text().strip()

    assert key.role == "admin"
    assert key.secret_sha256 == hashlib.sha256(secret.encode()).hexdigest()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [entry["file"] for entry in logs] == [str(file)]
    assert secret not in str(logs)


def test_interrupted_first_start_is_finished(keys: Keys, tmp_path: Path) -> None:
    """A file without its key in the store, from a kill in between, is taken up by the next start."""
    file = tmp_path / "admin.key"
    secret = make_secret()
    file.write_text(f"{secret}\n")
    keys.ensure_admin_key(file)

    assert [key.key_id for key in keys.list()] == [key_id_of(secret)]
    assert file.read_text().strip() == secret


def test_existing_keys_are_enough(keys: Keys, tmp_path: Path) -> None:
    """A store that has keys gets no further admin key."""
    create(keys)
    keys.ensure_admin_key(tmp_path / "admin.key")

    assert len(keys.list()) == 1
    assert not (tmp_path / "admin.key").exists()
