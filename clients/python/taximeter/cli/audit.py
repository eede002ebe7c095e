# SPDX-License-Identifier: Apache-2.0
"""`taximeter audit`: who has changed what, and the proof that nobody has changed what it says."""

from datetime import datetime
from itertools import islice
from typing import Any

import click

from taximeter.audit import AuditEvent
from taximeter.cli.app import App, TaximeterGroup, pass_app
from taximeter.cli.output import CSV, JSON, TABLE, Column, output_option, time_text, write
from taximeter.cli.parameters import InstantType

_COLUMNS = (
    Column("sequence", "entry", numeric=True),
    Column("time", "time"),
    Column("actor", "key"),
    Column("peer", "from"),
    Column("method", "method"),
    Column("target", "target"),
    Column("outcome", "outcome"),
    Column("count", "calls", numeric=True),
)
_DIFFERENCE_COLUMNS = (
    Column("sequence", "entry", numeric=True),
    Column("place", "place"),
    Column("message", "what differs"),
)


@click.group(cls=TaximeterGroup)
def audit() -> None:
    """Show and verify the log of what admins have changed."""


@audit.command("list")
@click.option("--from", "start_time", type=InstantType(), help="Events from this instant on.")
@click.option("--to", "end_time", type=InstantType(), help="Events before this instant.")
@click.option("--actor", default="", help="Events of the key with this id.")
@click.option("--method", default="", help="Events of this method, such as PutTenant.")
@click.option("--tenant", default="", help="Events that concern this tenant and those below.")
@click.option(
    "--limit", type=click.IntRange(min=1), default=100, show_default=True, help="Show so many at most."
)
@output_option(TABLE, JSON, CSV)
@pass_app
def list_command(
    app: App,
    /,
    start_time: datetime | None,
    end_time: datetime | None,
    limit: int,
    output: str,
    **conditions: str,
) -> None:
    """Lists what admins have changed or tried to, newest first."""
    found = app.meter.list_audit_events(start_time=start_time, end_time=end_time, **conditions)
    events = [_event(event) for event in islice(found, limit)]
    rows = events
    if output == TABLE:
        rows = [{**event, "method": event["method"].rpartition("/")[2]} for event in events]
    write(output, {"events": events}, _COLUMNS, rows, empty="Nothing has been changed.")


@audit.command()
@output_option(TABLE, JSON)
@click.pass_context
def verify(ctx: click.Context, output: str) -> None:
    """Proves that no entry was changed or left out. Exit code 1 when one byte differs anywhere.

    Walks the hash chain and its copies beside the ledger, and compares keys, tenants and rate cards with what it says.
    """
    found = ctx.ensure_object(App).meter.verify_audit_log()
    differences = [
        {"sequence": d.sequence, "place": d.place, "message": d.message} for d in found.differences
    ]
    document = {
        "entry_count": found.entry_count,
        "open_call_count": found.open_call_count,
        "chain_hash": found.chain_hash,
        "differences": differences,
    }
    counted = f"{found.entry_count} entries are as they were written; the newest hash is {found.chain_hash}."
    open_calls = (
        f" What became of {found.open_call_count} calls is not known." if found.open_call_count else ""
    )
    write(output, document, _DIFFERENCE_COLUMNS, differences, empty=f"Good. {counted}{open_calls}")
    if differences:
        ctx.exit(1)


def _event(event: AuditEvent) -> dict[str, Any]:
    return {
        "sequence": event.sequence,
        "time": time_text(event.time),
        "actor": event.actor,
        "peer": event.peer,
        "method": event.method,
        "target": event.target,
        "tenants": list(event.tenants),
        "outcome": event.outcome,
        "count": event.count,
        "changes": [
            {
                "document": change.document,
                "before_sha256": change.before_sha256,
                "after_sha256": change.after_sha256,
            }
            for change in event.changes
        ],
        "request_sha256": event.request_sha256,
        "chain_hash": event.chain_hash,
    }
