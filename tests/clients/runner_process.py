# SPDX-License-Identifier: Apache-2.0
"""The runner program of one language: started once, asked line by line.

A question is one line of JSON, {"call": NAME, "with": {...}}; the answer is one line, {"ok": {...}} or
{"error": {...}}. tests/cases/contract/README.md lists the calls.
"""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clients.languages import Language

from harness.secret_scan import SESSION
from harness.server_process import clean_environment
from harness.tidy_rules import ROOT


class Runner:
    """A running runner program."""

    def __init__(self, language: Language, log_file: Path) -> None:
        """Starts it. log_file: what it writes to stderr; the session is told of it by whoever looks for secrets."""
        self._log = log_file.open("w")
        self._process = subprocess.Popen(
            language.runner,
            cwd=ROOT / language.folder,
            env=clean_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
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
        # Whatever a client says, of an error or of itself, is looked at for secrets when the session ends.
        SESSION.note_text(json.dumps(answer))
        return answer

    def stop(self) -> int:
        """Ends its input, which ends it, and returns its exit status."""
        self._process.communicate(timeout=30)
        self._log.close()
        return self._process.returncode
