# SPDX-License-Identifier: Apache-2.0
"""The global documents: keys, tenants, rate cards and their timeline.

Every change increments the revision in the same transaction, so whoever sees the new revision sees the change.
Documents are JSON; what they mean is the business of keys, tenants and rate_card_timeline.
"""

import contextlib
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from taximeter_server.document_changes import DocumentChanges, document_sha256
from taximeter_server.errors import StoreCorruptError, StoreRefusedError, StoreUnavailableError
from taximeter_server.store_audit import AuditStore
from taximeter_server.store_billing import BillingStore
from taximeter_server.store_errors import translated
from taximeter_server.store_fsync import StoreFsync
from taximeter_server.store_functions import StoreFunctions
from taximeter_server.store_names import (
    CONFIGURATION,
    CONFLICTS,
    KEY_USES,
    KEYS,
    LEASES,
    LEVEL_PREFIX,
    META,
    PLANS,
    RATE_CARDS,
    REVISION,
    TENANTS,
    TIMELINE,
)

FORMAT = "1"
REDIS_VERSION_MIN = (7, 0)
VALKEY_VERSION_MIN = (8, 0)

SOCKET_TIMEOUT_SECONDS = 1
ATTEMPTS_MAX = 100
"""Lost races for the keys after which a change gives up."""


@dataclass(frozen=True, slots=True)
class StoreProbe:
    """What a store says about itself. volatile lists, in sentences, how it could lose what it acknowledged."""

    name: str
    version: str
    volatile: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Documents as of one revision: JSON by key id, the timeline's entries, oldest first, and leases by tenant."""

    revision: int
    keys: dict[str, str]
    timeline: tuple[str, ...]
    leases: dict[str, str]


