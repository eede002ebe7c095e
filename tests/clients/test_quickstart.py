# SPDX-License-Identifier: Apache-2.0
"""The quickstart of each language: what docs/clients.md shows is the program that runs here."""

import re
import subprocess

import pytest
from clients.conftest import RunnerOf
from clients.languages import LANGUAGES, Language, language_parameters

from harness.server_process import ServerProcess
from harness.tidy_rules import ROOT

PAGE = ROOT / "docs" / "clients.md"
# The first test of a language builds its programs.
pytestmark = pytest.mark.timeout(900)


@pytest.mark.parametrize("language", language_parameters())
def test_quickstart_records(language: Language, server: ServerProcess, runner_of: RunnerOf) -> None:
    """The quickstart finds the server by the environment, and shows what its record cost."""
    runner_of(language)
    done = subprocess.run(
        language.quickstart,
        cwd=ROOT / language.folder,
        env=server.client_environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "0.0175 USD" in done.stdout


@pytest.mark.parametrize("language", LANGUAGES, ids=lambda language: language.name)
def test_page_shows_the_quickstart(language: Language) -> None:
    """The page shows the program as it stands, without its licence line."""
    source = (ROOT / language.quickstart_source).read_text()
    program = re.sub(r"\A(#!.*\n)?.*SPDX.*\n\n?", "", source)

    assert f"\n{program}```\n" in PAGE.read_text()
