# SPDX-License-Identifier: Apache-2.0
"""The command line as a user runs it."""

import json
import subprocess
from collections.abc import Mapping
from typing import Any

from harness.secret_scan import SESSION
from harness.server_process import scripts_directory

TIMEOUT_S = 30


class CommandLine:
    """Runs `taximeter` as a user does."""

    def __init__(self, environment: Mapping[str, str], *, timeout_s: int = TIMEOUT_S) -> None:
        """environment: of the commands. timeout_s: of each."""
        self.environment = environment
        self._timeout_s = timeout_s

    def __call__(self, *arguments: str, status: int = 0, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command and check its exit status."""
        done = subprocess.run(
            [scripts_directory() / "taximeter", *arguments],
            input=stdin,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=self._timeout_s,
        )
        SESSION.note_text(done.stderr + (done.stdout if done.returncode else ""))
        assert done.returncode == status, done.stdout + done.stderr
        return done

    def json(self, *arguments: str) -> Any:
        """Run a command with --output json and return what it printed."""
        return json.loads(self(*arguments, "--output", "json").stdout)
