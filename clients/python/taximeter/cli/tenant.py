# SPDX-License-Identifier: Apache-2.0
"""`taximeter tenant`: limits."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import click
from rich.progress import Progress

from taximeter.cli.app import App, TaximeterGroup, pass_app
from taximeter.cli.limit_options import LIMIT_COLUMNS, limit_fields, limit_options, taken_limits
from taximeter.cli.output import (
    CSV,
    JSON,
    TABLE,
    Column,
    output_option,
    progress_console,
    time_text,
    write,
    write_fields,
    write_json,
)
from taximeter.cli.parameters import COUNT, DurationType, InstantType
from taximeter.cli.tenant_file import read_tenants
from taximeter.settings import TemporaryLimits, Tenant

_TENANT_COLUMNS = (
    Column("name", "tenant"),
    Column("display_name", "name"),
    Column("plan", "plan"),
    *LIMIT_COLUMNS,
    Column("update_time", "changed"),
)


@click.group(cls=TaximeterGroup)
def tenant() -> None:
    """Set and show limits."""


@tenant.command()
@click.argument("name")
@click.option("--display-name", default="", help="Name for people.")
@click.option("--plan", default="", help="Name of a plan, whose limits hold where none is given here.")
@click.option(
    "--fail-open-requests",
    type=COUNT,
    default=0,
    help="Requests that each server may let pass while the store cannot decide. Default: 0.",
)
@limit_options
@output_option(TABLE, JSON)
@pass_app
def put(app: App, /, name: str, output: str, **settings: Any) -> None:
    """Creates or replaces the settings of NAME, a path such as acme or acme/research.

    They are in force at once. A limit that is not given is removed, and so are temporary limits; 0 lets nothing
    pass. Limits of acme hold for everything below it together.
    """
    limits = taken_limits(settings)
    _write_tenant(app.meter.put_tenant(name, limits, **settings), output)


@tenant.command()
@click.argument("name")
@limit_options
@click.option("--for", "duration", type=DurationType(), help="How long, such as 90m, 2h or 3d.")
@click.option("--until", "until_time", type=InstantType(), help="When they end, instead of --for.")
@click.option("--end", is_flag=True, help="End temporary limits now.")
@output_option(TABLE, JSON)
@pass_app
def override(
    app: App,
    /,
    name: str,
    duration: timedelta | None,
    until_time: datetime | None,
    end: bool,  # noqa: FBT001 (a flag of the command line)
    output: str,
    **limits: Any,
) -> None:
    """Sets limits of NAME that stand in for its others and end by themselves.

    Those not given stay what they are. With --shadow, also without a number, limits are only watched until then.
    """
    if [duration is not None, until_time is not None, end].count(True) != 1:
        message = "Give one of --for, --until and --end."
        raise click.UsageError(message)
    if until_time is not None and until_time <= app.now():
        message = "is over: limits until then would never be in force"
        raise click.BadParameter(message, param_hint="--until")
    until_time = until_time or (app.now() + duration if duration else None)
    temporary = None if until_time is None else TemporaryLimits(taken_limits(limits), until_time)
    found = app.meter.get_tenant(name)
    put = app.meter.put_tenant(
        name,
        found.limits,
        display_name=found.display_name,
        plan=found.plan,
        temporary_limits=temporary,
        fail_open_requests=found.fail_open_requests,
    )
    _write_tenant(put, output)


@tenant.command()
@click.argument("name")
@output_option(TABLE, JSON)
@pass_app
def get(app: App, name: str, output: str) -> None:
    """Shows the settings of NAME."""
    _write_tenant(app.meter.get_tenant(name), output)


@tenant.command()
@click.argument("name")
@click.option("--revoke-keys", is_flag=True, help="Revoke the keys that are bound to NAME or below, first.")
@output_option(TABLE, JSON)
@pass_app
def remove(app: App, name: str, revoke_keys: bool, output: str) -> None:  # noqa: FBT001 (a flag)
    """Removes the settings of NAME and of everything below it.

    What was used stays counted and recorded, what is held stays held, and own prices stay. From then on only a default
    plan limits NAME: so keys that are bound to it have to be revoked, before or by --revoke-keys.
    """
    removal = app.meter.remove_tenant(name, revoke_keys=revoke_keys)
    fields = {
        "removed_tenants": list(removal.removed_tenants),
        "revoked_key_ids": list(removal.revoked_key_ids),
    }
    if output == JSON:
        write_json(fields)
    else:
        write_fields(fields)


@tenant.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@output_option(TABLE, JSON)
@pass_app
def import_command(app: App, file: Path, output: str) -> None:
    """Creates or replaces the settings of all tenants in FILE.

    FILE is .csv with a header, or .jsonl. Fields are name and, where given, display_name, plan,
    requests_per_minute, tokens_per_day, cost_per_day, shadow. A tenant that is refused is named and holds up no
    other.
    """
    tenants = read_tenants(file)
    with Progress(console=progress_console()) as progress:
        outcomes = app.meter.put_tenants(tenants)
        refused = [
            {"name": outcome.name, "error": outcome.error.message}
            for outcome in progress.track(outcomes, total=len(tenants), description=file.name)
            if outcome.error is not None
        ]
    document = {"put": len(tenants) - len(refused), "refused": refused}
    if output == JSON:
        write_json(document)
    else:
        click.echo(f"{document['put']:,} tenants put, {len(refused):,} refused")
        for one in refused:
            click.echo(f"{one['name']}: {one['error']}", err=True)
    if refused:
        raise click.exceptions.Exit(1)


@tenant.command("list")
@click.option("--parent", default="", help="Only this tenant and those below it.")
@output_option(TABLE, JSON, CSV)
@pass_app
def list_command(app: App, parent: str, output: str) -> None:
    """Lists tenants that have settings, by name."""
    tenants = [_tenant(found) for found in app.meter.list_tenants(parent)]
    write(output, {"tenants": tenants}, _TENANT_COLUMNS, tenants, empty="No tenant has settings.")


def _tenant(found: Tenant) -> dict[str, Any]:
    return {
        "name": found.name,
        "display_name": found.display_name,
        "plan": found.plan,
        **limit_fields(found.limits),
        "fail_open_requests": found.fail_open_requests,
        "temporary_limits": found.temporary_limits and _temporary(found.temporary_limits),
        "update_time": time_text(found.update_time),
    }


def _temporary(found: TemporaryLimits) -> Mapping[str, Any]:
    return {**limit_fields(found.limits), "until_time": time_text(found.until_time)}


def _write_tenant(found: Tenant, output: str) -> None:
    fields = _tenant(found)
    if output == JSON:
        write_json(fields)
    else:
        write_fields(fields)
