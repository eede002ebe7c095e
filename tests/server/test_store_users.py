# SPDX-License-Identifier: Apache-2.0
"""What the server may do in its store: what it does, on keys of its own, and nothing else."""

import re
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from server.api import READ, Api, connect, new_tenant, put_tenant, record

from harness.server_process import ServerProcess
from harness.store_process import DEBIAN_REDIS, StoreProcess
from taximeter.v1 import access_service_pb2, metering_service_pb2
from taximeter_server.embedded_store import EmbeddedStore
from taximeter_server.store_users import (
    FSYNC_COMMANDS,
    KEY_PATTERN,
    SERVER_COMMANDS,
    WAIT_COMMANDS,
    engine_url,
)

ROOT = Path(__file__).parents[2]
PASSWORD = "correct-horse"  # noqa: S105 (what the page shows)


@pytest.fixture
def client_of() -> Iterator[Callable[[str], Any]]:
    """Makes clients by URL."""
    made: list[Any] = []

    def make(url: str) -> Any:
        made.append(redis.Redis.from_url(url, driver_info=None))
        return made[-1]

    yield make
    for client in made:
        client.close()


def test_nobody_gets_in_without_a_password(
    embedded_store: EmbeddedStore, client_of: Callable[[str], Any]
) -> None:
    """The default user is off, and a wrong password is refused."""
    socket_path = embedded_store._socket_path
    for url in (
        f"unix://{socket_path}",
        f"unix://taximeter:wrong@{socket_path}",
        f"unix://default:@{socket_path}",
    ):
        with pytest.raises(redis.AuthenticationError):
            client_of(url).ping()


@pytest.mark.parametrize(
    "command",
    [
        ("EVAL", "return 1", "0"),
        ("EVALSHA", "0" * 40, "0"),
        ("SCRIPT", "LOAD", "return 1"),
        ("KEYS", "*"),
        ("SCAN", "0"),
        ("FLUSHALL",),
        ("FLUSHDB",),
        ("DEL", "other"),
        ("MODULE", "LIST"),
        ("CONFIG", "REWRITE"),
        ("ACL", "LIST"),
        ("MONITOR",),
        ("CLIENT", "LIST"),
        ("REPLICAOF", "127.0.0.1", "1"),
        ("SHUTDOWN",),
        ("SAVE",),
        ("FUNCTION", "DELETE", "x"),
        ("FUNCTION", "FLUSH"),
        ("LSET", "{tx:cfg}:audit", "0", "x"),
        ("LPOP", "{tx:cfg}:audit"),
        ("RENAME", "{tx:cfg}:a", "{tx:cfg}:b"),
        ("PUBLISH", "a", "b"),
        ("GET", "other"),
        ("SET", "{ty:1}:x", "1"),
        ("HGETALL", "tx"),
    ],
    ids=" ".join,
)
def test_the_server_cannot_do_what_it_does_not_do(
    command: tuple[str, ...], embedded_store: EmbeddedStore, client_of: Callable[[str], Any]
) -> None:
    """Commands that would run code, look around, erase, or reach other keys are refused by the store itself."""
    for url in (embedded_store.server_url, embedded_store.fsync_url):
        with pytest.raises(redis.ResponseError, match=r"(?i)permission"):
            client_of(url).execute_command(*command)


def test_settings_are_another_users(embedded_store: EmbeddedStore, client_of: Callable[[str], Any]) -> None:
    """The server's connections change no setting; DEBUG is off for everybody, whatever their rules."""
    with pytest.raises(redis.exceptions.NoPermissionError):
        client_of(embedded_store.server_url).config_set("appendonly", "no")
    for url in (embedded_store.server_url, embedded_store.fsync_url, embedded_store.url):
        with pytest.raises(redis.ResponseError):
            client_of(url).execute_command("DEBUG", "SLEEP", "0")


def test_passwords_are_nowhere_in_the_configuration(embedded_store: EmbeddedStore) -> None:
    """The store's configuration holds hashes; only the operator's password is in a file, its owner's alone."""
    directory = embedded_store._directory
    configuration = (directory / "store.conf").read_text()
    passwords = [
        user.password for user in (embedded_store._server, embedded_store._fsync, embedded_store._operator)
    ]
    file = directory / "operator.password"

    assert [password for password in passwords if password in configuration] == []
    assert file.read_text().strip() == passwords[2]
    assert file.stat().st_mode & 0o077 == 0
    assert [password for password in passwords if password in repr(embedded_store._server)] == []


