# SPDX-License-Identifier: Apache-2.0
"""The global documents: keys, tenants, rate cards and their timeline. All names are here, all in one slot.

Every change increments the revision in the same transaction, so whoever sees the new revision sees the change.
Documents are JSON; what they mean is the business of keys, tenants and rate_card_timeline.
"""

import contextlib
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from taximeter_server.errors import (
    StoreCorruptError,
    StoreFullError,
    StoreRefusedError,
    StoreUnavailableError,
)
from taximeter_server.store_fsync import StoreFsync

# One hash tag: the documents live together on one node of a cluster, so that one transaction can change several.
META = "{tx:cfg}:meta"
REVISION = "{tx:cfg}:revision"
KEYS = "{tx:cfg}:keys"
TENANTS = "{tx:cfg}:tenants"
PLANS = "{tx:cfg}:plans"
LEASES = "{tx:cfg}:leases"
RATE_CARDS = "{tx:cfg}:rate_cards"
TIMELINE = "{tx:cfg}:timeline"
CONFLICTS = "{tx:cfg}:conflicts"
LEVEL_PREFIX = "{tx:cfg}:level:"

# KEYS: timeline, rate_cards, revision. ARGV: entries that the author saw, entry, last millisecond of the store's clock
# at which it may be appended, and where the entry names a card: its id, its document. Returns 1 when it was appended.
# By the store's clock and in one step: a stalled store, or connection, could otherwise append it when instances have
# begun to price without it.
_APPEND = """
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
if redis.call('LLEN', KEYS[1]) ~= tonumber(ARGV[1]) or now_ms > tonumber(ARGV[3]) then
  return 0
end
if ARGV[4] then
  redis.call('HSETNX', KEYS[2], ARGV[4], ARGV[5])
end
redis.call('RPUSH', KEYS[1], ARGV[2])
redis.call('INCR', KEYS[3])
return 1
"""

# KEYS: tenants, plans, leases, revision. ARGV: name, document, plan or '', lease of each tenant. Returns the positions,
# from 0, of those whose plan does not exist: in one step, so that nobody removes it meanwhile.
_PUT_TENANTS = """
local refused = {}
for i = 1, #ARGV, 4 do
  if ARGV[i + 2] ~= '' and redis.call('HEXISTS', KEYS[2], ARGV[i + 2]) == 0 then
    refused[#refused + 1] = (i - 1) / 4
  else
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
    if ARGV[i + 3] == '0' then
      redis.call('HDEL', KEYS[3], ARGV[i])
    else
      redis.call('HSET', KEYS[3], ARGV[i], ARGV[i + 3])
    end
  end
end
redis.call('INCR', KEYS[4])
return refused
"""

FORMAT = "1"
REDIS_VERSION_MIN = (7, 0)
VALKEY_VERSION_MIN = (8, 0)

