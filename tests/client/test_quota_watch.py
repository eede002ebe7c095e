# SPDX-License-Identifier: Apache-2.0
"""`taximeter quota watch` against a real server."""

import json
from datetime import timedelta

import pytest

from harness.command_line import CommandLine
from harness.server_process import ServerProcess
from taximeter import Limits, Meter, Usage, new_record_id


@pytest.fixture
def taximeter(server: ServerProcess) -> CommandLine:
    """The command line with the admin key of the running server."""
    return CommandLine(server.client_environment)


@pytest.fixture
def tenant(meter: Meter) -> str:
    """A tenant of which half of the day's tokens is used, and a quarter held."""
    name = f"t-{new_record_id()}"
    meter.put_tenant(name, Limits(tokens_per_day=1_000))
    meter.record(name, Usage(uncached_input_tokens=500), model="gpt-5")
    held = Usage(uncached_input_tokens=250)
    assert meter.check_quota(name, model="gpt-5", estimate=held, hold_ttl=timedelta(minutes=1)).allowed
    return name


def test_bars_show_what_is_used_and_held(taximeter: CommandLine, tenant: str) -> None:
    """Each limit is a bar of what is used, what is held, and what is left."""
    shown = taximeter("quota", "watch", tenant, "--count", "1").stdout

    assert "█" * 20 + "▒" * 10 + "·" * 10 in shown
    assert " 75 " in shown
    assert shown.endswith("\n")


def test_what_is_no_terminal_gets_each_look(taximeter: CommandLine, tenant: str) -> None:
    """Written into a file, the bars come once per look."""
    shown = taximeter("quota", "watch", tenant, "--count", "2").stdout

    assert shown.count("█" * 20 + "▒" * 10) == 2


def test_each_look_is_a_document(taximeter: CommandLine, tenant: str) -> None:
    """As json, each look writes one document."""
    shown = taximeter("quota", "watch", tenant, "--count", "2", "--output", "json").stdout
    decoder, found = json.JSONDecoder(), []
    while shown.strip():
        document, end = decoder.raw_decode(shown.lstrip())
        found.append(document["limits"][0])
        shown = shown.lstrip()[end:]

    assert [(limit["used"], limit["held"], limit["remaining"]) for limit in found] == [(500, 250, 250)] * 2
