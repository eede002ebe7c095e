# SPDX-License-Identifier: Apache-2.0
"""The contract suite's server and runners, and its table of results."""

from collections.abc import Callable, Generator, Iterator

import pytest
from clients.contract_world import World
from clients.languages import LANGUAGES, Language
from clients.runner_process import Runner

from harness.certificates import Authority
from harness.server_process import ServerProcess

RunnerOf = Callable[[Language], Runner]
FAILED = pytest.StashKey[bool]()
_results: dict[tuple[str, str], str] = {}


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Servers of its own: cases stop the store of one, and the other speaks TLS."""
    directory = tmp_path_factory.mktemp("contract")
    authority = Authority()
    ca_file = directory / "ca.pem"
    ca_file.write_bytes(authority.pem)
    certificate, key = authority.server().write(directory, "server")
    tls = ("--tls-cert", str(certificate), "--tls-key", str(key))
    with (
        ServerProcess(directory / "data") as server,
        ServerProcess(directory / "tls-data", arguments=tls) as tls_server,
    ):
        made = World(server, tls_server, ca_file)
        yield made
        made.close()


@pytest.fixture(scope="session")
def runner_of() -> Iterator[RunnerOf]:
    """The runner program of a language, built and started when it is first asked for."""
    running: dict[str, Runner] = {}
    tried: set[str] = set()

    def find(language: Language) -> Runner:
        if language.missing_tool:
            pytest.skip(f"{language.name}: {language.missing_tool}")
        if language.name not in running:
            # What does not build is tried once, and fails every test of its language.
            assert language.name not in tried, "its programs do not build"
            tried.add(language.name)
            language.build_all()
            running[language.name] = Runner(language)
        return running[language.name]

    yield find
    assert [runner.stop() for runner in running.values()] == [0] * len(running)


@pytest.fixture
def note_result(request: pytest.FixtureRequest) -> Iterator[Callable[[str, str], None]]:
    """Notes for the table which case of which language a test is; the outcome follows by itself."""
    noted: list[tuple[str, str]] = []
    yield lambda case, language: noted.append((case, language))
    for key in noted:
        _results[key] = "FAILED" if request.node.stash.get(FAILED, False) else "ok"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remembers that a test failed, for note_result."""
    report = yield
    if report.when == "call" and report.failed:
        item.stash[FAILED] = True
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints one table of the contract suite: a row per case, a column per language."""
    if not _results:
        return
    names = [language.name for language in LANGUAGES]
    cases = list(dict.fromkeys(case for case, _ in _results))
    width = max(map(len, cases))
    terminalreporter.section("contract suite, by language")
    terminalreporter.write_line(" ".join(["".ljust(width), *(name.ljust(7) for name in names)]).rstrip())
    for case in cases:
        cells = [_results.get((case, name), "-").ljust(7) for name in names]
        terminalreporter.write_line(" ".join([case.ljust(width), *cells]).rstrip())