SOCKET_TIMEOUT_SECONDS = 1


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

    def __init__(self, url: str, *, is_exclusive: bool = False) -> None:
        """url: unix:///path or redis://[user:password@]host:port[/db]. Connects on first use.

        is_exclusive: the store is this server's alone. What a put or append acknowledges is on its disk; see
        store_fsync.
        """
        # One retry, at once: a pooled connection may stem from before the store was restarted. Every write here may
        # be sent twice: it puts the same content, or is compared first.
        self._client: Any = redis.Redis.from_url(
            url,
            decode_responses=True,
            socket_timeout=SOCKET_TIMEOUT_SECONDS,
            socket_connect_timeout=SOCKET_TIMEOUT_SECONDS,
            retry=Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
        )

        self._fsync = StoreFsync(url, is_exclusive=is_exclusive)

    def close(self) -> None:
        """Close all connections."""
        self._client.close()
        self._fsync.close()

    def probe(self) -> StoreProbe:
        """Ask the store what it is. Raises StoreRefusedError for one that cannot serve at all."""
        with _translated():
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
        with _translated():
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
        with _translated():
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
        with _translated():
            self._client.hsetnx(META, "page_token_key", secrets.token_hex(32))
            return bytes.fromhex(self._client.hget(META, "page_token_key"))

    def revision(self) -> int:
        """Return the number of changes so far."""
        with _translated():
            return int(self._client.get(REVISION) or 0)

    def snapshot(self) -> Snapshot:
        """Read keys, timeline and leases as of one revision."""
        with _translated(), self._client.pipeline(transaction=True) as transaction:
            transaction.get(REVISION).hgetall(KEYS).lrange(TIMELINE, 0, -1).hgetall(LEASES)
            revision, keys, timeline, leases = transaction.execute()
            return Snapshot(int(revision or 0), keys, tuple(timeline), leases)

    def keys(self) -> list[str]:
        """Return all key documents, in no order."""
        with _translated():
            return list(self._client.hvals(KEYS))

    def key(self, key_id: str) -> str | None:
        """Return one key document."""
        with _translated():
            return _text(self._client.hget(KEYS, key_id))

    def put_key(self, key_id: str, document: str) -> None:
        """Create or replace a key document."""
        self._put(KEYS, key_id, document)

    def tenants(self) -> list[str]:
        """Return all tenant documents, in no order."""
        with _translated():
            return list(self._client.hvals(TENANTS))

    def tenant(self, name: str) -> str | None:
        """Return one tenant document."""
        with _translated():
            return _text(self._client.hget(TENANTS, name))

    def put_tenants(self, tenants: Sequence[tuple[str, str, str, int]]) -> list[int]:
        """Create or replace tenant documents, (name, document, plan or "", lease) each, where their plan exists.

        Returns the positions of those that were not put, because it does not.
        """
        keys = (TENANTS, PLANS, LEASES, REVISION)
        arguments = [text for tenant in tenants for text in tenant]
        with _translated():
            refused = [int(at) for at in self._client.eval(_PUT_TENANTS, len(keys), *keys, *arguments)]
            self._fsync.wait()
            return refused

    def plans(self) -> list[str]:
        """Return all plan documents, in no order."""
        with _translated():
            return list(self._client.hvals(PLANS))

    def plan(self, name: str) -> str | None:
        """Return one plan document."""
        with _translated():
            return _text(self._client.hget(PLANS, name))

    def put_plan(self, name: str, document: str) -> None:
        """Create or replace a plan document."""
        self._put(PLANS, name, document)

    def remove_plan(self, name: str, require_unused: Callable[[Sequence[str]], None]) -> bool:
        """Remove a plan document, unless require_unused raises for the tenants' documents as they then are.

        Says whether there was one.
        """
        with _translated(), self._client.pipeline(transaction=True) as transaction:
            while True:
                transaction.watch(TENANTS)
                require_unused(transaction.hvals(TENANTS))
                transaction.multi()
                transaction.hdel(PLANS, name).incr(REVISION)
                with contextlib.suppress(redis.WatchError):
                    was_there, _ = transaction.execute()
                    break
        with _translated():
            self._fsync.wait()
        return bool(was_there)

    def _put(self, hash_name: str, field: str, document: str) -> None:
        with _translated():
            with self._client.pipeline(transaction=True) as transaction:
                transaction.hset(hash_name, field, document).incr(REVISION)
                transaction.execute()
            self._fsync.wait()

    def timeline(self) -> tuple[str, ...]:
        """Return the timeline's entries, oldest first."""
        with _translated():
            return tuple(self._client.lrange(TIMELINE, 0, -1))

    def append_timeline(
        self, length: int, entry: str, *, until_ms: int, rate_card: tuple[str, str] | None
    ) -> bool:
        """Append entry and keep the card that it names, if the timeline still has length entries.

        until_ms: instant of the store's clock after which nothing is appended. rate_card: id and document.
        Says whether it was appended.
        """
        keys = (TIMELINE, RATE_CARDS, REVISION)
        with _translated():
            was_appended = bool(
                self._client.eval(_APPEND, len(keys), *keys, length, entry, until_ms, *(rate_card or ()))
            )
            self._fsync.wait()
            return was_appended

    def time_ms(self) -> int:
        """Return the store's clock, which all instances share: milliseconds since 1970 UTC."""
        with _translated():
            seconds, microseconds = self._client.time()
            return int(seconds) * 1_000 + int(microseconds) // 1_000

    def rate_cards(self, ids: Sequence[str]) -> dict[str, str]:
        """Return the documents of the cards with these ids. Raises StoreCorruptError when one is missing."""
        if not ids:
            return {}
        with _translated():
            documents = dict(zip(ids, self._client.hmget(RATE_CARDS, list(ids)), strict=True))
        missing = [rate_card_id for rate_card_id, document in documents.items() if document is None]
        if missing:
            raise StoreCorruptError(f"{RATE_CARDS} lacks {missing[0]}")
        return documents

    def find_rate_card(self, rate_card_id: str) -> str | None:
        """Return the document of one card."""
        with _translated():
            return _text(self._client.hget(RATE_CARDS, rate_card_id))

    def stored_timeline(self) -> list[bytes]:
        """Return the timeline's entries as they stand in the store, whatever they are."""
        with _translated():
            return list(self._client.execute_command("LRANGE", TIMELINE, 0, -1, NEVER_DECODE=True))

    def stored_rate_cards(self) -> dict[bytes, bytes]:
        """Return all cards as they stand in the store, whatever they are."""
        with _translated():
            return dict(self._client.execute_command("HGETALL", RATE_CARDS, NEVER_DECODE=True))

    def level(self, name: str) -> str | None:
        """Return the state of a series of levels."""
        with _translated():
            return _text(self._client.get(LEVEL_PREFIX + name))

    def replace_level(self, name: str, old: str | None, new: str) -> bool:
        """Put new in the place of old, the state of a series. Says whether old was there."""
        key = LEVEL_PREFIX + name
        with _translated(), self._client.pipeline(transaction=True) as transaction:
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
        with _translated():
            return dict(self._client.hgetall(CONFLICTS))


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _version_of(text: str) -> tuple[int, int]:
    major, minor = [*text.split("."), "0", "0"][:2]
    return int(major), int(minor) if minor.isdecimal() else 0


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Turn the client's errors into ours; their text stays in the cause, for the log."""
    try:
        yield
    except redis.OutOfMemoryError as error:
        raise StoreFullError from error
    except redis.ResponseError as error:
        if str(error).startswith("WRONGTYPE"):
            raise StoreCorruptError(str(error)) from error
        raise StoreUnavailableError from error
    except redis.RedisError as error:
        raise StoreUnavailableError from error
    except UnicodeDecodeError as error:
        raise StoreCorruptError(f"a document is not UTF-8: {error}") from error
