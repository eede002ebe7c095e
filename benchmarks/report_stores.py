# SPDX-License-Identifier: Apache-2.0
"""The same lines in plain SQLite and PostgreSQL, with the indexes that one would make: what a report costs there.

PostgreSQL is Debian's, started for the benchmark alone in a folder of its own and asked through psql; where it is not
installed it is left out. Both get every line of the ledger's files, so that all three answer from the same rows.
"""

import os
import shutil
import socket
import sqlite3
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import pyarrow as pa

COLUMNS = (
    ("occur_time_us", "BIGINT"),
    ("tenant", "TEXT"),
    ("model", "TEXT"),
    ("usage_class", "TEXT"),
    ("workflow_uuid", "TEXT"),
    ("calls", "BIGINT"),
    ("quantity", "BIGINT"),
    ("cost_picos", "BIGINT"),
)
INDEXES = (
    "CREATE INDEX by_time ON lines (occur_time_us)",
    "CREATE INDEX by_tenant ON lines (tenant, occur_time_us)",
)
ROUNDS = 3
BATCH_ROWS = 100_000
_READ = """
    SELECT occur_time_us, tenant, model, usage_class, map_extract_value(attributes, 'workflow_uuid') AS workflow_uuid,
        calls, quantity, cost_picos
    FROM read_parquet($files, hive_partitioning = false)
"""
_SUMS = "sum(calls), sum(quantity), sum(cost_picos)"
_POSTGRES_FOLDERS = "/usr/lib/postgresql"
# PostgreSQL is tuned as far as its manual advises anybody to: a quarter of 8 GiB, room to sort, and no fsync.
_SETTINGS = ("shared_buffers=2GB", "work_mem=256MB", "fsync=off", "max_wal_size=8GB", "listen_addresses=")


def statements(start_us: int, end_us: int) -> dict[str, str]:
    """Return what is asked, by the names that the reports have. start_us, end_us: of the month."""
    month = f"occur_time_us >= {start_us} AND occur_time_us < {end_us}"
    day = "occur_time_us / 86400000000"
    return {
        "month, all tenants": f"SELECT tenant, {_SUMS} FROM lines WHERE {month} GROUP BY 1",  # noqa: S608
        "month, by model": f"SELECT model, {_SUMS} FROM lines WHERE {month} GROUP BY 1",  # noqa: S608
        "month, one tenant by day and model": f"SELECT {day}, model, {_SUMS} FROM lines"  # noqa: S608
        f" WHERE tenant = 'tenant-00007' AND {month} GROUP BY 1, 2",
        "everything, by an attribute": f"SELECT workflow_uuid, {_SUMS} FROM lines GROUP BY 1",  # noqa: S608
    }


def batches(files: list[str]) -> Iterator[pa.RecordBatch]:
    """Yield every line of the ledger's files."""
    reader = duckdb.connect().sql(_READ, params={"files": files}).to_arrow_reader(BATCH_ROWS)
    yield from reader


def sqlite_ms(files: list[str], folder: Path, questions: dict[str, str]) -> dict[str, float]:
    """Return the median duration of each question in SQLite."""
    path = folder / "lines.sqlite3"
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode = OFF")
    database.execute("PRAGMA synchronous = OFF")
    database.execute("PRAGMA cache_size = -2000000")
    columns = ", ".join(f"{name} {kind}" for name, kind in COLUMNS)
    database.execute(f"CREATE TABLE lines ({columns})")
    insert = f"INSERT INTO lines VALUES ({', '.join('?' * len(COLUMNS))})"  # noqa: S608
    database.execute("BEGIN")
    for batch in batches(files):
        database.executemany(insert, zip(*(column.to_pylist() for column in batch.columns), strict=True))
    database.execute("COMMIT")
    for index in INDEXES:
        database.execute(index)
    database.execute("ANALYZE")

    def ask(statement: str) -> float:
        started = time.perf_counter()
        database.execute(statement).fetchall()
        return (time.perf_counter() - started) * 1_000

    found = {name: _median(ask, text) for name, text in questions.items()}
    database.close()
    path.unlink()
    return found