def commands_in_the_sources() -> set[str]:
    """Return every command that scripts and engine send, as a rule names it."""
    found = set()
    lua = [*(ROOT / "native" / "src" / "scripts").glob("*.lua"), *(ROOT / "server").rglob("*.lua")]
    for path in lua:
        for command, word in re.findall(r"p?call\(\s*'(\w+)'(?:, '([A-Z]+)')?", path.read_text()):
            found.add(f"{command}|{word}" if command in {"XGROUP", "XINFO"} else command)
    for path in (ROOT / "native" / "src").rglob("*.rs"):
        for call in re.findall(r"cmd\(([^)]*)\)", path.read_text()):
            names = re.findall(r'"([A-Z]+)"', call)
            found |= {f"{name}|LOAD" if name == "FUNCTION" else name for name in names}
    return {command.lower() for command in found} - {"auth"}


def test_the_rules_allow_what_the_sources_do() -> None:
    """Whoever adds a command adds it to the rules: scripts and engine send nothing that they do not allow."""
    assert len(commands_in_the_sources()) > 20
    assert commands_in_the_sources() - set(SERVER_COMMANDS) == set()


def documented_rule() -> str:
    """Return the line that docs/configuration.md tells an operator to set."""
    (line,) = re.findall(
        r"^(ACL SETUSER taximeter .*)$", (ROOT / "docs" / "configuration.md").read_text(), re.MULTILINE
    )
    return str(line)


def test_the_documented_rule_is_ours() -> None:
    """The page allows the server's commands, and to wait for an fsync, in the order in which the code has them."""
    commands = " ".join(f"+{command}" for command in (*SERVER_COMMANDS, *WAIT_COMMANDS))

    assert documented_rule() == (
        f"ACL SETUSER taximeter on >{PASSWORD} resetchannels -@all ~{KEY_PATTERN} {commands}"
    )
    assert set(FSYNC_COMMANDS) - set(SERVER_COMMANDS) == {"config|set"}


def use_everything(api: Api) -> None:
    """Let the server do at least once what it does in its store."""
    tenant = new_tenant()
    put_tenant(api, tenant, tokens_per_day=10**9)
    record(api, tenant)
    check = metering_service_pb2.CheckQuotaRequest(
        tenant=tenant, model="gpt-5", request_id=secrets.token_hex(16)
    )
    check.estimate.uncached_input_tokens = 10
    check.hold_ttl.FromSeconds(60)
    hold_id = api.call(api.metering.CheckQuota, check).hold_id
    api.call(
        api.metering.ReleaseHold, metering_service_pb2.ReleaseHoldRequest(tenant=tenant, hold_id=hold_id)
    )
    reader = api.with_new_key(READ, tenant)
    key_id = reader.call(reader.access.WhoAmI, access_service_pb2.WhoAmIRequest()).key_id
    api.call(api.access.RotateKey, access_service_pb2.RotateKeyRequest(key_id=key_id))
    api.call(api.access.ListKeys, access_service_pb2.ListKeysRequest())
    verified = api.call(api.access.VerifyAuditLog, access_service_pb2.VerifyAuditLogRequest())
    assert list(verified.differences) == []


@pytest.mark.parametrize("engine", ["redis", "valkey"])
def test_the_documented_rule_is_enough(engine: str, tmp_path: Path) -> None:
    """A server on a store of somebody else works with exactly the documented user, and is refused nothing."""
    binary = DEBIAN_REDIS if engine == "redis" else None
    if binary is not None and not binary.exists():
        pytest.skip("redis-server is not installed")
    words = documented_rule().split()
    if engine == "redis":
        # Before 7.2, as the page says.
        words.remove("+waitaof")
    with StoreProcess(tmp_path / "store", binary=binary) as store:
        client = store.client()
        client.execute_command(*words)
        client.acl_setuser("default", enabled=True, passwords=["+operators-own"], reset_passwords=True)
        environment = {"TAXIMETER_STORE": f"unix://taximeter:{PASSWORD}@{store.socket_path}"}
        with ServerProcess(tmp_path / "data", environment=environment) as server:
            with connect(server.address, server.admin_key) as api:
                use_everything(api)
            log = server.log
        refused = [f"{entry['reason']} {entry['object']}" for entry in client.acl_log()]

    assert refused == []
    assert PASSWORD not in log


def test_the_running_server_is_refused_nothing(api: Api, server: ServerProcess) -> None:
    """Whatever the tests have had the shared server do, its store has refused none of it."""
    use_everything(api)

    assert server.store_refusals() == []


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://a:b@host:1/2", "redis://a:b@host:1/2"),
        ("unix:///run/x.sock", "unix:///run/x.sock"),
        ("unix://a:b@/run/x.sock", "unix:///run/x.sock?user=a&pass=b"),
        ("unix://a:b%26%25@/run/x%20y.sock", "unix:///run/x%20y.sock?user=a&pass=b%26%25"),
    ],
)
def test_the_engine_reads_the_same_url(url: str, expected: str) -> None:
    """Credentials for a socket are handed to the engine as it reads them."""
    assert engine_url(url) == expected
