# SPDX-License-Identifier: Apache-2.0
"""What an admin was told is done is on the store's disk."""

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.slow_disk import slow_fdatasync
from harness.store_process import DEBIAN_REDIS, StoreProcess
from taximeter_server.store import DocumentStore

DELAY_MS = 400
SETTING = "appendfsync"


@pytest.fixture
def store() -> Iterator[StoreProcess]:
    """Yield a store with an append-only file."""
    with (
        tempfile.TemporaryDirectory(prefix="tx") as directory,
        StoreProcess(Path(directory) / "store") as found,
    ):
        yield found


def put_key(documents: DocumentStore) -> None:
    """Write a key."""
    documents.change_keys(lambda _: {"k1": "{}"})


def put_tenant(documents: DocumentStore) -> None:
    """Write a tenant."""
    documents.put_tenants([("acme", "{}", "", 0)])


def append_timeline(documents: DocumentStore) -> None:
    """Write an entry with its card."""
    until_ms = documents.time_ms() + 60_000
    assert documents.append_timeline(0, "{}", until_ms=until_ms, rate_card=("id", "{}"))


@pytest.mark.parametrize("write", [put_key, put_tenant, append_timeline])
def test_a_write_to_an_exclusive_store_waits_for_its_disk(
    store: StoreProcess, write: Callable[[DocumentStore], None]
) -> None:
    """The call returns only after an fsync that began after it, and the store's settings are as before."""
    documents = DocumentStore(store.url, is_exclusive=True)
    with slow_fdatasync(store.pid, delay_ms=DELAY_MS) as is_slow:
        if not is_slow:
            pytest.skip("needs strace")
        began = time.monotonic()
        write(documents)
        assert time.monotonic() - began >= DELAY_MS / 1000
    assert store.client().config_get(SETTING) == {SETTING: "everysec"}
    documents.close()


def test_a_shared_store_is_asked_whether_it_has_fsynced(store: StoreProcess) -> None:
    """Somebody else's store keeps its settings, and says itself when what it was given is on its disk."""
    documents = DocumentStore(store.url)
    put_key(documents)
    statistics = store.client().info("commandstats")
    assert statistics["cmdstat_waitaof"]["calls"] == 1
    assert statistics["cmdstat_waitaof"]["failed_calls"] == 0
    assert "cmdstat_config|set" not in statistics
    documents.close()


@pytest.mark.skipif(not DEBIAN_REDIS.exists(), reason="redis-server is not installed")
def test_a_store_that_cannot_tell_is_not_waited_for() -> None:
    """Redis 7.0 has no WAITAOF, and serves all the same."""
    with (
        tempfile.TemporaryDirectory(prefix="tx") as directory,
        StoreProcess(Path(directory) / "store", binary=DEBIAN_REDIS) as store,
    ):
        documents = DocumentStore(store.url)
        put_key(documents)
        assert documents.key("k1") == "{}"
        documents.close()


def test_a_store_without_a_file_is_not_waited_for() -> None:
    """An operator who allowed a volatile store gets answers."""
    with (
        tempfile.TemporaryDirectory(prefix="tx") as directory,
        StoreProcess(Path(directory) / "store", settings={"appendonly": "no"}) as store,
    ):
        for is_exclusive in (False, True):
            documents = DocumentStore(store.url, is_exclusive=is_exclusive)
            put_key(documents)
            assert documents.key("k1") == "{}"
            documents.close()
