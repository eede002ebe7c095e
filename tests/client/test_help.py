# SPDX-License-Identifier: Apache-2.0
"""Every command explains itself."""

from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from taximeter.cli.main import cli


def commands(
    group: click.Group, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Walks all commands."""
    for name, command in group.commands.items():
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


COMMANDS = dict(commands(cli))
EXISTING = {
    "whoami",
    "record void",
    "record amend",
    "record level",
    "completion",
    "billing usage get-metrics",
    "billing summary",
    "billing report",
    "billing rollup",
    "billing estimate",
    "billing credits account",
    "billing credits grant",
    "billing credits void",
    "billing credits list",
    "billing credits entries",
    "billing credits top-up",
    "billing credits top-ups",
    "billing subscription get",
    "billing subscription get-invoices",
    "billing subscription put",
    "billing subscription change-plan",
    "billing subscription cancel",
    "billing invoice list",
    "billing invoice show",
    "billing invoice finalize",
    "billing invoice void",
    "billing invoice credit-note",
    "billing export",
    "billing payments get-account",
    "billing payments list",
    "billing payments put-account",
    "billing payments retry",
    "billing subscription create-portal-session",
    "billing subscription get-credit-card",
    "rate-card validate",
    "rate-card publish",
    "rate-card list",
    "rate-card show",
    "rate-card withdraw",
    "rate-card verify",
    "rate-card tenant-prices put",
    "rate-card tenant-prices remove",
    "rate-card tenant-prices get",
    "rate-card tenant-prices list",
    "rate-card diff",
    "rate-card compare",
    "rate-card explain",
    "rate-card import",
    "plan put",
    "plan get",
    "plan list",
    "plan remove",
    "tenant put",
    "tenant remove",
    "tenant import",
    "tenant override",
    "tenant get",
    "tenant list",
    "quota status",
    "quota watch",
    "quota simulate",
    "quota events",
    "webhook put",
    "webhook list",
    "webhook rotate-secret",
    "webhook remove",
    "webhook deliveries",
    "key create",
    "key list",
    "key rotate",
    "key revoke",
    "audit list",
    "audit verify",
    "server status",
    "server conflicts",
    "spool drain",
    "spool status",
    "spool dead-letters list",
    "spool dead-letters remove",
    "spool dead-letters retry",
}


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_has_help(path: tuple[str, ...]) -> None:
    """--help works without a server, and every command and option says what it does."""
    command = COMMANDS[path]
    result = CliRunner().invoke(cli, [*path, "--help"])

    assert result.exit_code == 0
    assert command.help
    assert all(parameter.help for parameter in command.params if isinstance(parameter, click.Option))


@pytest.mark.parametrize(
    "path", [path for path, found in COMMANDS.items() if not isinstance(found, click.Group)], ids=" ".join
)
def test_every_command_has_an_output_option(path: tuple[str, ...]) -> None:
    """Each command that answers takes --output with json; two print a file instead: a script, a card."""
    options = {name for parameter in COMMANDS[path].params for name in parameter.opts}

    assert ("--output" in options) is (path not in {("completion",), ("rate-card", "import")})


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_the_program(shell: str) -> None:
    """The script of each shell completes `taximeter`."""
    result = CliRunner().invoke(cli, ["completion", shell])

    assert result.exit_code == 0
    assert "_TAXIMETER_COMPLETE" in result.output


def test_commands_are_those_that_exist() -> None:
    """The set of commands changes on purpose only."""
    found = {" ".join(path) for path, command in COMMANDS.items() if not isinstance(command, click.Group)}

    assert found == EXISTING
