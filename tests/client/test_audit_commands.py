# SPDX-License-Identifier: Apache-2.0
"""`taximeter audit` against the real server."""

import pytest

from harness.command_line import CommandLine
from harness.server_process import ServerProcess


@pytest.fixture
def taximeter(server: ServerProcess) -> CommandLine:
    """The command line with the admin key of the running server."""
    return CommandLine(server.client_environment)


def test_the_audit_log_is_shown_and_verified(taximeter: CommandLine, tenant: str) -> None:
    """Who has changed what is listed by conditions; the whole log is as it was written."""
    taximeter("tenant", "put", tenant, "--tokens-per-day", "5")
    (event,) = taximeter.json("audit", "list", "--tenant", tenant)["events"]
    verified = taximeter.json("audit", "verify")

    assert (event["outcome"], event["target"]) == ("OK", f"tenant.name={tenant}")
    assert event["actor"] == taximeter.json("whoami")["key_id"]
    assert verified["differences"] == []
    assert "PutTenant" in taximeter("audit", "list", "--method", "PutTenant", "--limit", "3").stdout
    assert taximeter("audit", "verify").stdout.startswith("Good. ")
