# SPDX-License-Identifier: Apache-2.0
"""Kill -9, restart, again and again under load; what is left must be what was acknowledged."""

import contextlib
import enum
import os
import random
import signal
import socket
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc
from server.api import Api

from harness.ledger_oracle import find_ledger_problems, find_quota_problems, put_high_limits
from harness.load import COMMITTED, Load, Sent, Tally, open_channel, picos_of, record_again
from harness.server_process import ServerProcess
from harness.store_files import AppendOnlyFile
from taximeter.v1 import operations_service_pb2

SERVING_LIMIT_S = 5
STORE_GONE_LIMIT_S = 2
LOAD_S = (0.4, 3.5)
STORE_LOAD_S = (2.5, 7.0)
"""Before the store alone is killed: on average no more often than a store may die and be restarted at once."""
"""Between two kills. The archiver's first run is 2 s after the start."""
CUT_S = 2.0
RETRIED_S = 4.0
"""Records acknowledged so shortly before a kill are sent again in the end."""


class Victim(enum.Enum):
    """Who is killed."""

    SERVER = "server"
    STORE = "store"
    BOTH = "both"


def free_address() -> str:
    """Return an address that nobody listens on now, for a server that is to come back on it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"


def process_exists(pid: int) -> bool:
    """Say whether a process runs; one that has ended and was not waited for does not."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    return False


def wait_until(condition: Callable[[], bool], *, limit_s: float, what: str) -> float:
    """Poll until the condition holds. Returns how long that took in seconds. Raises AssertionError."""
    started = time.monotonic()
    while not condition():
        if time.monotonic() - started > limit_s:
            raise AssertionError(f"after {limit_s} s {what}")
        time.sleep(0.01)
    return time.monotonic() - started


def server_status(api: Api) -> operations_service_pb2.GetServerStatusResponse | None:
    """Return the server's state; None when it does not answer."""
    with contextlib.suppress(grpc.RpcError):
        request = operations_service_pb2.GetServerStatusRequest()
        answer: operations_service_pb2.GetServerStatusResponse = api.call(
            api.operations.GetServerStatus, request
        )
        return answer
    return None


def store_available(api: Api) -> bool:
    """Say whether the server answers and has its store."""
    status = server_status(api)
    return status is not None and status.store_available


def wait_until_settled(api: Api, *, limit_s: float = 20) -> None:
    """Wait until the store is there and everything journaled has been applied."""

    def is_settled() -> bool:
        status = server_status(api)
        return status is not None and status.store_available and status.journal_pending_records == 0

    wait_until(is_settled, limit_s=limit_s, what="journaled records are still pending")


@dataclass(slots=True)
class KillReport:
    """What a loop saw."""

    kill_count: int = 0
    recovery_s: list[float] = field(default_factory=list)
    cut_bytes: list[int] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        tally = self.tally
        durabilities = list(tally.acknowledged.values())
        return (
            f"{self.kill_count} kills; {len(tally.sent)} sent, {len(durabilities)} acknowledged,"
            f" {len(durabilities) - durabilities.count(COMMITTED)} of them journaled;"
            f" {len(tally.failures)} failed calls; slowest answer {tally.slowest_answer_s:.2f} s;"
            f" recovery {statistics.median(self.recovery_s):.2f} s, at most {max(self.recovery_s):.2f} s;"
            f" cut {sum(self.cut_bytes)} bytes"
        )


