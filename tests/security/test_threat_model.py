# SPDX-License-Identifier: Apache-2.0
"""docs/threat-model.md and docs/quota-promises.md: every line of their tables is held by something that exists."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINES = {"threat-model.md": 22, "quota-promises.md": 27}
PAGES_AND_NUMBERS = [(page, number) for page, count in LINES.items() for number in range(1, count + 1)]


def checklist(name: str) -> dict[int, list[str]]:
    """Return what holds each line of a page, by its number."""
    page = (ROOT / "docs" / name).read_text()
    rows = re.findall(r"^\| (\d+) \| .+ \| ([^|]+) \|$", page, flags=re.MULTILINE)
    return {int(number): re.findall(r"`([^`]+)`", cell) for number, cell in rows}


def exists(holder: str) -> bool:
    """Say whether "FILE::FUNCTION" is a test or fixture, or "FILE: TEXT" a line with that text."""
    file, separator, name = holder.partition("::")
    if separator:
        path = ROOT / file
        tree = ast.parse(path.read_text()) if path.exists() else ast.Module([], [])
        return name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    file, _, text = holder.partition(": ")
    return text in (ROOT / file).read_text()


@pytest.mark.parametrize("page", LINES)
def test_the_checklist_is_whole(page: str) -> None:
    """No line is missing, and none is held by nothing."""
    assert sorted(checklist(page)) == list(range(1, LINES[page] + 1))
    assert [number for number, holders in checklist(page).items() if not holders] == []


@pytest.mark.parametrize(("page", "number"), PAGES_AND_NUMBERS)
def test_what_holds_a_line_exists(page: str, number: int) -> None:
    """Each test, fixture or setting that a page names is there."""
    assert [holder for holder in checklist(page)[number] if not exists(holder)] == []


def test_a_holder_that_is_gone_is_found() -> None:
    """The check notices a test, a file and a line that do not exist."""
    gone = ("tests/conftest.py::no_such_fixture", "tests/no_such_file.py::x", "Cargo.toml: no such line")

    assert [holder for holder in gone if exists(holder)] == []
    assert exists("tests/conftest.py::no_secrets")
