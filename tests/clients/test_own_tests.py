# SPDX-License-Identifier: Apache-2.0
"""The tests that a client has in its own language, for what the contract suite cannot see."""

import subprocess

import pytest
from clients.conftest import RunnerOf
from clients.languages import Language, own_test_parameters

from harness.server_process import ServerProcess
from harness.tidy_rules import ROOT

pytestmark = pytest.mark.timeout(900)


@pytest.mark.parametrize("language", own_test_parameters())
def test_client_passes_its_own_tests(language: Language, server: ServerProcess, runner_of: RunnerOf) -> None:
    """The client's own tests pass against the real server."""
    runner_of(language)
    done = subprocess.run(
        language.own_tests,
        cwd=ROOT / language.folder,
        env=server.client_environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