def _median(ask: Callable[[str], float], statement: str) -> float:
    ask(statement)
    return statistics.median(ask(statement) for _ in range(ROUNDS))


def postgres_programs() -> Path | None:
    """Return the folder of initdb and postgres, None where PostgreSQL is not installed."""
    beside = shutil.which("initdb")
    if beside:
        return Path(beside).resolve().parent
    found = sorted(Path(_POSTGRES_FOLDERS).glob("*/bin/initdb"))
    return found[-1].parent if found else None


class Postgres:
    """A PostgreSQL of the benchmark's own, on a Unix socket."""

    def __init__(self, programs: Path, folder: Path) -> None:
        """Set up and start. PostgreSQL refuses to run as root, so root runs it as its Debian user."""
        self._user = "postgres" if os.geteuid() == 0 else None
        self._folder = folder / "postgres"
        self._folder.mkdir()
        if self._user:
            folder.chmod(0o711)
            shutil.chown(self._folder, self._user)
        data = self._folder / "data"
        self._run([programs / "initdb", "--auth=trust", "--username=postgres", "-D", data])
        options = [option for setting in _SETTINGS for option in ("-c", setting)]
        command = [programs / "postgres", "-D", data, "-k", self._folder, *options]
        self._process = subprocess.Popen(
            list(map(str, command)), user=self._user, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self._psql = [
            str(programs / "psql"),
            "-h",
            str(self._folder),
            "-U",
            "postgres",
            "-X",
            "-q",
            "-d",
            "postgres",
        ]
        self._wait()

    def _run(self, command: list[str | Path]) -> None:
        subprocess.run(list(map(str, command)), check=True, user=self._user, stdout=subprocess.DEVNULL)

    def _wait(self) -> None:
        path = str(self._folder / ".s.PGSQL.5432")
        for _ in range(300):
            with socket.socket(socket.AF_UNIX) as probe:
                if probe.connect_ex(path) == 0 and self.run("SELECT 1", check=False).returncode == 0:
                    return
            time.sleep(0.1)
        raise TimeoutError("PostgreSQL does not start")

    def run(self, *statements: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
        """Run statements in one session and return what psql printed."""
        return subprocess.run(
            self._psql, input=";\n".join(statements) + ";\n", check=check, capture_output=True, text=True
        )

    def load(self, files: list[str]) -> None:
        """Copy every line in."""
        columns = ", ".join(f"{name} {kind}" for name, kind in COLUMNS)
        self.run(f"CREATE UNLOGGED TABLE lines ({columns})")
        with subprocess.Popen(
            [*self._psql, "-c", "COPY lines FROM STDIN (FORMAT csv)"], stdin=subprocess.PIPE, text=True
        ) as copy:
            if copy.stdin is None:
                raise RuntimeError
            for batch in batches(files):
                rows = zip(*(column.to_pylist() for column in batch.columns), strict=True)
                copy.stdin.writelines(
                    ",".join("" if v is None else str(v) for v in row) + "\n" for row in rows
                )
        self.run(*INDEXES, "VACUUM ANALYZE lines")

    def ask_ms(self, statement: str) -> float:
        """Return how long a statement takes in the median, as psql measures it."""
        asked = [f"{statement} \\g /dev/null\n"] * (ROUNDS + 1)
        printed = subprocess.run(
            self._psql, input="\\timing on\n" + "".join(asked), check=True, capture_output=True, text=True
        ).stdout
        times = [float(line.split()[1]) for line in printed.splitlines() if line.startswith("Time:")]
        return statistics.median(times[1:])

    def stop(self) -> None:
        """End the process and remove what it kept."""
        self._process.terminate()
        self._process.wait()
        shutil.rmtree(self._folder)


def postgres_ms(files: list[str], folder: Path, questions: dict[str, str]) -> dict[str, float]:
    """Return the median duration of each question in PostgreSQL; nothing where it is not installed."""
    programs = postgres_programs()
    if programs is None:
        print("PostgreSQL is not installed (apt-get install postgresql): left out")
        return {}
    server = Postgres(programs, folder)
    try:
        server.load(files)
        # Sums of bigint are numeric, and exact.
        return {name: server.ask_ms(text) for name, text in questions.items()}
    finally:
        server.stop()
