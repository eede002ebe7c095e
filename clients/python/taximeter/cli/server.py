# SPDX-License-Identifier: Apache-2.0
"""`taximeter server`: what an operator looks at."""

import dataclasses
from typing import Any

import click

from taximeter.cli.app import App, TaximeterGroup, pass_app
from taximeter.cli.output import (
    CSV,
    JSON,
    TABLE,
    Column,
    output_option,
    time_text,
    write,
    write_fields,
    write_json,
)
from taximeter.money import decimal_string
from taximeter.settings import RecordConflict

_CONFLICT_COLUMNS = (
    Column("tenant", "tenant"),
    Column("record_id", "record"),
    Column("model", "model"),
    Column("cost", "cost", numeric=True),
    Column("receive_time", "accepted"),
    Column("find_time", "found"),
)


@click.group(cls=TaximeterGroup)
def server() -> None:
    """Show the state of the server."""


@server.command()
@output_option(TABLE, JSON)
@pass_app
def status(app: App, output: str) -> None:
    """Shows the state of store, journal and ledger."""
    found = app.meter.server_status()
    fields = {**dataclasses.asdict(found), "start_time": time_text(found.start_time)}
    if output == JSON:
        write_json(fields)
    else:
        write_fields(fields)


@server.command()
@output_option(TABLE, JSON, CSV)
@pass_app
def conflicts(app: App, output: str) -> None:
    """Lists records accepted while the store was away that reuse the id of another record.

    They are in no total and need a person to decide.
    """
    found = [_conflict(conflict) for conflict in app.meter.list_record_conflicts()]
    write(output, {"conflicts": found}, _CONFLICT_COLUMNS, found, empty="No conflicts.")


def _conflict(conflict: RecordConflict) -> dict[str, Any]:
    return {
        "tenant": conflict.tenant,
        "record_id": conflict.record_id,
        "model": conflict.model,
        "cost": decimal_string(sum(line.cost_picos for line in conflict.lines), 2),
        "receive_time": time_text(conflict.receive_time),
        "find_time": time_text(conflict.find_time),
        "quantities": {line.usage_class: line.quantity for line in conflict.lines},
    }
