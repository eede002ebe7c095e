# SPDX-License-Identifier: Apache-2.0
"""Every client keeps the same contract with the real server: tests/cases/contract, in each language."""

from collections.abc import Callable

import pytest
from clients.conftest import RunnerOf
from clients.contract_cases import Case, differences, load_cases
from clients.contract_world import World
from clients.languages import Language, language_parameters

CASES = tuple(load_cases())
# The first test of a language builds its runner.
pytestmark = pytest.mark.timeout(900)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title)
@pytest.mark.parametrize("language", language_parameters())
def test_client_keeps_the_contract(
    language: Language,
    case: Case,
    world: World,
    runner_of: RunnerOf,
    note_result: Callable[[str, str], None],
) -> None:
    """Given the case's state, the client's calls are answered as the case says."""
    if case.needs in language.lacks:
        pytest.skip(f"{language.name} has no {case.needs}")
    runner = runner_of(language)
    note_result(case.title, language.name)
    world.run(case, runner, language.name)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"a": 1}, {"a": 2}),
        ({"a": {"b": "x"}}, {"a": {}}),
        ({"a": [1, 2]}, {"a": [1]}),
        ({"a": "~[0-9]+"}, {"a": "1x"}),
        ({"a": {"between": [1, 2]}}, {"a": "2.5s"}),
        ({"a": {"between": [1, 2]}}, {}),
        ({"a": 0}, {"a": "1"}),
        ({"a": []}, {"a": [1]}),
    ],
)
def test_wrong_answer_is_found(wanted: object, found: object) -> None:
    """What differs from the wanted answer is a difference."""
    assert list(differences(wanted, found))


def test_right_answer_has_no_differences() -> None:
    """Numbers equal their text, what is absent equals zero, and names that are not wanted are not looked at."""
    found = {"a": "12", "c": [{"d": "1.5s"}], "more": 1}

    assert not list(differences({"a": 12, "b": 0, "c": [{"d": {"between": [1, 2]}}]}, found))
