# SPDX-License-Identifier: Apache-2.0
"""The global documents: their names, their revision, and what is refused as a store."""

from collections.abc import Callable

import pytest
import redis

from taximeter_server import store_names
from taximeter_server.embedded_store import EmbeddedStore
from taximeter_server.errors import (
    StoreCorruptError,
    StoreFullError,
    StoreRefusedError,
    StoreUnavailableError,
)
from taximeter_server.store import DocumentStore

FOREVER_MS = 2**53
"""No entry is ever late."""


@pytest.fixture
def client(embedded_store: EmbeddedStore) -> redis.Redis:
    """A client of its own, to look and to break things."""
    return redis.Redis.from_url(embedded_store.url, decode_responses=True)


def test_names_never_change() -> None:
    """Every name is as it was published: other instances and older stores use them."""
    assert {name: getattr(store_names, name) for name in dir(store_names) if name.isupper()} == {
        "CONFIGURATION": "{tx:cfg}:",
        "META": "{tx:cfg}:meta",
        "REVISION": "{tx:cfg}:revision",
        "KEYS": "{tx:cfg}:keys",
        "TENANTS": "{tx:cfg}:tenants",
        "PLANS": "{tx:cfg}:plans",
        "LEASES": "{tx:cfg}:leases",
        "RATE_CARDS": "{tx:cfg}:rate_cards",
        "TIMELINE": "{tx:cfg}:timeline",
        "CONFLICTS": "{tx:cfg}:conflicts",
        "LEVEL_PREFIX": "{tx:cfg}:level:",
        "AUDIT": "{tx:cfg}:audit",
        "AUDIT_OPEN": "{tx:cfg}:audit_open",
        "KEY_USES": "{tx:cfg}:key_uses",
        "SYNCED": "{tx:cfg}:synced",
        "AUDIT_ARCHIVED": "{tx:cfg}:audit_archived",
        "CREDIT_EXPIRIES": "{tx:cfg}:credit_expiries",
        "INVOICED_UNTIL": "{tx:cfg}:invoiced_until",
        "INVOICES_PREFIX": "{tx:cfg}:invoices:",
        "INVOICE_IDS": "{tx:cfg}:invoice_ids",
        "INVOICE_NUMBERS": "{tx:cfg}:invoice_numbers",
        "SUBSCRIPTIONS": "{tx:cfg}:subscriptions",
        "TOP_UPS_PREFIX": "{tx:cfg}:top_ups:",
        "TOP_UP_TURNS": "{tx:cfg}:top_up_turns",
    }


@pytest.mark.parametrize(
    "change",
    [
        lambda store: store.change_keys(lambda _: {"k": "{}"}),
        lambda store: store.put_tenants([("acme", "{}", "", 0)]),
        lambda store: store.append_timeline(0, "{}", until_ms=FOREVER_MS, rate_card=("id", "{}")),
    ],
    ids=["key", "tenant", "card"],
)
def test_every_change_increments_the_revision(
    documents: DocumentStore, change: Callable[[DocumentStore], object]
) -> None:
    """Whoever sees the new revision sees the change."""
    assert documents.revision() == 0
    change(documents)

    assert documents.revision() == 1
    assert documents.snapshot().revision == 1


def test_timeline_grows_from_its_end_only(documents: DocumentStore) -> None:
    """An entry is appended only to a timeline as long as its publisher saw it; otherwise nothing changes."""
    assert documents.append_timeline(0, "first", until_ms=FOREVER_MS, rate_card=("a", "card a"))
    assert not documents.append_timeline(0, "other", until_ms=FOREVER_MS, rate_card=("b", "card b"))

    assert documents.timeline() == ("first",)
    assert documents.revision() == 1
    assert documents.rate_cards(["a"]) == {"a": "card a"}
    with pytest.raises(StoreCorruptError):
        documents.rate_cards(["b"])


def test_timeline_takes_nothing_late(documents: DocumentStore) -> None:
    """What reaches the store after its time, by the store's clock, is not appended, however long it was on its way."""
    now_ms = documents.time_ms()

    assert not documents.append_timeline(0, "late", until_ms=now_ms - 1, rate_card=("a", "card a"))
    assert (documents.timeline(), documents.revision(), documents.find_rate_card("a")) == ((), 0, None)
    assert documents.append_timeline(0, "in time", until_ms=now_ms + 60_000, rate_card=None)
    assert documents.timeline() == ("in time",)


