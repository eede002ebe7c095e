# SPDX-License-Identifier: Apache-2.0
"""Fixtures that start the real server. Nothing here imitates a part of it."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.secret_scan import SESSION
from harness.server_process import ServerProcess
from harness.status_recorder import record_statuses
from taximeter import Meter, new_record_id

FreshServer = Callable[..., ServerProcess]
pytest_plugins = ["clients.contract_table", "harness.schedule"]

record_statuses(SESSION.note_status)


@pytest.fixture(scope="session", autouse=True)
def no_secrets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """When all tests have run, no log of any process and no status of any call holds a secret."""
    yield
    SESSION.note_logs(tmp_path_factory.getbasetemp())
    findings = SESSION.findings()
    assert not findings, "\n".join(findings)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One running server for those tests of a file that neither stop it nor mind what others put into it.

    Not for more than a file: cards and limits are everybody's, and which files share a process is chance.
    """
    running = ServerProcess(tmp_path_factory.mktemp("server") / "data").start()
    yield running
    assert running.is_running, running.log
    assert running.store_refusals() == []
    assert running.stop() == 0, running.log


@pytest.fixture(scope="module")
def meter(server: ServerProcess) -> Iterator[Meter]:
    """A client of the shared server, with the admin key."""
    with Meter(f"http://{server.address}", key=server.admin_key) as client:
        yield client


@pytest.fixture
def tenant() -> str:
    """A tenant of which nobody else knows."""
    return f"t-{new_record_id()}"


@pytest.fixture
def fresh_server(tmp_path: Path) -> Iterator[FreshServer]:
    """A factory of servers for one test, each on a new directory unless data_dir names one.

    Takes what ServerProcess takes. Those that still run at the end must stop in order.
    """
    numbers = itertools.count()
    started: list[ServerProcess] = []

    def start(data_dir: Path | None = None, **options: object) -> ServerProcess:
        directory = tmp_path / f"data-{next(numbers)}" if data_dir is None else data_dir
        process = ServerProcess(directory, **options)  # type: ignore[arg-type]
        started.append(process)
        return process.start()

    yield start
    running = [process for process in started if process.is_running]
    statuses = [process.stop() for process in running]
    assert statuses == [0] * len(running), "\n".join(process.log for process in running)
