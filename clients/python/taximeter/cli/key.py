# SPDX-License-Identifier: Apache-2.0
"""`taximeter key`: API keys."""

from datetime import datetime, timedelta
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
from taximeter.cli.parameters import InstantType
from taximeter.settings import Key, Role

_COLUMNS = (
    Column("key_id", "key"),
    Column("role", "role"),
    Column("tenants", "tenants"),
    Column("note", "note"),
    Column("create_time", "made"),
    Column("expire_time", "expires"),
    Column("revoke_time", "revoked"),
    Column("last_use_time", "last used"),
)
_GRACE_HOURS_MAX = 30 * 24
_ROLES = [role.value.lower() for role in Role if role is not Role.UNRECOGNIZED]


@click.group(cls=TaximeterGroup)
def key() -> None:
    """Make, list, rotate and revoke API keys."""


@key.command()
@click.option("--role", type=click.Choice(_ROLES), required=True, help="What the key may do.")
@click.option(
    "--tenant", "tenants", multiple=True, help="Bind it to this tenant and those below; repeatable."
)
@click.option("--note", default="", help="What the key is for.")
@click.option("--expires", "expire_time", type=InstantType(), help="When it stops working. Default: never.")
@output_option(TABLE, JSON)
@pass_app
def create(
    app: App, role: str, tenants: tuple[str, ...], note: str, expire_time: datetime | None, output: str
) -> None:
    """Makes a key. Its secret is shown now and never again."""
    created = app.meter.create_key(Role[role.upper()], tenants=tenants, note=note, expire_time=expire_time)
    fields = {**_key(created.key), "secret": created.secret}
    if output == JSON:
        write_json(fields)
    else:
        write_fields({**fields, "tenants": fields["tenants"] or "all"})
        click.echo("Keep the secret now: it is not shown again.", err=True)


@key.command()
@click.argument("key_id")
@click.option(
    "--grace-hours",
    type=click.IntRange(0, _GRACE_HOURS_MAX),
    default=24,
    show_default=True,
    help="How long the old key goes on working.",
)
@output_option(TABLE, JSON)
@pass_app
def rotate(app: App, key_id: str, grace_hours: int, output: str) -> None:
    """Makes the successor of a key: same role, tenants and note. Both work until the old one ends."""
    rotated = app.meter.rotate_key(key_id, grace_period=timedelta(hours=grace_hours))
    fields = {**_key(rotated.key), "secret": rotated.secret}
    old = _key(rotated.predecessor)
    if output == JSON:
        write_json({**fields, "predecessor": old})
    else:
        write_fields(
            {**fields, "tenants": fields["tenants"] or "all", "predecessor_ends": old["expire_time"]}
        )
        click.echo("Keep the secret now: it is not shown again.", err=True)


@key.command("list")
@output_option(TABLE, JSON, CSV)
@pass_app
def list_command(app: App, output: str) -> None:
    """Lists keys without their secrets, newest first."""
    keys = [_key(found) for found in app.meter.list_keys()]
    rows = [{**found, "tenants": " ".join(found["tenants"]) or "all"} for found in keys]
    write(output, {"keys": keys}, _COLUMNS, rows, empty="There are no keys.")


@key.command()
@click.argument("key_id")
@output_option(TABLE, JSON)
@pass_app
def revoke(app: App, key_id: str, output: str) -> None:
    """Revokes a key; every server refuses it within 5 seconds."""
    fields = _key(app.meter.revoke_key(key_id))
    if output == JSON:
        write_json(fields)
    else:
        write_fields({**fields, "tenants": fields["tenants"] or "all"})


def _key(found: Key) -> dict[str, Any]:
    return {
        "key_id": found.key_id,
        "role": found.role.value.lower(),
        "tenants": list(found.tenants),
        "note": found.note,
        "create_time": time_text(found.create_time),
        "expire_time": time_text(found.expire_time),
        "revoke_time": time_text(found.revoke_time),
        "predecessor_id": found.predecessor_id,
        "successor_id": found.successor_id,
        "last_use_time": time_text(found.last_use_time),
    }