def test_bytes_that_are_no_text_are_corruption(documents: DocumentStore, client: redis.Redis) -> None:
    """A document with a byte that is not UTF-8 is named corrupt, and the next answer is read as usual."""
    client.rpush("{tx:cfg}:timeline", b"\xff")

    with pytest.raises(StoreCorruptError):
        documents.timeline()
    assert documents.revision() == 0
    assert documents.stored_timeline() == [b"\xff"]


def test_embedded_store_is_not_volatile(documents: DocumentStore) -> None:
    """The store that we configure passes our own probe."""
    probe = documents.probe()

    assert probe.name == "valkey"
    assert probe.volatile == ()


@pytest.mark.parametrize(
    ("setting", "value"), [("appendonly", "no"), ("maxmemory-policy", "allkeys-lru")], ids=["aof", "eviction"]
)
def test_volatile_settings_are_found(
    documents: DocumentStore, client: redis.Redis, setting: str, value: str
) -> None:
    """A store that could lose what it acknowledged is found out, by the setting's name."""
    client.config_set(setting, value)

    (problem,) = documents.probe().volatile
    assert problem.startswith(f"{setting} is {value}")


def test_unreadable_settings_count_as_volatile(documents: DocumentStore, client: redis.Redis) -> None:
    """A store whose settings cannot be read is not trusted."""
    client.acl_setuser("operator", enabled=True, keys=["*"], commands=["+@all", "-config"])

    assert documents.probe().volatile == ("its settings cannot be read, so it may lose what was recorded",)


def test_store_of_another_layout_is_refused(documents: DocumentStore) -> None:
    """The number of partitions is fixed when a store is created."""
    documents.prepare(64)
    documents.prepare(64)

    with pytest.raises(StoreRefusedError, match="it has 64 partitions, and this server has 32"):
        documents.prepare(32)


def test_replica_is_refused(documents: DocumentStore, client: redis.Redis) -> None:
    """A replica cannot take writes."""
    client.replicaof("127.0.0.1", "1")

    with pytest.raises(StoreRefusedError, match="replica"):
        documents.probe()


def test_page_token_key_is_made_once(documents: DocumentStore) -> None:
    """All instances seal page tokens with one key of 256 bits."""
    key = documents.page_token_key()

    assert len(key) == 32
    assert key == documents.page_token_key()


def test_wrong_type_is_corrupt(documents: DocumentStore, client: redis.Redis) -> None:
    """A key that is not what it must be is corruption, which no retry mends."""
    client.set("{tx:cfg}:keys", "text")

    with pytest.raises(StoreCorruptError):
        documents.keys()


def test_full_store_is_unavailable(documents: DocumentStore, client: redis.Redis) -> None:
    """A store without memory refuses the change and says why."""
    client.config_set("maxmemory", "1")

    with pytest.raises(StoreFullError):
        documents.change_keys(lambda _: {"k": "{}"})
    assert documents.revision() == 0


def test_stopped_store_is_unavailable(documents: DocumentStore, embedded_store: EmbeddedStore) -> None:
    """A store that does not answer is a transient error without the store's words."""
    embedded_store.stop()

    with pytest.raises(StoreUnavailableError) as caught:
        documents.revision()
    assert caught.value.message == "the store did not answer"


def test_restarted_store_is_found_again(documents: DocumentStore, embedded_store: EmbeddedStore) -> None:
    """Connections from before a restart do not fail the first call after it."""
    documents.change_keys(lambda _: {"k": "{}"})
    embedded_store.stop()
    users = embedded_store._server, embedded_store._fsync, embedded_store._operator
    embedded_store.__init__(  # type: ignore[misc]
        directory=embedded_store._directory, socket_path=embedded_store._socket_path
    )
    # As a store that its supervisor restarts: the passwords are the same.
    embedded_store._server, embedded_store._fsync, embedded_store._operator = users
    embedded_store.start()

    assert documents.keys() == ["{}"]
