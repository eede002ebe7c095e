# SPDX-License-Identifier: Apache-2.0
"""`taximeter plan` and `taximeter tenant import`."""

from pathlib import Path

import pytest

from harness.command_line import CommandLine
from harness.server_process import ServerProcess
from taximeter.record_id import new_record_id


@pytest.fixture
def taximeter(server: ServerProcess) -> CommandLine:
    """The command line with the admin key of the running server."""
    return CommandLine(server.client_environment)


@pytest.fixture
def name() -> str:
    """A plan, and a tenant, of which nobody else knows."""
    return f"p-{new_record_id()}"


def test_plans_are_put_shown_and_removed(taximeter: CommandLine, name: str) -> None:
    """A plan that was put is shown alone and in the list, and a tenant that has it keeps it from being removed."""
    put = taximeter.json(
        "plan", "put", name, "--requests-per-minute", "5", "--cost-per-day", "0.5", "--shadow", "all"
    )

    assert (put["requests_per_minute"], put["tokens_per_day"], put["cost_per_day"]) == (5, None, "0.50")
    assert len(put["shadow"]) == 3
    assert taximeter.json("plan", "get", name) == put
    assert put in taximeter.json("plan", "list")["plans"]
    taximeter("tenant", "put", name, "--plan", name, "--tokens-per-day", "7")
    limits = taximeter.json("quota", "status", name)["limits"]
    assert [(limit["limit"], limit["maximum"]) for limit in limits] == [
        ("requests_per_minute", 5),
        ("tokens_per_day", 7),
        ("cost_per_day", "0.50"),
    ]
    assert "plan" in taximeter("plan", "remove", name, status=1).stderr
    taximeter("tenant", "put", name)
    assert name in taximeter("plan", "remove", name).stdout


def test_csv_of_tenants_is_imported(taximeter: CommandLine, name: str, tmp_path: Path) -> None:
    """Every row becomes settings, amounts exactly; what the server refuses is named, and the rest is put."""
    file = tmp_path / "tenants.csv"
    file.write_text(
        "name,requests_per_minute,cost_per_day,shadow,display_name,plan\n"
        f"{name},60,12.500000000001,requests_per_minute tokens_per_day,A tenant,\n"
        f"{name}/a,,,,,no-such-plan\n"
        f"{name}/b,0,,,,\n"
    )
    done = taximeter("tenant", "import", str(file), status=1)

    assert "2 tenants put, 1 refused" in done.stdout
    assert f"{name}/a" in done.stderr
    found = taximeter.json("tenant", "get", name)
    assert (found["requests_per_minute"], found["cost_per_day"], found["shadow"], found["display_name"]) == (
        60,
        "12.500000000001",
        ["requests_per_minute", "tokens_per_day"],
        "A tenant",
    )
    assert taximeter.json("tenant", "get", f"{name}/b")["requests_per_minute"] == 0


def test_json_lines_of_tenants_are_imported(taximeter: CommandLine, name: str, tmp_path: Path) -> None:
    """Numbers and amounts may be numbers or texts, shadow a list."""
    file = tmp_path / "tenants.jsonl"
    file.write_text(
        f'{{"name": "{name}", "tokens_per_day": 5, "cost_per_day": 0.1, "shadow": ["cost_per_day"]}}\n\n'
        f'{{"name": "{name}/a", "tokens_per_day": "6", "cost_per_day": null}}\n'
    )

    assert taximeter.json("tenant", "import", str(file)) == {"put": 2, "refused": []}
    found = taximeter.json("tenant", "get", name)
    assert (found["tokens_per_day"], found["cost_per_day"], found["shadow"]) == (5, "0.10", ["cost_per_day"])


@pytest.mark.parametrize(
    ("file_name", "text", "problem"),
    [
        ("t.txt", "", "neither"),
        ("t.csv", "name,color\na,red\n", "line 2: has an unknown field: color"),
        ("t.csv", "plan\npro\n", "line 2: has no name"),
        ("t.csv", "name,tokens_per_day\na,1.5\n", "line 2: has a tokens_per_day"),
        ("t.csv", "name,cost_per_day\na,cheap\n", "line 2: "),
        ("t.csv", "name,shadow\na,tokens\n", "line 2: has a limit in shadow"),
        ("t.jsonl", "[]\n", "line 1: is no object"),
        ("t.jsonl", "\n{\n", "line 2: is no JSON"),
        ("t.jsonl", '{"name": "a", "plan": []}\n', "line 1: has a plan"),
    ],
)
def test_file_that_is_wrong_changes_nothing(
    taximeter: CommandLine, tmp_path: Path, file_name: str, text: str, problem: str
) -> None:
    """The first thing wrong is named with its line before anything is sent."""
    file = tmp_path / file_name
    file.write_text(text)

    assert problem in taximeter("tenant", "import", str(file), status=1).stderr
