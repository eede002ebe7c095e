# SPDX-License-Identifier: Apache-2.0
"""`taximeter plan`: named sets of limits."""

from typing import Any

import click

from taximeter.cli.app import App, TaximeterGroup, pass_app
from taximeter.cli.limit_options import LIMIT_COLUMNS, limit_fields, limit_options, taken_limits
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
from taximeter.settings import Plan

_COLUMNS = (
    Column("name", "plan"),
    Column("display_name", "name"),
    *LIMIT_COLUMNS,
    Column("update_time", "changed"),
)


@click.group(cls=TaximeterGroup)
def plan() -> None:
    """Set and show plans: named limits of many tenants."""


@plan.command()
@click.argument("name")
@click.option("--display-name", default="", help="Name for people.")
@limit_options
@output_option(TABLE, JSON)
@pass_app
def put(app: App, /, name: str, display_name: str, output: str, **limits: Any) -> None:
    """Creates or replaces the plan NAME, for all its tenants at once.

    A limit that is not given is removed; 0 lets nothing pass. The plan default is that of tenants without
    settings; default-2, default-3 and default-4 are those of levels below them.
    """
    _write(app.meter.put_plan(name, taken_limits(limits), display_name=display_name), output)


@plan.command()
@click.argument("name")
@output_option(TABLE, JSON)
@pass_app
def get(app: App, name: str, output: str) -> None:
    """Shows the plan NAME."""
    _write(app.meter.get_plan(name), output)


@plan.command("list")
@output_option(TABLE, JSON, CSV)
@pass_app
def list_command(app: App, output: str) -> None:
    """Lists plans, by name."""
    plans = [_plan(found) for found in app.meter.list_plans()]
    write(output, {"plans": plans}, _COLUMNS, plans, empty="There are no plans.")


@plan.command()
@click.argument("name")
@output_option(TABLE, JSON)
@pass_app
def remove(app: App, name: str, output: str) -> None:
    """Removes the plan NAME, which no tenant may have."""
    app.meter.remove_plan(name)
    if output == JSON:
        write_json({"removed": name})
    else:
        click.echo(f"removed {name}")


def _plan(found: Plan) -> dict[str, Any]:
    return {
        "name": found.name,
        "display_name": found.display_name,
        **limit_fields(found.limits),
        "update_time": time_text(found.update_time),
    }


def _write(found: Plan, output: str) -> None:
    if output == JSON:
        write_json(_plan(found))
    else:
        write_fields(_plan(found))
