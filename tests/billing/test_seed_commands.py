# SPDX-License-Identifier: Apache-2.0
"""Every billing command that scripts for hosted billing services use, as they write it."""

import json
import secrets
from datetime import UTC, datetime

import pytest

from harness.command_line import CommandLine
from harness.server_process import ServerProcess
from taximeter import Meter, Role, Usage
from taximeter.billing import NewPhase
from taximeter.clock import system_clock_ms

PLAN = """
name: seed
price: 30
currency: USD
cadence: 30 days
credits: {price: 0.01, included: 800}
"""
GROUPS = ("workflow_uuid", "connector_uuid", "integration_slug", "model_uuid", "agent_uuid")
FILTERS = ("--workflow-uuid w-1", "--agent-uuid a-1", "--connector-uuid c-1", "--integration-slug slack")
METRICS = "billing usage get-metrics --from {today} --to {today}"
COMMANDS = (
    METRICS,
    *(f"{METRICS} --group-by {group}" for group in GROUPS),
    *(f"{METRICS} {one}" for one in FILTERS),
    f"{METRICS} --unit credits",
    "billing subscription get",
    "billing subscription get-invoices",
)
WITHOUT_PROVIDER = ("billing subscription get-credit-card", "billing subscription create-portal-session")
HELP = (
    "billing usage get-metrics --help",
    "billing subscription get --help",
    "billing subscription get-invoices --help",
)


@pytest.fixture(scope="module")
def run(server: ServerProcess) -> CommandLine:
    """The commands with an admin key of one tenant, which has used 500 of 800 credits."""
    tenant = f"s{secrets.token_hex(6)}"
    attributes = {
        "workflow_uuid": "w-1",
        "agent_uuid": "a-1",
        "connector_uuid": "c-1",
        "integration_slug": "slack",
    }
    with Meter(server.address, key=server.admin_key) as meter:
        meter.put_plan_file(PLAN)
        meter.put_subscription(tenant, [NewPhase("seed")])
        usage = Usage(uncached_input_tokens=1_000_000)
        meter.record(f"{tenant}/team", usage, model="gpt-5", attributes=attributes)
        key = meter.create_key(Role.ADMIN, tenants=[tenant]).secret
    return CommandLine({**server.client_environment, "TAXIMETER_KEY": key})


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_answer_json(run: CommandLine, command: str) -> None:
    """Each prints one JSON object of the shape that is expected of it."""
    today = datetime.fromtimestamp(system_clock_ms() // 1_000, UTC).date().isoformat()
    found = json.loads(run(*command.format(today=today).split()).stdout)

    if "get-metrics" in command:
        assert found["totalUsage"] == (500 if "credits" in command else found["totalUsage"]) > 0
    elif command.endswith("get-invoices"):
        assert found == {"invoices": []}
    else:
        remaining = found["subscriptionAvailableCreditsCount"] - found["subscriptionCreditsUsedCount"]
        assert (found["plan"], remaining) == ("seed", 300)


@pytest.mark.parametrize("command", WITHOUT_PROVIDER)
def test_what_needs_a_provider_says_so(run: CommandLine, command: str) -> None:
    """Without a payment provider the answer is an error object that says what to configure."""
    assert "stripe_key_file" in json.loads(run(*command.split(), status=1).stdout)["errorMessage"]


@pytest.mark.parametrize("command", HELP)
def test_every_command_helps(run: CommandLine, command: str) -> None:
    """Help is there."""
    assert "Usage" in run(*command.split()).stdout