class Killer:
    """Kills a server, its store, or both, and brings them back. Use as a context manager while the server runs."""

    def __init__(self, server: ServerProcess, draw: random.Random, *, is_cutting: bool) -> None:
        """is_cutting: the append-only file loses what was written in the last two seconds before each kill."""
        self._server = server
        self._random = draw
        self._is_cutting = is_cutting
        self._file = AppendOnlyFile(server.data_dir / "store")
        self.kill_times_s: list[float] = []
        """time.monotonic() of each kill."""
        self.cut_bytes = self._file.cut_bytes

    def __enter__(self) -> Self:
        """Begin to watch the store's file."""
        self._file.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop watching."""
        self._file.__exit__(kind, error, trace)

    def kill(self, victim: Victim, api: Api) -> float:
        """Kill, restart, and wait until the store is there. Returns how long that took in seconds."""
        self.kill_times_s.append(time.monotonic())
        if victim is Victim.STORE:
            self._kill_store()
        else:
            self._kill_server(with_store=victim is Victim.BOTH)
        started = time.monotonic()
        if victim is not Victim.STORE:
            self._server.start(timeout_s=SERVING_LIMIT_S * 4)
        wait_until(lambda: store_available(api), limit_s=SERVING_LIMIT_S * 4, what="the store is still away")
        return time.monotonic() - started

    def _kill_store(self) -> None:
        """Kill the store alone. While it is cut the server must not start the next one."""
        server_pid, store_pid = self._server.process.pid, self._server.store_pid
        if self._is_cutting:
            os.kill(server_pid, signal.SIGSTOP)
        os.kill(store_pid, signal.SIGKILL)
        if self._is_cutting:
            wait_until(lambda: not process_exists(store_pid), limit_s=2, what="the store still runs")
            self._file.cut(CUT_S, self._random)
            os.kill(server_pid, signal.SIGCONT)

    def _kill_server(self, *, with_store: bool) -> None:
        store_pid = self._server.store_pid
        if with_store:
            os.kill(store_pid, signal.SIGKILL)
        self._server.kill()
        wait_until(
            lambda: not process_exists(store_pid), limit_s=STORE_GONE_LIMIT_S, what="the store is left over"
        )
        if self._is_cutting:
            self._file.cut(CUT_S, self._random)


class KillLoop:
    """One server under load, its victims killed at random moments."""

    def __init__(self, server: ServerProcess, *, seed: int, is_cutting: bool) -> None:
        """is_cutting: the append-only file loses what was written in the last two seconds before each kill."""
        self._server = server
        self._random = random.Random(seed)
        self._seed = seed
        self._is_cutting = is_cutting
        self._killer = Killer(server, self._random, is_cutting=is_cutting)
        self.report = KillReport()

    def run(self, victims: list[Victim]) -> KillReport:
        """Kill each in turn, then compare what is left with what was acknowledged."""
        with open_channel(self._server.address) as channel, self._killer:
            api = Api(channel, self._server.admin_key)
            load = Load(self._server.address, self._server.admin_key, seed=self._seed)
            put_high_limits(api, load.tenants)
            # Settings are not journaled: they are as durable as the store.
            time.sleep(CUT_S if self._is_cutting else 0)
            with load:
                for victim in victims:
                    load_s = STORE_LOAD_S if victim is Victim.STORE else LOAD_S
                    time.sleep(self._random.uniform(*load_s))
                    self.report.recovery_s.append(self._killer.kill(victim, api))
                    self.report.kill_count += 1
                time.sleep(self._random.uniform(*LOAD_S))
            self.report.tally = load.tally
            wait_until_settled(api)
            self.report.cut_bytes = self._killer.cut_bytes
            self.report.problems = find_ledger_problems(api, load.tally)
            self.report.problems += find_quota_problems(api, load.tally, load.tenants)
            self._record_again(channel)
            self.report.problems += find_ledger_problems(api, load.tally)
            return self.report

    def _record_again(self, channel: grpc.Channel) -> None:
        """Send again what was acknowledged shortly before a kill: every answer must say duplicate."""
        tally = self.report.tally
        again = [
            tally.sent[seq]
            for seq, at in tally.acknowledge_time_s.items()
            if any(kill - RETRIED_S <= at <= kill for kill in self._killer.kill_times_s)
        ]

        def check(sent: Sent, result: Any) -> None:
            response = result.response
            if not response.duplicate or picos_of(response.cost) != sent.cost_picos:
                self.report.problems.append(f"{sent.seq} sent again was answered {result}")

        record_again(channel, self._server.admin_key, again, check=check)
