# SPDX-License-Identifier: Apache-2.0
"""Storage as a level, against the real server: readings become byte-hours in reports, and cost what the card says."""

from datetime import UTC, datetime, timedelta

import pytest

from harness.server_process import ServerProcess
from taximeter import ForbiddenError, InvalidArgumentError, Meter, Role, Usage, new_record_id

START = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=2)  # noqa: TID251


def test_a_level_becomes_byte_hours_in_reports(server: ServerProcess) -> None:
    """A gigabyte over midnight is in both days, by series, and adds up to the byte-hour."""
    environment = server.client_environment
    tenant = f"t-{new_record_id()}"
    with Meter(environment["TAXIMETER_URL"], key=environment["TAXIMETER_KEY"]) as meter:
        first = meter.record_level(
            tenant, "sessions", 10**9, occur_time=START + timedelta(hours=22, minutes=30)
        )
        second = meter.record_level(
            tenant, "sessions", 2 * 10**9, occur_time=START + timedelta(hours=26), attributes={"team": "core"}
        )
        again = meter.record_level(tenant, "sessions", 2 * 10**9, occur_time=START + timedelta(hours=26))
        meter.record_level(tenant, "sessions", 0, occur_time=START + timedelta(hours=27))
        meter.record(tenant, Usage(storage_byte_hours=1), occur_time=START + timedelta(hours=30))
        report = meter.report(
            START, START + timedelta(days=2), tenant=tenant, group_by=("day", "attributes.storage_series")
        )
        with pytest.raises(InvalidArgumentError) as caught:
            meter.record_level(tenant, "sessions", 1, occur_time=START)

    assert (first.byte_hours, second.byte_hours, second.duplicate) == (0, 3_500_000_000, False)
    assert (again.duplicate, again.byte_hours) == (True, 0)
    assert [(tuple(row.group.values()), dict(row.measures.quantities)) for row in report.rows] == [
        ((START.date().isoformat(), "sessions"), {"storage_byte_hours": 1_500_000_000}),
        (((START + timedelta(days=1)).date().isoformat(), None), {"storage_byte_hours": 1}),
        (((START + timedelta(days=1)).date().isoformat(), "sessions"), {"storage_byte_hours": 4_000_000_000}),
    ]
    assert "occur_time" in str(caught.value)


def test_readings_take_a_key_that_meters_the_tenant(server: ServerProcess) -> None:
    """A key of another tenant, or one that only reads, records no levels."""
    environment = server.client_environment
    with Meter(environment["TAXIMETER_URL"], key=environment["TAXIMETER_KEY"]) as meter:
        secrets = [
            meter.create_key(Role.READ).secret,
            meter.create_key(Role.METER, tenants=("somebody-else",)).secret,
        ]
    for secret in secrets:
        with (
            Meter(environment["TAXIMETER_URL"], key=secret) as meter,
            pytest.raises(ForbiddenError),
        ):
            meter.record_level("acme", "sessions", 1, occur_time=START)
