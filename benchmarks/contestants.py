# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks compare, each as a child process on loopback, and the CPU that each used."""

import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.server_process import ServerProcess
from taximeter import Meter

ROOT = Path(__file__).resolve().parent.parent
LOAD = ROOT / "target" / "release" / "taximeter-load"
START_TIMEOUT_S = 10
_SERVING = re.compile(r"serving on (\S+)")
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Contestant:
    """A running server: where it listens, how to call it, and the processes whose CPU counts.

    protocol: whose words the load generator speaks to it.
    """

    name: str
    address: str
    key_file: Path | None
    pids: tuple[int, ...]
    protocol: str = "taximeter"

    def cpu_us(self) -> int:
        """CPU time used so far by all its processes, in microseconds, to the kernel's tick."""
        return sum(_cpu_ticks(pid) for pid in self.pids) * 1_000_000 // _TICKS_PER_SECOND


@dataclass(frozen=True, slots=True)
class Run:
    """One load on one contestant. Latencies in microseconds, CPU per call in nanoseconds.

    histogram_us: pairs of a power of two and how many calls took at most so long, and more than half of it.
    """

    calls: int
    failed: int
    denied: int
    calls_per_second: int
    cpu_per_call_ns: int
    p50_us: int = 0
    p90_us: int = 0
    p99_us: int = 0
    p999_us: int = 0
    histogram_us: Sequence[tuple[int, int]] = ()


def measure(contestant: Contestant, arguments: Sequence[str]) -> Run:
    """Run the load generator against the contestant and return what happened."""
    before_us = contestant.cpu_us()
    output = subprocess.run(
        load_command(contestant, arguments), check=True, capture_output=True, text=True, timeout=700
    ).stdout
    used_us = contestant.cpu_us() - before_us
    report = json.loads(output)
    return Run(
        calls=report["calls"],
        failed=report["failed"],
        denied=report["denied"],
        calls_per_second=report["calls_per_second"],
        p50_us=report["p50_us"],
        p90_us=report["p90_us"],
        p99_us=report["p99_us"],
        p999_us=report["p999_us"],
        histogram_us=[(bound, count) for bound, count in report["histogram_us"]],
        cpu_per_call_ns=used_us * 1000 // max(report["calls"], 1),
    )


def load(contestant: Contestant, arguments: Sequence[str]) -> None:
    """Make calls that are not measured, all of which must succeed."""
    command = load_command(
        contestant, (*arguments, "--connections", "4", "--streams", "8", "--seconds", "600")
    )
    output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=700).stdout
    if json.loads(output)["failed"]:
        raise RuntimeError(f"calls failed: {output}")


def load_command(contestant: Contestant, arguments: Sequence[str]) -> list[str]:
    """Return the load generator's command line for the contestant."""
    key = ["--key-file", str(contestant.key_file)] if contestant.key_file else []
    return [str(LOAD), *arguments, "--address", contestant.address, "--protocol", contestant.protocol, *key]


@contextlib.contextmanager
def taximeter(data_dir: Path, *flags: str) -> Iterator[Contestant]:
    """The product, its embedded store included."""
    with ServerProcess(data_dir, arguments=flags) as server:
        yield product(server)


def product(server: ServerProcess) -> Contestant:
    """Return a running server with its embedded store, called with its admin's key."""
    pids = (server.process.pid, server.store_pid)
    return Contestant("taximeter", server.address, server.data_dir / "admin.key", pids)


def admin(contestant: Contestant) -> Meter:
    """Return an admin's client of the product."""
    key = contestant.key_file.read_text().strip() if contestant.key_file else None
    return Meter(f"http://{contestant.address}", key=key)


@contextlib.contextmanager
def floor() -> Iterator[Contestant]:
    """The front's HTTP/2 settings with an empty handler."""
    command = [str(LOAD), "floor", "--address", "127.0.0.1:0", "--threads", "2"]
    with serving_child("empty front", command) as contestant:
        yield contestant


@contextlib.contextmanager
def grpcio() -> Iterator[Contestant]:
    """A grpcio asyncio server with an empty handler."""
    command = [sys.executable, str(Path(__file__).with_name("empty_grpcio_server.py"))]
    with serving_child("empty grpcio", command) as contestant:
        yield contestant


@contextlib.contextmanager
def serving_child(
    name: str, command: Sequence[str], other_pids: tuple[int, ...] = ()
) -> Iterator[Contestant]:
    """Run a program that prints "serving on HOST:PORT". `other_pids`: processes whose CPU counts with its own."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        line = process.stdout.readline() if process.stdout else ""
        found = _SERVING.search(line)
        if found is None:
            raise RuntimeError(f"{name} did not start: {line.strip()}")
        yield Contestant(name, found[1], None, (process.pid, *other_pids))
    finally:
        process.terminate()
        process.wait(START_TIMEOUT_S)


def _cpu_ticks(pid: int) -> int:
    """User and system time of a process and its threads, in clock ticks."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    user, system = fields[11], fields[12]
    return int(user) + int(system)
