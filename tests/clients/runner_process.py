# SPDX-License-Identifier: Apache-2.0
"""The runner program of one language: built once, started once, asked line by line.

A question is one line of JSON, {"call": NAME, "with": {...}}; the answer is one line, {"ok": {...}} or
{"error": {...}}. tests/cases/contract/README.md lists the calls.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.server_process import clean_environment
from harness.tidy_rules import ROOT

BUILD_TIMEOUT_S = 900


@dataclass(frozen=True, slots=True)
class Language:
    """How the runner and the quickstart of a language are built and run; commands run in `folder`."""

    name: str
    tool: str
    folder: str
    build: tuple[Sequence[str], ...]
    runner: Sequence[str]
    quickstart: Sequence[str]
    lacks: frozenset[str] = frozenset()
    """Parts that the client does not have, by Case.needs."""
    is_wide: bool = False
    """Whether it is built and run only by `make test-all`."""

    @property
    def missing_tool(self) -> str:
        """Why the language cannot be tested here; empty when it can."""
        return "" if shutil.which(self.tool) else f"{self.tool} is not on the PATH"

    def build_all(self) -> None:
        """Builds runner and quickstart. Raises AssertionError with what the compiler said."""
        for command in self.build:
            done = subprocess.run(
                command,
                cwd=ROOT / self.folder,
                capture_output=True,
                text=True,
                check=False,
                timeout=BUILD_TIMEOUT_S,
            )
            assert done.returncode == 0, f"{command}:\n{done.stdout}{done.stderr}"


LANGUAGES = (
    Language(
        "python",
        sys.executable,
        "tests/clients",
        build=(),
        runner=(sys.executable, "python_runner.py"),
        quickstart=(sys.executable, "../../examples/quickstart.py"),
        lacks=frozenset({"gateway"}),
    ),
)


class Runner:
    """A running runner program."""

    def __init__(self, language: Language) -> None:
        """Starts it."""
        self._process = subprocess.Popen(
            language.runner,
            cwd=ROOT / language.folder,
            env=clean_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, call: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the answer to one question."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"call": call, "with": arguments}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"the runner ended with status {self._process.wait(10)} instead of answering {call}"
        answer: dict[str, Any] = json.loads(line)
        return answer

    def stop(self) -> int:
        """Ends its input, which ends it, and returns its exit status."""
        self._process.communicate(timeout=30)
        return self._process.returncode
