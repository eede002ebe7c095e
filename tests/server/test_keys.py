# SPDX-License-Identifier: Apache-2.0
"""API keys: shown once, stored as a hash, revocable, and never a way to be locked out."""

import hashlib
import re
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import redis
import structlog
from server.stopped_clock import StoppedClock

from taximeter_server.embedded_store import EmbeddedStore
from taximeter_server.errors import (
    InvalidFieldsError,
    KeyEndedError,
    KeyUnknownError,
    LastAdminKeyError,
)
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


def test_the_last_admin_key_cannot_be_revoked(keys: Keys, clock: StoppedClock) -> None:
    """One key that can do everything always works: bound, expired, revoked and other keys do not count."""
    first, _ = create(keys, role="admin")
    create(keys, role="admin", tenants=("acme",))
    create(keys, role="read")
    ending, _ = create(keys, role="admin", expire_time_ms=clock.now_ms + 1_000)
    clock.now_ms += 1_000
    with pytest.raises(LastAdminKeyError):
        keys.revoke(first.key_id)
    second, _ = create(keys, role="admin")

    assert not ending.is_live(clock.now_ms)
    assert keys.revoke(first.key_id).revoke_time_ms == clock.now_ms
    with pytest.raises(LastAdminKeyError):
        keys.revoke(second.key_id)
    assert keys.get(second.key_id).revoke_time_ms is None


def test_two_admins_cannot_revoke_each_other_at_once(keys: Keys) -> None:
    """Of two revocations that race for the last two admin keys one is refused, every time."""
    for _ in range(5):
        made = [create(keys, role="admin")[0] for _ in range(2)]
        for older in keys.list():
            if older.key_id not in {key.key_id for key in made}:
                keys.revoke(older.key_id)

        def outcome(key: Key) -> bool:
            try:
                keys.revoke(key.key_id)
            except LastAdminKeyError:
                return False
            return True

        with ThreadPoolExecutor(2) as threads:
            assert sorted(threads.map(outcome, made)) == [False, True]


def test_rotation_makes_a_second_live_key(keys: Keys, clock: StoppedClock) -> None:
    """The successor has role, tenants and note of the old key; both work until the grace period is over."""
    key, _ = create(keys, role="read", tenants=("acme",), note="dashboards")
    clock.now_ms += 5_000
    successor, secret, old = keys.rotate(key.key_id, 60_000)

    assert (successor.role, successor.tenants, successor.note) == ("read", ("acme",), "dashboards")
    assert (successor.predecessor_id, old.successor_id) == (key.key_id, successor.key_id)
    assert successor.secret_sha256 == hashlib.sha256(secret.encode()).hexdigest()
    assert (successor.expire_time_ms, old.expire_time_ms) == (None, clock.now_ms + 60_000)
    assert {found.key_id for found in keys.list() if found.is_live(clock.now_ms)} == {
        key.key_id,
        successor.key_id,
    }
    clock.now_ms += 60_000
    assert [found.key_id for found in keys.list() if found.is_live(clock.now_ms)] == [successor.key_id]


def test_rotation_never_makes_a_key_live_longer(keys: Keys, clock: StoppedClock) -> None:
    """A key that was to expire does so in time, and its successor lives as long as it was made for."""
    key, _ = create(keys, expire_time_ms=clock.now_ms + 10_000)
    clock.now_ms += 4_000
    successor, _, old = keys.rotate(key.key_id, None)

    assert old.expire_time_ms == key.expire_time_ms
    assert successor.expire_time_ms == clock.now_ms + 10_000


def test_what_has_ended_is_not_rotated(keys: Keys, clock: StoppedClock) -> None:
    """A key that was revoked, has expired or has a successor is refused with its state."""
    revoked, expired, rotated = (create(keys, expire_time_ms=clock.now_ms + 1_000)[0] for _ in range(3))
    keys.revoke(revoked.key_id)
    keys.rotate(rotated.key_id, 500)
    clock.now_ms += 1_000
    states = {}
    for key in (revoked, expired, rotated):
        with pytest.raises(KeyEndedError) as caught:
            keys.rotate(key.key_id, 0)
        states[key.key_id] = caught.value.metadata["state"]

    assert states == {revoked.key_id: "REVOKED", expired.key_id: "EXPIRED", rotated.key_id: "ROTATED"}
    with pytest.raises(KeyUnknownError):
        keys.rotate("nosuchkey", 0)


@pytest.mark.parametrize("grace_period_ms", [-1, 30 * 86_400_000 + 1])
def test_a_grace_period_is_bounded(keys: Keys, grace_period_ms: int) -> None:
    """A key is not kept alive for longer than 30 days after its successor was made."""
    key, _ = create(keys)
    with pytest.raises(InvalidFieldsError, match="grace_period"):
        keys.rotate(key.key_id, grace_period_ms)


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
