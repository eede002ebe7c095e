# SPDX-License-Identifier: Apache-2.0
"""Stores other than the embedded Valkey: the distribution's Redis, and servers that somebody else runs."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from faults.conftest import ApiOf
from faults.kill_loop import free_address, store_available, wait_until, wait_until_settled
from server.api import Api

from harness.ledger_oracle import find_ledger_problems, find_quota_problems, put_high_limits
from harness.load import COMMITTED, JOURNALED, VOLATILE, Load
from harness.server_process import ServerFailedError, ServerProcess
from harness.store_process import DEBIAN_REDIS, StoreProcess
from taximeter.v1 import metering_service_pb2

needs_redis = pytest.mark.skipif(not DEBIAN_REDIS.exists(), reason="redis-server is not installed")


def free_port() -> int:
    """Return a port that nobody listens on now."""
    return int(free_address().rpartition(":")[2])


def check_decision(api: Api, tenant: str) -> None:
    """A tenant far below its limits may go on."""
    request = metering_service_pb2.CheckQuotaRequest(tenant=tenant)
    answer = api.call(api.metering.CheckQuota, request)
    assert answer.decision == metering_service_pb2.DECISION_ALLOW
    assert {limit.tenant for limit in answer.limits} >= {tenant}


def check_problems(api: Api, load: Load) -> None:
    """Ledger and quotas must be right."""
    wait_until_settled(api)
    problems = find_ledger_problems(api, load.tally) + find_quota_problems(api, load.tally, load.tenants)
    assert not problems, problems[:20]


def accept(load: Load, count: int) -> None:
    """Wait until count more records have been acknowledged."""
    before = load.acknowledged_count
    wait_until(lambda: load.acknowledged_count >= before + count, limit_s=15, what="records are not accepted")


@needs_redis
def test_distribution_redis_as_embedded_store(tmp_path: Path, api_of: ApiOf) -> None:
    """Redis 7.0 serves as the embedded store: records, decides, reports, and survives kills of store and server."""
    arguments = ["--store-binary", str(DEBIAN_REDIS)]
    with ServerProcess(tmp_path / "data", listen=free_address(), arguments=arguments) as server:
        api = api_of(server)
        with Load(server.address, server.admin_key, seed=21) as load:
            put_high_limits(api, load.tenants)
            accept(load, 200)
            check_decision(api, load.tenants[0])
            server.kill_store()
            wait_until(lambda: store_available(api), limit_s=10, what="the store is still away")
            accept(load, 200)
            server.kill()
            server.start()
            accept(load, 200)
        check_problems(api, load)


@pytest.fixture(params=["redis", "valkey"])
def tcp_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StoreProcess]:
    """A running store on a port of this machine."""
    binary = DEBIAN_REDIS if request.param == "redis" else None
    if binary is not None and not binary.exists():
        pytest.skip("redis-server is not installed")
    with StoreProcess(tmp_path / "store", binary=binary, port=free_port()) as running:
        yield running


def test_store_on_a_port(tcp_store: StoreProcess, tmp_path: Path, api_of: ApiOf) -> None:
    """A store named by redis:// may lose its last writes: the journal gives them back."""
    arguments = ["--store", tcp_store.url]
    with ServerProcess(tmp_path / "data", listen=free_address(), arguments=arguments) as server:
        api = api_of(server)
        with Load(server.address, server.admin_key, seed=22) as load:
            put_high_limits(api, load.tenants)
            accept(load, 100)
            before_bytes = tcp_store.file_size_bytes()
            accept(load, 200)
            check_decision(api, load.tenants[0])
            tcp_store.kill()
            tcp_store.cut(before_bytes)
            accept(load, 50)
            tcp_store.start()
            wait_until(lambda: store_available(api), limit_s=10, what="the store is still away")
            accept(load, 100)
        assert {COMMITTED, JOURNALED} <= set(load.tally.acknowledged.values())
        check_problems(api, load)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("appendonly", "no"), ("maxmemory-policy", "allkeys-lru")],
    ids=["memory", "evicting"],
)
def test_unsafe_store_needs_consent(tmp_path: Path, api_of: ApiOf, setting: str, value: str) -> None:
    """A store that may lose what it holds is refused with the reason; with consent every answer says VOLATILE."""
    with StoreProcess(tmp_path / "store", settings={setting: value}) as store:
        refused = ServerProcess(tmp_path / "data", arguments=["--store", store.url])
        with pytest.raises(ServerFailedError) as raised:
            refused.start()
        assert f"{setting} is {value}" in str(raised.value)
        assert "--allow-volatile" in str(raised.value)

        arguments = ["--store", store.url, "--allow-volatile"]
        with ServerProcess(tmp_path / "data", arguments=arguments) as server:
            api = api_of(server)
            with Load(server.address, server.admin_key, seed=23) as load:
                accept(load, 50)
            assert set(load.tally.acknowledged.values()) == {VOLATILE}
            assert find_ledger_problems(api, load.tally) == []
