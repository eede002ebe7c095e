# SPDX-License-Identifier: Apache-2.0
"""`taximeter quota events`: when limits came to a threshold."""

import itertools
from typing import Any

import click

from taximeter.cli.app import App, pass_app
from taximeter.cli.output import CSV, JSON, TABLE, Column, output_option, time_text, write, write_json
from taximeter.events import QuotaEvent
from taximeter.money import decimal_string
from taximeter.results import LimitKind

_PAGE_SIZE = 1_000
_COLUMNS = (
    Column("event_time", "time"),
    Column("tenant", "tenant"),
    Column("limit", "limit"),
    Column("threshold_percent", "%", numeric=True),
    Column("used", "used", numeric=True),
    Column("maximum", "of", numeric=True),
)


@click.command()
@click.argument("tenant_name", metavar="[TENANT]", default="")
@click.option("--follow", is_flag=True, help="Go on until Ctrl-C, a line for each event as it happens.")
@click.option(
    "--interval", "interval_s", type=click.IntRange(1, 3_600), default=1, help="Seconds between looks."
)
@click.option("--count", type=click.IntRange(1), help="With --follow: looks, then end.")
@output_option(TABLE, JSON, CSV)
@pass_app
def events(
    app: App, *, tenant_name: str, follow: bool, interval_s: int, count: int | None, output: str
) -> None:
    """Lists when limits of TENANT, or of all tenants, came to 50, 80, 95 and 100 percent, oldest first.

    With --follow as json it writes one document per event.
    """
    if not follow:
        found, _ = _read(app, tenant_name, "")
        rows = [event_fields(event) for event in found]
        write(output, {"events": rows}, _COLUMNS, rows, empty="No limit has come to a threshold.")
        return
    cursor = ""
    for look in itertools.count() if count is None else range(count):
        if look:
            app.wait(interval_s)
        found, cursor = _read(app, tenant_name, cursor)
        for event in found:
            fields = event_fields(event)
            if output == JSON:
                write_json(fields)
            else:
                click.echo("  ".join(str(fields[column.key]) for column in _COLUMNS))


def _read(app: App, tenant: str, cursor: str) -> tuple[list[QuotaEvent], str]:
    """Reads on to the present; returns the events and the cursor behind them."""
    found: list[QuotaEvent] = []
    while True:
        page = app.meter.list_quota_events(tenant, after_cursor=cursor, page_size=_PAGE_SIZE)
        found += page.events
        cursor = page.next_cursor
        if len(page.events) < _PAGE_SIZE:
            return found, cursor


def event_fields(event: QuotaEvent) -> dict[str, Any]:
    """Returns an event for output; costs as decimals."""

    def quantity(value: int) -> int | str:
        return decimal_string(value, 2) if event.kind is LimitKind.COST_PER_DAY else value

    return {
        "id": event.id,
        "event_time": time_text(event.event_time),
        "tenant": event.tenant,
        "limit": event.kind.value.lower(),
        "threshold_percent": event.threshold_percent,
        "used": quantity(event.used),
        "maximum": quantity(event.maximum),
        "window_start_time": time_text(event.window_start_time),
    }
