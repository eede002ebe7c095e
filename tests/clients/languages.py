# SPDX-License-Identifier: Apache-2.0
"""The languages that there is a client for: how their programs are built and run."""

import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pytest
from _pytest.mark import ParameterSet

from harness.server_process import clean_environment, scripts_directory
from harness.tidy_rules import ROOT

BUILD_TIMEOUT_S = 900
JAVA = "exec java -cp target/classes:target/test-classes:$(cat target/classpath.txt)"


def tool_environment(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """An environment in which the tools of .venv are found, such as buf."""
    made = clean_environment(environment)
    return made | {"PATH": f"{scripts_directory()}:{made['PATH']}"}


@dataclass(frozen=True, slots=True)
class Language:
    """How the runner and the quickstart of a language are built and run; commands run in `folder`."""

    name: str
    tool: str
    folder: str
    build: tuple[Sequence[str], ...]
    runner: Sequence[str]
    quickstart: Sequence[str]
    quickstart_source: str
    """The file that docs/clients.md shows."""
    own_tests: Sequence[str] = ()
    lacks: frozenset[str] = frozenset()
    """Parts that the client does not have, by Case.needs."""
    has_wide_tests: bool = False
    """Whether own_tests, which build everything once more, are run only by `make test-all`."""

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
                env=tool_environment(),
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
        quickstart_source="examples/quickstart.py",
        lacks=frozenset({"gateway"}),
    ),
    Language(
        "go",
        "go",
        "clients/go",
        build=(("go", "build", "-o", "build/", "./internal/contract", "./examples/quickstart"),),
        runner=("build/contract",),
        quickstart=("build/quickstart",),
        quickstart_source="clients/go/examples/quickstart/main.go",
        own_tests=("go", "test", "-count=1", "./..."),
    ),
    Language(
        "node",
        "npm",
        "clients/node",
        build=(("npm", "ci", "--ignore-scripts", "--prefer-offline"), ("npm", "run", "build")),
        runner=("node", "test/contract.mjs"),
        quickstart=("node", "examples/quickstart.mjs"),
        quickstart_source="clients/node/examples/quickstart.mjs",
        own_tests=("npm", "test"),
    ),
    Language(
        "java",
        "mvn",
        "clients/java",
        build=(
            (
                *("mvn", "--batch-mode", "--quiet", "test-compile", "dependency:build-classpath"),
                *("-Dmdep.outputFile=target/classpath.txt", "-Dmdep.includeScope=test"),
            ),
        ),
        runner=("sh", "-c", f"{JAVA} com.taximeter.client.Contract"),
        quickstart=("sh", "-c", f"{JAVA} examples.Quickstart"),
        quickstart_source="clients/java/src/test/java/examples/Quickstart.java",
        own_tests=("mvn", "--batch-mode", "--quiet", "surefire:test"),
        has_wide_tests=True,
    ),
    Language(
        "rust",
        "cargo",
        "clients/rust",
        build=(
            ("cargo", "build", "--locked", "--quiet", "--example", "contract", "--example", "quickstart"),
        ),
        runner=("target/debug/examples/contract",),
        quickstart=("target/debug/examples/quickstart",),
        quickstart_source="clients/rust/examples/quickstart.rs",
        own_tests=(
            *("sh", "-ec"),
            "cargo test --locked --quiet; cargo clippy --locked --quiet --all-targets -- --deny warnings",
        ),
        has_wide_tests=True,
    ),
)


def language_parameters() -> list[ParameterSet]:
    """The languages as parameters of a test."""
    return [pytest.param(language, id=language.name) for language in LANGUAGES]


def own_test_parameters() -> list[ParameterSet]:
    """The languages with tests of their own, those whose tests `make test` leaves out marked."""
    return [
        pytest.param(language, id=language.name, marks=[pytest.mark.wide] if language.has_wide_tests else [])
        for language in LANGUAGES
        if language.own_tests
    ]
