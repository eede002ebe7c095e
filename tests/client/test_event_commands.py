# SPDX-License-Identifier: Apache-2.0
"""`taximeter quota events` and `taximeter webhook` against a real server."""

import json

import pytest

from harness.command_line import CommandLine
from harness.server_process import ServerProcess
from taximeter import Limits, Meter, Usage, new_record_id


@pytest.fixture
def taximeter(server: ServerProcess) -> CommandLine:
    """The command line with the admin key of the running server."""
    return CommandLine(server.client_environment)


@pytest.fixture
def tenant(server: ServerProcess) -> str:
    """A tenant that has used 96 percent of its cost per day."""
    name = f"t-{new_record_id()}"
    with Meter(f"http://{server.address}", key=server.admin_key) as meter:
        cost_picos = meter.record(name, Usage(uncached_input_tokens=960), model="gpt-5").cost.picos
        meter.put_tenant(name, Limits(cost_per_day_picos=cost_picos * 2_000 // 960))
        meter.record(name, Usage(uncached_input_tokens=960), model="gpt-5")
    return name


def test_events_are_listed_and_followed(taximeter: CommandLine, tenant: str) -> None:
    """Events come oldest first, costs as decimals; followed, each is a document of its own."""
    listed = taximeter.json("quota", "events", tenant)["events"]
    followed = taximeter("quota", "events", tenant, "--follow", "--count", "2", "--output", "json").stdout
    lines = taximeter("quota", "events", tenant, "--follow", "--count", "1").stdout.splitlines()

    assert [(event["limit"], event["threshold_percent"]) for event in listed] == [
        ("cost_per_day", percent) for percent in (50, 80, 95)
    ]
    assert {event["tenant"] for event in listed} == {tenant}
    assert all("." in event["used"] for event in listed)
    assert json.loads("[" + followed.replace("}\n{", "},{") + "]") == listed
    assert len(lines) == 3
    assert "95" in lines[-1]


def test_endpoints_are_put_rotated_listed_and_removed(taximeter: CommandLine, tenant: str) -> None:
    """A secret is shown when it is made, and in no list."""
    url = "http://127.0.0.1:9/hook"
    made = taximeter.json(
        "webhook", "put", url, "--tenant", tenant, "--from-percent", "80", "--note", "pager"
    )
    changed = taximeter.json("webhook", "put", f"{url}2", "--tenant", tenant, "--id", made["id"])
    rotated = taximeter.json("webhook", "rotate-secret", made["id"], "--overlap-hours", "1")
    listed = taximeter.json("webhook", "list")["endpoints"]
    sent = taximeter.json("webhook", "deliveries", made["id"])["deliveries"]
    taximeter("webhook", "remove", made["id"])

    assert made["secret"].startswith("whsec_")
    assert (made["state"], made["threshold_percent_min"], made["note"]) == ("enabled", 80, "pager")
    assert "secret" not in changed
    assert rotated["secret"] not in {made["secret"], ""}
    (found,) = (endpoint for endpoint in listed if endpoint["id"] == made["id"])
    assert found["url"] == f"{url}2"
    assert found["old_secret_expire_time"] is not None
    assert "secret" not in found
    assert sent == []
    missing = taximeter("webhook", "deliveries", made["id"], status=1)
    assert "no such webhook endpoint" in missing.stderr
