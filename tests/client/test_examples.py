# SPDX-License-Identifier: Apache-2.0
"""The examples run against the real server."""

import subprocess
import sys
from pathlib import Path

from harness.server_process import ServerProcess

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def run_example(server: ServerProcess, name: str, *arguments: str) -> str:
    """Runs an example and returns what it printed."""
    done = subprocess.run(
        [sys.executable, EXAMPLES / name, *arguments],
        env=server.client_environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_quickstart_records_and_reports(server: ServerProcess) -> None:
    """The quickstart shows what its record cost."""
    assert "0.0175 USD" in run_example(server, "quickstart.py")


def test_replay_agrees_with_the_report(server: ServerProcess) -> None:
    """Every answer of a replay is in the report, to the last pico-unit, and denied calls are in neither."""
    printed = run_example(
        server,
        "replay_workload.py",
        "--calls",
        "300",
        "--rate",
        "0",
        "--tenants",
        "3",
        "--tokens-per-day",
        "60000",
    )

    assert "DIFFERENT" not in printed
    assert "tokens_per_day: " in printed
    assert "300 calls" in printed


def test_replay_of_a_trace_with_cache_reads(server: ServerProcess) -> None:
    """A profile that knows its cache records cached tokens in their own class."""
    printed = run_example(
        server,
        "replay_workload.py",
        "--profile",
        "long-conversation",
        "--calls",
        "50",
        "--rate",
        "0",
        "--seed",
        "7",
    )

    assert "cache_read tokens" in printed
