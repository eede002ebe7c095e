# SPDX-License-Identifier: Apache-2.0
"""The engine in a process of its own, so that it can live by another clock than the tests. Also that process."""

import base64
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa

from harness.ledger_rows import rows_of_partition
from taximeter_server import _native
from taximeter_server.limits import Limits
from taximeter_server.tenants import Tenant

OPEN_TIMEOUT_MS = 10_000


class EngineError(Exception):
    """A call of the engine failed. code: gRPC's number, 0 for an error that is none; status: serialized."""

    def __init__(self, code: int, message: str, status: bytes) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


class EngineProcess:
    """An open engine on a store."""

    def __init__(self, store_url: str, journal: Path, environment: Mapping[str, str] | None = None) -> None:
        """environment: added to that of the tests."""
        inherited = os.environ  # noqa: TID251 (what a child process inherits)
        python_path = os.pathsep.join(path for path in sys.path if path)
        self._process = subprocess.Popen(
            [sys.executable, __file__, store_url, str(journal)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**inherited, "PYTHONPATH": python_path, **(environment or {})},
        )
        self._call("open")

    def set_catalogue(self, catalogue_json: bytes) -> None:
        """Swap the catalogue in."""
        self._call("set_catalogue", catalogue_json)

    def record(self, request: bytes) -> bytes:
        """Serve RecordRequest. Raises EngineError."""
        return self._call("record", request)

    def check_quota(self, request: bytes) -> bytes:
        """Serve CheckQuotaRequest. Raises EngineError."""
        return self._call("check_quota", request)

    def extend_hold(self, request: bytes) -> bytes:
        """Serve ExtendHoldRequest. Raises EngineError."""
        return self._call("extend_hold", request)

    def release_hold(self, request: bytes) -> bytes:
        """Serve ReleaseHoldRequest. Raises EngineError."""
        return self._call("release_hold", request)

    def quota_status(self, tenant: str) -> bytes:
        """Return GetQuotaStatusResponse. Raises EngineError."""
        return self._call("quota_status", tenant.encode())

    def put_limits(self, levels: Sequence[Tenant]) -> None:
        """Set the limits of levels."""
        self._call("put_limits", json.dumps([level.to_json() for level in levels]).encode())

    def put_plan(self, name: str, limits: Limits | None) -> None:
        """Set the limits of a plan, or remove it."""
        self._call("put_plan", json.dumps([name, limits and asdict(limits)]).encode())

    def change_credits(self, **change: Any) -> tuple[str, str]:
        """Change a credit account. Raises EngineError."""
        change["content"] = change["content"].decode()
        state, why = json.loads(self._call("change_credits", json.dumps(change).encode()))
        return state, why

    def post_adjustments(self, adjustments_json: bytes) -> list[str]:
        """Post corrections of records. Raises EngineError."""
        found: list[str] = json.loads(self._call("post_adjustments", adjustments_json))
        return found

    def credit_account(self, root: str) -> bytes | None:
        """Return a credit account as JSON."""
        return self._call("credit_account", root.encode()) or None

    def rows_of_partition(self, partition: int) -> pa.Table:
        """Return all rows of a partition's stream."""
        return pa.ipc.open_stream(self._call("rows_of_partition", str(partition).encode())).read_all()

    def store_time_ms(self) -> int:
        """Return the store's clock."""
        return int(self._call("store_time_ms"))

    def close(self) -> None:
        """Close the engine and end the process."""
        if self._process.stdin is not None and self._process.poll() is None:
            self._process.stdin.close()
        self._process.wait(10)
        if self._process.stdout is not None:
            self._process.stdout.close()

    def __enter__(self) -> Self:
        """Return the open engine."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def _call(self, method: str, argument: bytes = b"") -> bytes:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(method.encode() + b" " + base64.b64encode(argument) + b"\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"the engine's process ended with {self._process.wait(5)}"
        answer = json.loads(line)
        if "error" in answer:
            code, message, status = answer["error"]
            raise EngineError(code, message, base64.b64decode(status))
        return base64.b64decode(answer["value"])


def _methods(engine: _native.Engine) -> Mapping[str, Callable[[bytes], bytes | None]]:
    def put_limits(argument: bytes) -> None:
        engine.put_limits([Tenant.from_json(document) for document in json.loads(argument)])

    def put_plan(argument: bytes) -> None:
        name, limits = json.loads(argument)
        engine.put_plan(name, limits and Limits.of_document(limits))

    def change_credits(argument: bytes) -> bytes:
        change = json.loads(argument)
        return json.dumps(engine.change_credits(**{**change, "content": change["content"].encode()})).encode()

    def read_rows(argument: bytes) -> bytes:
        rows = rows_of_partition(engine, int(argument))
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, rows.schema) as writer:
            writer.write_table(rows)
        return bytes(sink.getvalue())

    return {
        "change_credits": change_credits,
        "post_adjustments": lambda posted: json.dumps(engine.post_adjustments(posted)).encode(),
        "credit_account": lambda root: engine.credit_account(root.decode()),
        "rows_of_partition": read_rows,
        "open": lambda _: engine.open(
            archived_ids=["0-0"] * _native.PARTITION_COUNT, timeout_ms=OPEN_TIMEOUT_MS
        ),
        "set_catalogue": engine.set_catalogue,
        "record": engine.record,
        "check_quota": engine.check_quota,
        "extend_hold": engine.extend_hold,
        "release_hold": engine.release_hold,
        "quota_status": lambda tenant: engine.quota_status(tenant.decode()),
        "put_limits": put_limits,
        "put_plan": put_plan,
        "store_time_ms": lambda _: str(engine.store_time_ms()).encode(),
    }


def main() -> None:
    """Serve calls, one line each, until stdin ends."""
    store_url, journal = sys.argv[1:]
    engine = _native.Engine(store_url=store_url, journal_dir=journal, exclusive_store=True)
    methods = _methods(engine)
    for line in sys.stdin.buffer:
        method, _, argument = line.strip().partition(b" ")
        try:
            value = methods[method.decode()](base64.b64decode(argument)) or b""
            answer: dict[str, Any] = {"value": base64.b64encode(value).decode()}
        except _native.RpcError as error:
            code, message, status = error.args
            answer = {"error": [code, message, base64.b64encode(status).decode()]}
        except Exception as error:  # noqa: BLE001 (the caller is told of every error)
            answer = {"error": [0, repr(error), ""]}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    engine.close()


if __name__ == "__main__":
    main()
