# SPDX-License-Identifier: Apache-2.0
"""What passes while the store cannot decide: nothing, or what an admin leased."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from google.rpc import status_pb2
from quota.engine_calls import catalogue, check, put_limits, status
from quota.model_level import REQUESTS

from harness.grpc_status import refusal_of_status
from harness.store_process import StoreProcess
from taximeter.v1 import metering_service_pb2 as pb
from taximeter_server import _native

LEASE = 5
WAIT_S = 60


pytestmark = pytest.mark.timeout(200)


@pytest.fixture
def own_store(short_directory: Path) -> Iterator[StoreProcess]:
    """A store that the test may stop."""
    with StoreProcess(short_directory / "leased") as store:
        yield store


@pytest.fixture
def engine(own_store: StoreProcess, tmp_path: Path) -> Iterator[_native.Engine]:
    """An engine that leases requests to some tenants."""
    engine = _native.Engine(store_url=own_store.url, journal_dir=str(tmp_path), exclusive_store=True)
    engine.open(archived_ids=["0-0"] * _native.PARTITION_COUNT, timeout_ms=10_000)
    engine.set_catalogue(catalogue(leases={"acme": LEASE, "acme/own": 1}))
    yield engine
    engine.close()


def ask(
    engine: _native.Engine, tenant: str, *, requests: int = 1, dry_run: bool = False
) -> pb.CheckQuotaResponse | str:
    """Return the answer to a check, or the reason of its failure."""
    request = pb.CheckQuotaRequest(tenant=tenant, model="m", requests=requests, dry_run=dry_run)
    try:
        return pb.CheckQuotaResponse.FromString(engine.check_quota(request.SerializeToString()))
    except _native.RpcError as error:
        return refusal_of_status(status_pb2.Status.FromString(error.args[2])).reason


def is_degraded(answer: pb.CheckQuotaResponse | str) -> bool:
    """Say whether a call was let pass on a lease."""
    return isinstance(answer, pb.CheckQuotaResponse) and answer.degraded


def used(engine: _native.Engine, tenant: str) -> list[int]:
    """Return the requests that the store has counted at the levels of a tenant."""
    return [limit.used for limit in status(engine, tenant)]


def wait_until_counted(engine: _native.Engine, tenant: str, expected: list[int]) -> None:
    """Wait until the store has counted at least so many requests at the levels of a tenant."""
    deadline, found = time.monotonic() + WAIT_S, [0]
    while not all(have >= want for have, want in zip(found, expected, strict=False)):
        assert time.monotonic() < deadline, found
        with contextlib.suppress(_native.RpcError):
            found = used(engine, tenant)


def test_lease_bounds_what_passes_and_is_counted(own_store: StoreProcess, engine: _native.Engine) -> None:
    """While the store hangs exactly the lease passes, flagged, for all tenants below together; then it is counted."""
    for level in ("acme", "acme/own", "acme/a", "other"):
        put_limits(engine, level, {REQUESTS: 3})
    assert [check(engine, "acme/a").allowed for _ in range(4)] == [True, True, True, False]
    os.kill(own_store.pid, signal.SIGSTOP)
    try:
        assert ask(engine, "acme/a", dry_run=True) == "QUOTA_UNDECIDED"
        with ThreadPoolExecutor(8) as threads:
            answers = list(threads.map(lambda _: ask(engine, "acme/a"), range(3 * LEASE)))
        refused = [answer for answer in answers if not is_degraded(answer)]
        assert refused == ["QUOTA_UNDECIDED"] * (2 * LEASE)
        passed = [answer for answer in answers if isinstance(answer, pb.CheckQuotaResponse)]
        assert {answer.decision for answer in passed} == {pb.DECISION_ALLOW}
        assert {(answer.hold_id, len(answer.limits)) for answer in passed} == {("", 0)}
        assert ask(engine, "acme/b") == "QUOTA_UNDECIDED"
        assert [is_degraded(ask(engine, "acme/own")) for _ in range(2)] == [True, False]
        assert ask(engine, "other") == "QUOTA_UNDECIDED"
    finally:
        os.kill(own_store.pid, signal.SIGCONT)

    # What the store was asked while it hung, it decides when it goes on: "other" passed there, acme/a did not.
    wait_until_counted(engine, "other", [1])
    wait_until_counted(engine, "acme/a", [3 + LEASE + 1, 3 + LEASE])
    assert used(engine, "acme/a") == [3 + LEASE + 1, 3 + LEASE]


def test_lease_is_whole_again_once_it_was_counted(own_store: StoreProcess, engine: _native.Engine) -> None:
    """A store that was away counts what passed, and then as much can pass again."""
    for level in ("acme", "acme/own"):
        put_limits(engine, level, {REQUESTS: 1_000})
    whole = 0
    # An outcome that the engine does not know is counted again, so it may owe a while after the store shows the count.
    while whole < 2:
        own_store.kill()
        passed = [is_degraded(ask(engine, "acme/own")) for _ in range(2)]
        assert passed in ([True, False], [False, False])
        whole += passed[0]
        assert is_degraded(ask(engine, "acme", requests=LEASE)) or whole > 0
        assert not is_degraded(ask(engine, "acme", requests=LEASE))
        own_store.start()
        wait_until_counted(engine, "acme/own", [LEASE + 1, 1])
        # What earlier outages counted may be enough for that; time enough to count this one's, too.
        assert not any(is_degraded(ask(engine, "other")) for _ in range(1_000))
