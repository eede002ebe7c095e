# SPDX-License-Identifier: Apache-2.0
"""The contract suite's server and runners."""

from collections.abc import Callable, Iterator

import pytest
from clients.contract_table import CONTRACT_RESULT
from clients.contract_world import World
from clients.languages import Language
from clients.runner_process import Runner

from harness.certificates import Authority
from harness.server_process import ServerProcess

RunnerOf = Callable[[Language], Runner]


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
def runner_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunnerOf]:
    """The runner program of a language, built and started when it is first asked for."""
    running: dict[str, Runner] = {}
    tried: set[str] = set()
    logs = tmp_path_factory.mktemp("runners")

    def find(language: Language) -> Runner:
        if language.missing_tool:
            pytest.skip(f"{language.name}: {language.missing_tool}")
        if language.name not in running:
            # What does not build is tried once, and fails every test of its language.
            assert language.name not in tried, "its programs do not build"
            tried.add(language.name)
            language.build_all()
            running[language.name] = Runner(language, logs / f"{language.name}.log")
        return running[language.name]

    yield find
    assert [runner.stop() for runner in running.values()] == [0] * len(running)


@pytest.fixture
def note_result(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Notes for the table which case of which language a test is; the outcome follows by itself."""
    return lambda case, language: request.node.user_properties.append((CONTRACT_RESULT, (case, language)))
