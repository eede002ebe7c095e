# SPDX-License-Identifier: Apache-2.0
"""Secrets stay where they belong. conftest.py looks at every log and status of the session by the same rules."""

import asyncio
import contextlib
import os
import resource
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from server.api import connect

from harness.command_line import CommandLine
from harness.secret_scan import SESSION, SecretScan
from harness.server_process import ServerFailedError, ServerProcess
from taximeter.v1 import (
    access_service_pb2,
    metering_service_pb2,
    plan_service_pb2,
    plan_service_pb2_grpc,
)
from taximeter_server.config import Config, load_config
from taximeter_server.errors import ConfigError
from taximeter_server.keys import make_secret


@pytest.mark.parametrize(
    ("text", "is_status", "found"),
    [
        ("serving on 127.0.0.1:7460", False, []),
        ('{"event": "made an admin key", "key_id": "abcdefghijkl", "file": "/tmp/x/admin.key"}', False, []),
        ("credentials required", True, []),
        ("redis://host:6379/0", False, []),
        pytest.param(f"refused {make_secret()}", False, ["an API key"], id="a key"),
        ("authorization: Bearer abcdefghijklmnop", False, ["a bearer token"]),
        ("cannot reach redis://user:hunter2@host:1", False, ["a password in a URL"]),
        ("whsec_abcdefghijklmnop", True, ["a webhook secret"]),
        ("-----BEGIN EC PRIVATE KEY-----", False, ["a private key"]),
        ("open /usr/lib/x: no such file", True, ["a path of the server"]),
        ("WRONGTYPE at {tx:cfg}:keys", True, ["a name of the store"]),
        ("Traceback (most recent call last):", True, ["a traceback"]),
        ("Traceback (most recent call last):", False, []),
    ],
)
def test_the_scan_finds_secrets(text: str, is_status: bool, found: list[str]) -> None:  # noqa: FBT001 (a table)
    """The scan knows secrets by their shape, and what a caller must not learn, and nothing else."""
    assert SecretScan().secrets_in(text, is_status=is_status) == found


def test_the_scan_knows_the_secrets_that_were_made(tmp_path: Path) -> None:
    """A password without any shape is found in a log, and so is the hash of a key."""
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "operator.password").write_text("correcthorse\n")
    log = tmp_path / "log"
    log.write_text("signed in with correcthorse")
    scan = SecretScan()
    scan.note_server(log, tmp_path)

    assert scan.findings() == [f"store/operator.password in {log}"]


def test_every_status_and_every_log_is_noted(server: ServerProcess, tmp_path: Path) -> None:
    """A refusal that nobody looks at, of a call or a stream, of asyncio or a command, is among what is scanned."""
    names = ["unlooked-at-1", "unlooked-at-2"]
    (tmp_path / "any.log").write_text("said")
    with connect(server.address, server.admin_key) as api, contextlib.suppress(grpc.RpcError):
        api.call(api.plans.GetPlan, plan_service_pb2.GetPlanRequest(plan=names[0]))

    async def fail() -> None:
        async with grpc.aio.insecure_channel(server.address) as channel:
            stub = plan_service_pb2_grpc.PlanServiceStub(channel)
            with contextlib.suppress(grpc.RpcError):
                await stub.GetPlan(plan_service_pb2.GetPlanRequest(plan=names[1]), metadata=api.metadata)

    asyncio.run(fail())
    with connect(server.address, server.admin_key) as api, contextlib.suppress(grpc.RpcError):
        pb = metering_service_pb2
        query = pb.ReportQuery()
        list(api.call(api.metering.ExportReport, pb.ExportReportRequest(query=query)))
    CommandLine(server.client_environment)("plan", "get", "no-such-plan", status=1)
    SESSION.note_logs(tmp_path)

    noted = "\n".join(SESSION._statuses)
    assert [name for name in (*names, "query.start_time") if name not in noted] == []
    assert "PLAN_UNKNOWN" in "\n".join(SESSION._texts)
    assert {server.log_file, tmp_path / "any.log"} <= SESSION._logs


def test_nothing_is_dumped_when_a_process_dies(server: ServerProcess) -> None:
    """Neither server nor store leaves a core file, which would hold keys and passwords."""
    for pid in (server.process.pid, server.store_pid):
        assert resource.prlimit(pid, resource.RLIMIT_CORE) == (0, 0)


def test_secrets_are_in_no_command_line(server: ServerProcess) -> None:
    """Nobody who lists processes learns a password."""
    password = (server.data_dir / "store" / "operator.password").read_text().strip()
    for pid in (server.process.pid, server.store_pid):
        command = Path(f"/proc/{pid}/cmdline").read_text()
        assert password not in command
        assert server.admin_key not in command


def test_a_password_is_not_taken_from_the_command_line(tmp_path: Path) -> None:
    """A store's URL with a password is refused as a flag, and the refusal does not repeat it."""
    flags = {"store": "redis://me:hunter2@localhost:1"}
    with pytest.raises(ConfigError, match="TAXIMETER_STORE") as caught:
        load_config(flags, config_file=None, environ={})
    server = ServerProcess(tmp_path / "data", arguments=["--store", flags["store"]])
    with pytest.raises(ServerFailedError, match="exited with 2"):
        server.start()

    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in server.log
    config = load_config({}, config_file=None, environ={"TAXIMETER_STORE": flags["store"]})
    assert "hunter2" not in repr(config)


def test_a_config_shows_no_secret() -> None:
    """What may hold a password is left out of the representation."""
    config = Config(data=Path("data"), store="redis://me:hunter2@localhost:1")

    assert "hunter2" not in f"{config} {config!r}"


def test_the_data_directory_is_its_owners_alone(fresh_server: Callable[..., ServerProcess]) -> None:
    """After a start with the laxest umask, every directory is 0700 and every file and socket 0600."""
    before = os.umask(0)
    try:
        server = fresh_server()
    finally:
        os.umask(before)
    with connect(server.address, server.admin_key) as api:
        api.call(api.access.WhoAmI, access_service_pb2.WhoAmIRequest())
    found = [server.data_dir, *server.data_dir.rglob("*")]
    modes = {path: path.lstat().st_mode for path in found}

    assert len(found) > 15
    assert [path for path, mode in modes.items() if mode & 0o077] == []
