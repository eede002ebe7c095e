# SPDX-License-Identifier: Apache-2.0
"""Other rate limiters, as their own documentation says to run them, each before a store of its own like ours.

What is not on the PATH is left out of the comparison; `missing` says how to get it.
"""

import contextlib
import importlib.metadata
import importlib.util
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from contestants import START_TIMEOUT_S, Contestant, serving_child

from harness.store_process import StoreProcess

LIMIT = 1_000_000_000
"""Calls per minute and day that each limit allows: nothing is denied, everything is counted."""
RATELIMIT, LIMITADOR, THROTTLECRAB = "ratelimit", "limitador-server", "throttlecrab-server"


@dataclass(frozen=True, slots=True)
class Peer:
    """A limiter to compare with. `program`: on the PATH, or a Python module; `how_to_get`: for people."""

    name: str
    program: str
    how_to_get: str
    start: Callable[[Path], contextlib.AbstractContextManager[Contestant]]

    def is_present(self) -> bool:
        """Return whether it can be started here."""
        if self.program.startswith("python:"):
            return importlib.util.find_spec(self.program.removeprefix("python:")) is not None
        return shutil.which(self.program) is not None


@contextlib.contextmanager
def ratelimit(directory: Path, descriptors: int) -> Iterator[Contestant]:
    """envoyproxy/ratelimit: fixed windows; so many descriptors are so many limits, a minute's and days'."""
    config = directory / "runtime" / "ratelimit" / "config"
    config.mkdir(parents=True)
    units = ["minute", "day", "day"][:descriptors]
    lines = ["domain: bench", "descriptors:"]
    for number, unit in enumerate(units):
        lines += [f"  - key: tenant_{number}", "    rate_limit:"]
        lines += [f"      unit: {unit}", f"      requests_per_unit: {LIMIT}"]
    (config / "bench.yaml").write_text("\n".join(lines) + "\n")
    with StoreProcess(directory / "store") as store:
        port, http_port, debug_port = (free_port() for _ in range(3))
        environment = {
            "REDIS_SOCKET_TYPE": "unix",
            "REDIS_URL": str(store.socket_path),
            "RUNTIME_ROOT": str(directory / "runtime"),
            "RUNTIME_SUBDIRECTORY": "ratelimit",
            "RUNTIME_WATCH_ROOT": "false",
            "USE_STATSD": "false",
            "LOG_LEVEL": "error",
            "GRPC_HOST": "127.0.0.1",
            "GRPC_PORT": str(port),
            "HOST": "127.0.0.1",
            "PORT": str(http_port),
            "DEBUG_HOST": "127.0.0.1",
            "DEBUG_PORT": str(debug_port),
        }
        with process(RATELIMIT, [RATELIMIT], port, directory, environment) as pid:
            name = f"ratelimit, {descriptors} descriptor" + "s"[: descriptors - 1]
            yield Contestant(name, f"127.0.0.1:{port}", None, (pid, store.pid), f"ratelimit{descriptors}")


@contextlib.contextmanager
def limitador(directory: Path, storage: str) -> Iterator[Contestant]:
    """Kuadrant limitador, one limit per tenant. `storage`: redis, or redis_cached, which counts in memory first."""
    directory.mkdir(parents=True)
    limits = directory / "limits.yaml"
    limits.write_text(
        "- namespace: bench\n"
        f"  max_value: {LIMIT}\n"
        "  seconds: 60\n"
        "  conditions: []\n"
        "  variables:\n"
        "    - descriptors[0]['tenant_0']\n"
    )
    store_port = free_port()
    with StoreProcess(directory / "store", port=store_port) as store:
        port, http_port = free_port(), free_port()
        command = [LIMITADOR, "--rls-ip", "127.0.0.1", "--rls-port", str(port), "--http-ip", "127.0.0.1",
                   "--http-port", str(http_port), str(limits), storage, store.url]  # fmt: skip
        with process(LIMITADOR, command, port, directory) as pid:
            yield Contestant(
                f"limitador, {storage}", f"127.0.0.1:{port}", None, (pid, store.pid), "ratelimit1"
            )