class DocumentStore:
    """Reads and writes the documents. Thread-safe. Every method raises StoreUnavailableError or StoreCorruptError."""

    def __init__(self, url: str, *, is_exclusive: bool = False, fsync_url: str | None = None) -> None:
        """url: unix://[user:password@]/path or redis://[user:password@]host:port[/db]. Connects on first use.

        is_exclusive: the store is this server's alone. What a put or append acknowledges is on its disk; see
        store_fsync. fsync_url: with the credentials for that, where they are others.
        """
        # One retry, at once: a pooled connection may stem from before the store was restarted. Every write here may
        # be sent twice: it puts the same content, or is compared first.
        self._client: Any = redis.Redis.from_url(
            url,
            decode_responses=True,
            # What the client is called is nobody's business, and saying so is a command more to allow.
            driver_info=None,
            socket_timeout=SOCKET_TIMEOUT_SECONDS,
            socket_connect_timeout=SOCKET_TIMEOUT_SECONDS,
            retry=Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
        )

        self.fsync = StoreFsync(fsync_url or url, is_exclusive=is_exclusive)
        self._functions = StoreFunctions(self._client, "documents")
        self.changes = DocumentChanges()
        """Notes what each put and append has changed."""
        self.audit = AuditStore(self._client, self.fsync, self._functions)
        self.billing = BillingStore(self._client, self.fsync, self._functions, self.changes)

    def close(self) -> None:
        """Close all connections."""
        self._client.close()
        self.fsync.close()

    def probe(self) -> StoreProbe:
        """Ask the store what it is. Raises StoreRefusedError for one that cannot serve at all."""
        with translated():
            info = self._client.info()
            name = "valkey" if "valkey_version" in info else "redis"
            version = str(info[f"{name}_version"])
            floor = VALKEY_VERSION_MIN if name == "valkey" else REDIS_VERSION_MIN
            if _version_of(version) < floor:
                least = ".".join(str(part) for part in floor)
                raise StoreRefusedError([f"{name} {version} is too old: {name} {least} or later is needed"])
            if info.get("cluster_enabled"):
                raise StoreRefusedError(["it is a node of a cluster, which is not yet served"])
            if info.get("role", "master") != "master":
                raise StoreRefusedError(["it is a replica, and replicas take no writes"])
            return StoreProbe(name, version, self._find_volatile())

    def _find_volatile(self) -> tuple[str, ...]:
        wanted = {"appendonly": "yes", "maxmemory-policy": "noeviction"}
        risks = {
            "appendonly": "a restart loses everything since the last snapshot",
            "maxmemory-policy": "a full store silently drops what was recorded",
        }
        try:
            found = {name: self._client.config_get(name).get(name) for name in wanted}
        except redis.ResponseError:
            return ("its settings cannot be read, so it may lose what was recorded",)
        return tuple(
            f"{name} is {found[name]} and not {value}: {risks[name]}"
            for name, value in wanted.items()
            if found[name] != value
        )

    def prepare(self, partition_count: int) -> None:
        """Claim an empty store for this format, or check that it has it. Raises StoreRefusedError."""
        with translated():
            self._client.hsetnx(META, "format", FORMAT)
            self._client.hsetnx(META, "partition_count", str(partition_count))
            found_format, found_count = self._client.hmget(META, "format", "partition_count")
        problems = []
        if found_format != FORMAT:
            problems.append(f"its format is {found_format}, and this server knows format {FORMAT}")
        if found_count != str(partition_count):
            problems.append(f"it has {found_count} partitions, and this server has {partition_count}")
        if problems:
            raise StoreRefusedError(problems)

    def claim_ledger(self, ledger_id: str) -> None:
        """Say which ledger this store's records go to. Raises StoreRefusedError when it is another one already."""
        with translated():
            self._client.hsetnx(META, "ledger_id", ledger_id)
            found = self._client.hget(META, "ledger_id")
        if found != ledger_id:
            raise StoreRefusedError(
                [
                    f"its records go to ledger {found} and not to {ledger_id} here; name that directory with --ledger"
                ]
            )

    def page_token_key(self) -> bytes:
        """Return the key that seals page tokens on all instances, made on first use."""
        return self._seal_key("page_token_key")

    def hold_id_key(self) -> bytes:
        """Return the key that seals the ids of holds on all instances, made on first use."""
        return self._seal_key("hold_id_key")

    def _seal_key(self, name: str) -> bytes:
        """Return 32 bytes that the store keeps under name."""
        with translated():
            if self._client.hsetnx(META, name, secrets.token_hex(32)):
                # What it seals is handed out at once, and must open after a crash.
                self.fsync.wait()
            return bytes.fromhex(self._client.hget(META, name))

    def revision(self) -> int:
        """Return the number of changes so far."""
        with translated():
            return int(self._client.get(REVISION) or 0)

    def snapshot(self) -> Snapshot:
        """Read keys, timeline and leases as of one revision."""
        with translated(), self._client.pipeline(transaction=True) as transaction:
            transaction.get(REVISION).hgetall(KEYS).lrange(TIMELINE, 0, -1).hgetall(LEASES)
            revision, keys, timeline, leases = transaction.execute()
            return Snapshot(int(revision or 0), keys, tuple(timeline), leases)

    def keys(self) -> list[str]:
        """Return all key documents, in no order."""
        with translated():
            return list(self._client.hvals(KEYS))

    def key(self, key_id: str) -> str | None:
        """Return one key document."""
        with translated():
            return _text(self._client.hget(KEYS, key_id))

    def change_keys(self, change: Callable[[dict[str, str]], Mapping[str, str]]) -> None:
        """Put the documents that change makes of all key documents, by id, unless another change comes between.

        change is called again then. What it raises passes through.
        """
        with translated(), self._client.pipeline(transaction=True) as transaction:
            for _ in range(ATTEMPTS_MAX):
                transaction.watch(KEYS)
                before = transaction.hgetall(KEYS)
                changed = change(before)
                if not changed:
                    return
                transaction.multi()
                transaction.hset(KEYS, mapping=changed).incr(REVISION)
                try:
                    transaction.execute()
                except redis.WatchError:
                    continue
                for key_id, document in changed.items():
                    self._note(KEYS, key_id, before.get(key_id), document)
                self.fsync.wait()
                return
        raise StoreUnavailableError

    def key_uses(self) -> dict[str, int]:
        """Return when keys were last used, milliseconds since 1970 UTC by key id."""
        with translated():
            return {key_id: int(time_ms) for key_id, time_ms in self._client.hgetall(KEY_USES).items()}

    def put_key_uses(self, uses: Mapping[str, int]) -> None:
        """Keep when keys were last used. Two instances may overwrite each other's, by minutes."""
        with translated():
            self._client.hset(KEY_USES, mapping=dict(uses))

    def tenants(self) -> list[str]:
        """Return all tenant documents, in no order."""
        with translated():
            return list(self._client.hvals(TENANTS))

    def tenant(self, name: str) -> str | None:
        """Return one tenant document."""
        with translated():
            return _text(self._client.hget(TENANTS, name))

    def put_tenants(self, tenants: Sequence[tuple[str, str, str, int]]) -> list[int]:
        """Create or replace tenant documents, (name, document, plan or "", lease) each, where their plan exists.

        Returns the positions of those that were not put, because it does not.
        """
        keys = (TENANTS, PLANS, LEASES, REVISION)
        arguments = [text for tenant in tenants for text in tenant]
        with translated():
            refused, before = self._functions.call("put_tenants", keys, *arguments)
            positions = frozenset(int(at) for at in refused)
            for position, (name, document, *_) in enumerate(tenants):
                if position not in positions:
                    self._note(TENANTS, name, before[position] or None, document)
            self.fsync.wait()
            return sorted(positions)

    def remove_tenants(self, names: Sequence[str]) -> None:
        """Remove tenant documents and their leases."""
        with translated():
            with self._client.pipeline(transaction=True) as transaction:
                transaction.hmget(TENANTS, list(names))
                transaction.hdel(TENANTS, *names).hdel(LEASES, *names).incr(REVISION)
                before, *_ = transaction.execute()
            for name, document in zip(names, before, strict=True):
                self._note(TENANTS, name, document, None)
            self.fsync.wait()

    def plans(self) -> list[str]:
        """Return all plan documents, in no order."""
        with translated():
            return list(self._client.hvals(PLANS))

    def plan(self, name: str) -> str | None:
        """Return one plan document."""
        with translated():
            return _text(self._client.hget(PLANS, name))

    def put_plan(self, name: str, document: str) -> None:
        """Create or replace a plan document."""
        self._put(PLANS, name, document)

    def remove_plan(self, name: str, require_unused: Callable[[Sequence[str]], None]) -> bool:
        """Remove a plan document, unless require_unused raises for the tenants' documents as they then are.

        Says whether there was one.
        """
        with translated(), self._client.pipeline(transaction=True) as transaction:
            while True:
                transaction.watch(TENANTS)
                require_unused(transaction.hvals(TENANTS))
                transaction.multi()
                transaction.hget(PLANS, name).hdel(PLANS, name).incr(REVISION)
                with contextlib.suppress(redis.WatchError):
                    before, was_there, _ = transaction.execute()
                    break
            if was_there:
                self._note(PLANS, name, before, None)
            self.fsync.wait()
        return bool(was_there)

    def _put(self, hash_name: str, field: str, document: str) -> None:
        with translated():
            with self._client.pipeline(transaction=True) as transaction:
                transaction.hget(hash_name, field).hset(hash_name, field, document).incr(REVISION)
                before, *_ = transaction.execute()
            self._note(hash_name, field, before, document)
            self.fsync.wait()

    def _note(self, hash_name: str, field: str, before: str | None, after: str | None) -> None:
        kind = hash_name.removeprefix(CONFIGURATION)
        self.changes.note(f"{kind}/{field}", document_sha256(before), document_sha256(after))

    def timeline(self) -> tuple[str, ...]:
        """Return the timeline's entries, oldest first."""
        with translated():
            return tuple(self._client.lrange(TIMELINE, 0, -1))

    def append_timeline(
        self, length: int, entry: str, *, until_ms: int, rate_card: tuple[str, str] | None
    ) -> bool:
        """Append entry and keep the card that it names, if the timeline still has length entries.

        until_ms: instant of the store's clock after which nothing is appended. rate_card: id and document.
        Says whether it was appended.
        """
        keys = (TIMELINE, RATE_CARDS, REVISION)
        with translated():
            arguments = (length, entry, until_ms, *(rate_card or ()))
            was_appended = bool(self._functions.call("append_timeline", keys, *arguments))
            if was_appended:
                # What the entry replaces is in the chain; there is no document before it.
                self.changes.note(f"timeline/{length + 1}", "", document_sha256(entry))
            self.fsync.wait()
            return was_appended

    def time_ms(self) -> int:
        """Return the store's clock, which all instances share: milliseconds since 1970 UTC."""
        with translated():
            seconds, microseconds = self._client.time()
            return int(seconds) * 1_000 + int(microseconds) // 1_000

    def rate_cards(self, ids: Sequence[str]) -> dict[str, str]:
        """Return the documents of the cards with these ids. Raises StoreCorruptError when one is missing."""
        if not ids:
            return {}
        with translated():
            documents = dict(zip(ids, self._client.hmget(RATE_CARDS, list(ids)), strict=True))
        missing = [rate_card_id for rate_card_id, document in documents.items() if document is None]
        if missing:
            raise StoreCorruptError(f"{RATE_CARDS} lacks {missing[0]}")
        return documents

    def find_rate_card(self, rate_card_id: str) -> str | None:
        """Return the document of one card."""
        with translated():
            return _text(self._client.hget(RATE_CARDS, rate_card_id))

    def stored_timeline(self) -> list[bytes]:
        """Return the timeline's entries as they stand in the store, whatever they are."""
        with translated():
            return list(self._client.execute_command("LRANGE", TIMELINE, 0, -1, NEVER_DECODE=True))

    def stored_rate_cards(self) -> dict[bytes, bytes]:
        """Return all cards as they stand in the store, whatever they are."""
        with translated():
            return dict(self._client.execute_command("HGETALL", RATE_CARDS, NEVER_DECODE=True))

    def level(self, name: str) -> str | None:
        """Return the state of a series of levels."""
        with translated():
            return _text(self._client.get(LEVEL_PREFIX + name))

    def replace_level(self, name: str, old: str | None, new: str) -> bool:
        """Put new in the place of old, the state of a series. Says whether old was there."""
        key = LEVEL_PREFIX + name
        with translated(), self._client.pipeline(transaction=True) as transaction:
            try:
                transaction.watch(key)
                if transaction.get(key) != old:
                    return False
                transaction.multi()
                transaction.set(key, new)
                transaction.execute()
            except redis.WatchError:
                return False
            return True

    def conflicts(self) -> dict[str, str]:
        """Return the documents of journaled records that could not be applied, by a name that is theirs alone."""
        with translated():
            return dict(self._client.hgetall(CONFLICTS))


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _version_of(text: str) -> tuple[int, int]:
    major, minor = [*text.split("."), "0", "0"][:2]
    return int(major), int(minor) if minor.isdecimal() else 0
