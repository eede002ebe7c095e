#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""One check, one record, one report, against the server on this machine.

python examples/quickstart.py
"""
# ruff: noqa: T201 - a script that prints

from datetime import UTC, datetime, timedelta

from taximeter import Meter, Usage
from taximeter.clock import system_clock_ms


def main() -> None:
    """Asks whether a call may go on, records what it used, and shows the bill of the day."""
    with Meter() as meter:
        decision = meter.check_quota("acme/research", model="gpt-5")
        if not decision.allowed:
            print(f"denied; try again in {decision.retry_after}")
            return

        # Here the model is called; these are the numbers of its answer.
        usage = Usage(uncached_input_tokens=1_200, cache_read_tokens=800, visible_output_tokens=300)
        recorded = meter.record("acme/research", usage, model="gpt-5", attributes={"workflow_uuid": "demo"})
        print(f"recorded {recorded.record_id}: {recorded.cost}")

        now = datetime.fromtimestamp(system_clock_ms() // 1000, UTC)
        day = now.replace(hour=0, minute=0, second=0)
        report = meter.report(day, day + timedelta(days=1), tenant="acme", group_by=["tenant", "model"])
        for row in report.rows:
            print(f"today {row.group['tenant']} {row.group['model']}: {row.measures.cost}")


if __name__ == "__main__":
    main()