@contextlib.contextmanager
def throttlecrab(directory: Path) -> Iterator[Contestant]:
    """throttlecrab-server: one limit, in memory, without any store."""
    directory.mkdir(parents=True)
    port = free_port()
    command = [THROTTLECRAB, "--grpc", "--grpc-host", "127.0.0.1", "--grpc-port", str(port)]
    with process(THROTTLECRAB, command, port, directory) as pid:
        yield Contestant("throttlecrab, no store", f"127.0.0.1:{port}", None, (pid,), "throttlecrab")


@contextlib.contextmanager
def limits_on_grpcio(directory: Path) -> Iterator[Contestant]:
    """A grpcio service that asks the Python library `limits` about three limits in Redis."""
    directory.mkdir(parents=True)
    with StoreProcess(directory / "store") as store:
        command = [
            sys.executable,
            str(Path(__file__).with_name("limits_grpcio_server.py")),
            str(store.socket_path),
        ]
        with serving_child("limits on grpcio, 3 limits", command, (store.pid,)) as contestant:
            yield contestant


PEERS: Sequence[Peer] = (
    Peer("ratelimit, 1 descriptor", RATELIMIT,
         "git clone https://github.com/envoyproxy/ratelimit && cd ratelimit && make compile, then put bin/ratelimit "
         "on the PATH", lambda directory: ratelimit(directory, 1)),
    Peer("ratelimit, 3 descriptors", RATELIMIT, "as above", lambda directory: ratelimit(directory, 3)),
    Peer("limitador, redis", LIMITADOR,
         "git clone https://github.com/Kuadrant/limitador && cargo install --path limitador/limitador-server",
         lambda directory: limitador(directory, "redis")),
    Peer("limitador, redis_cached", LIMITADOR, "as above", lambda directory: limitador(directory, "redis_cached")),
    Peer("throttlecrab, no store", THROTTLECRAB, "cargo install throttlecrab-server", throttlecrab),
    Peer("limits on grpcio, 3 limits", "python:limits",
         "pip install --requirement benchmarks/peer-requirements.txt", limits_on_grpcio),
)  # fmt: skip


def missing() -> list[str]:
    """Return a line for each peer that cannot be started here."""
    return [f"{peer.name}: not here; {peer.how_to_get}" for peer in PEERS if not peer.is_present()]


def versions() -> list[str]:
    """Return the versions of the peers that are here, as they or their builds tell them."""
    found = []
    for program in dict.fromkeys(peer.program for peer in PEERS if peer.is_present()):
        if program.startswith("python:"):
            module = program.removeprefix("python:")
            found.append(f"{module} {importlib.metadata.version(module)}")
        elif program == RATELIMIT:
            found.append(f"{program} {go_module_version(program)}")
        else:
            shown = subprocess.run(
                [program, "--version"], capture_output=True, text=True, check=False, timeout=10
            )
            found.append(" ".join(shown.stdout.split("\n", 1)[0].split()))
    return found


def go_module_version(program: str) -> str:
    """Return what the Go build says of its main module, where a Go toolchain is here to read it."""
    go = shutil.which("go")
    path = shutil.which(program)
    if go is None or path is None:
        return "(version unknown: no go on the PATH)"
    shown = subprocess.run(
        [go, "version", "-m", path], capture_output=True, text=True, check=False, timeout=10
    )
    found = re.search(r"^\s*mod\s+\S+\s+(\S+)", shown.stdout, re.MULTILINE)
    return found[1] if found else "(version unknown)"


@contextlib.contextmanager
def process(
    name: str,
    command: Sequence[str],
    port: int,
    directory: Path,
    environment: Mapping[str, str] | None = None,
) -> Iterator[int]:
    """Run a program until the block ends; yields its pid once it listens. Raises RuntimeError.

    environment: in place of this process's.
    """
    log_path = directory / "server.log"
    with log_path.open("wb") as log:
        child = subprocess.Popen(
            [shutil.which(command[0]) or command[0], *command[1:]],
            stdout=log,
            stderr=log,
            env=environment,
            cwd=directory,
        )
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not listens(port):
            if child.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{name} did not start: {log_path.read_text()[-500:]}")
            time.sleep(0.05)
        yield child.pid
    finally:
        child.terminate()
        try:
            child.wait(START_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def listens(port: int) -> bool:
    """Return whether something accepts connections on the loopback port."""
    with contextlib.closing(socket.socket()) as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    """Return a loopback port that nothing listens on now."""
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
