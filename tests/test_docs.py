# SPDX-License-Identifier: Apache-2.0
"""The documentation: what it shows runs, and its lists are those of the code."""

import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest

from harness.doc_blocks import find_blocks, run_blocks
from harness.server_process import ServerProcess, scripts_directory
from harness.tidy_rules import ROOT
from taximeter.cli.main import cli
from taximeter.v1 import error_reason_pb2
from taximeter_server.config import ENVIRONMENT_PREFIX, LISTEN_DEFAULT, SETTINGS

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
OTHER_PAGES = ("ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")


def commands(group: click.Group, path: str = "taximeter") -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, by its full path: "taximeter key create"."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


def shown_commands(text: str, known: set[str]) -> set[str]:
    """The commands that a page shows; a call that is no command comes back as it stands."""
    shown = set()
    for words in re.findall(r"(?:^\$ |`|\| )(taximeter(?: [a-z][a-z-]*)+)", text, flags=re.MULTILINE):
        matching = [command for command in known if f"{words} ".startswith(f"{command} ")]
        is_group = any(command.startswith(f"{words} ") for command in known)
        if not is_group:
            shown.add(max(matching, key=len, default=words))
    return shown


def all_pages() -> str:
    """The text of all pages."""
    return "\n".join(page.read_text() for page in PAGES)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
@pytest.mark.timeout(300)
def test_what_a_page_shows_runs(
    page: Path, fresh_server: Callable[[], ServerProcess], tmp_path: Path
) -> None:
    """Every block of a page runs in order against a new server and gives what the page says."""
    server = fresh_server()
    environment = server.client_environment
    environment["PATH"] = f"{scripts_directory()}:{environment['PATH']}"
    directory = tmp_path / "reader"
    directory.mkdir()

    run_blocks(page, directory=directory, environment=environment, replace={LISTEN_DEFAULT: server.address})


def test_readme_shows_something_that_runs() -> None:
    """The README has at least one console command and one Python program that run."""
    languages = {block.language for block in find_blocks((ROOT / "README.md").read_text())}

    assert languages == {"console", "python"}


def test_every_command_is_documented() -> None:
    """The pages show every command of the command line, and none that does not exist."""
    known = {path for path, _ in commands(cli)}

    assert shown_commands(all_pages(), known) == known


def test_every_command_and_option_has_help() -> None:
    """--help says something about every command and each of its options."""
    silent = [path for path, command in commands(cli) if not command.get_short_help_str()]
    silent += [
        f"{path} {parameter.opts[0]}"
        for path, command in commands(cli)
        for parameter in command.params
        if isinstance(parameter, click.Option) and not parameter.help
    ]

    assert silent == []


def test_every_make_target_is_documented() -> None:
    """CONTRIBUTING.md lists the targets of `make help`, and no others."""
    help_text = subprocess.run(["make", "help"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    targets = set(re.findall(r"^ *make ([a-z-]+)", help_text, flags=re.MULTILINE))
    listed = re.findall(r"^\| `make ([a-z-]+)`", (ROOT / "CONTRIBUTING.md").read_text(), flags=re.MULTILINE)

    assert targets
    assert set(listed) == targets


def test_every_setting_is_documented() -> None:
    """The pages name every variable that server and client read, and none that nobody reads."""
    client_config = (ROOT / "clients" / "python" / "taximeter" / "config.py").read_text()
    read = set(re.findall(rf"{ENVIRONMENT_PREFIX}[A-Z_]+", client_config))
    read |= {f"{ENVIRONMENT_PREFIX}{name.upper()}" for name in (*SETTINGS, "config")}

    assert set(re.findall(rf"\b{ENVIRONMENT_PREFIX}[A-Z_]*[A-Z]", all_pages())) == read


def test_every_flag_of_serve_is_documented() -> None:
    """The pages name every flag of `taximeter-server serve`."""
    flags = {f"--{name.replace('_', '-')}" for name in (*SETTINGS, "config")}

    assert flags <= set(re.findall(r"--[a-z][a-z-]*[a-z]", all_pages()))


def test_every_error_reason_is_documented() -> None:
    """docs/errors.md has one table row for each reason that a status can carry, and no others."""
    names = set(error_reason_pb2.ErrorReason.DESCRIPTOR.values_by_name) - {"ERROR_REASON_UNSPECIFIED"}
    rows = re.findall(r"^\| `([A-Z_]+)`", (ROOT / "docs" / "errors.md").read_text(), flags=re.MULTILINE)

    assert sorted(f"ERROR_REASON_{row}" for row in rows) == sorted(names)


@pytest.mark.parametrize("page", [*PAGES, *(ROOT / name for name in OTHER_PAGES)], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """A link to a file of the repository leads to one that exists."""
    links = re.findall(r"\]\((?!https?://|mailto:|#)([^)#\s]+)", page.read_text())

    assert [link for link in links if not (page.parent / link).exists()] == []


def test_commands_are_found_in_pages() -> None:
    """Shown commands are told from groups and from calls that do not exist."""
    known = {"taximeter key create", "taximeter whoami"}
    page = "$ taximeter key create --role meter\n| `taximeter key` |\n`taximeter whoami` and `taximeter fly away`\n"

    assert shown_commands(page, known) == {"taximeter key create", "taximeter whoami", "taximeter fly away"}
