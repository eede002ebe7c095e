# SPDX-License-Identifier: Apache-2.0
"""`taximeter tenant` and `taximeter quota`: limits, and what is used of them."""

import itertools
from typing import Any

import click
from rich.live import Live

from taximeter.cli.app import App, TaximeterGroup, pass_app
from taximeter.cli.limit_bars import limit_bars, quantity_text
from taximeter.cli.output import (
    CSV,
    JSON,
    TABLE,
    Column,
    output_console,
    output_option,
    time_text,
    write,
    write_fields,
    write_json,
)
from taximeter.cli.parameters import COUNT, AmountType
from taximeter.money import decimal_string
from taximeter.results import LimitKind, LimitStatus
from taximeter.settings import Limits, Tenant

_TENANT_COLUMNS = (
    Column("name", "tenant"),
    Column("display_name", "name"),
    Column("requests_per_minute", "requests/min", numeric=True),
    Column("tokens_per_day", "tokens/day", numeric=True),
    Column("cost_per_day", "cost/day", numeric=True),
    Column("update_time", "changed"),
)
_LIMIT_COLUMNS = (
    Column("tenant", "tenant"),
    Column("limit", "limit"),
    Column("maximum", "maximum", numeric=True),
    Column("used", "used", numeric=True),
    Column("held", "held", numeric=True),
    Column("remaining", "remaining", numeric=True),
    Column("exceeded", "exceeded"),
    Column("reset_time", "room again"),
)


@click.group(cls=TaximeterGroup)
def tenant() -> None:
    """Set and show limits."""


@tenant.command()
@click.argument("name")
@click.option("--display-name", default="", help="Name for people.")
@click.option("--requests-per-minute", type=COUNT, help="Requests in any 60 seconds.")
@click.option("--tokens-per-day", type=COUNT, help="Input, output and reasoning tokens per UTC day.")
@click.option(
    "--cost-per-day",
    "cost_per_day_picos",
    type=AmountType(),
    help="Cost per UTC day in the currency of the rate card, such as 12.50.",
)
@output_option(TABLE, JSON)
@pass_app
def put(app: App, /, name: str, display_name: str, output: str, **limits: int | None) -> None:
    """Creates or replaces the settings of NAME, a path such as acme or acme/research.

    They are in force at once. A limit that is not given is removed; 0 lets nothing pass. Limits of acme hold
    for everything below it together.
    """
    _write_tenant(app.meter.put_tenant(name, Limits(**limits), display_name=display_name), output)


@tenant.command()
@click.argument("name")
@output_option(TABLE, JSON)
@pass_app
def get(app: App, name: str, output: str) -> None:
    """Shows the settings of NAME."""
    _write_tenant(app.meter.get_tenant(name), output)


@tenant.command("list")
@click.option("--parent", default="", help="Only this tenant and those below it.")
@output_option(TABLE, JSON, CSV)
@pass_app
def list_command(app: App, parent: str, output: str) -> None:
    """Lists tenants that have settings, by name."""
    tenants = [_tenant(found) for found in app.meter.list_tenants(parent)]
    write(output, {"tenants": tenants}, _TENANT_COLUMNS, tenants, empty="No tenant has settings.")


@click.group(cls=TaximeterGroup)
def quota() -> None:
    """Show what is used of the limits."""


@quota.command()
@click.argument("tenant_name", metavar="TENANT")
@output_option(TABLE, JSON, CSV)
@pass_app
def status(app: App, tenant_name: str, output: str) -> None:
    """Shows every limit of TENANT and its parents with what is used now, consuming nothing."""
    limits = [_limit(found) for found in app.meter.quota_status(tenant_name)]
    document = {"tenant": tenant_name, "limits": limits}
    write(output, document, _LIMIT_COLUMNS, limits, empty=f"{tenant_name} has no limits.")


@quota.command()
@click.argument("tenant_name", metavar="TENANT")
@click.option(
    "--interval", "interval_s", type=click.IntRange(1, 3_600), default=1, help="Seconds between looks."
)
@click.option("--count", type=click.IntRange(1), help="Looks, then end. Without it until Ctrl-C.")
@output_option(TABLE, JSON)
@pass_app
def watch(app: App, tenant_name: str, interval_s: int, count: int | None, output: str) -> None:
    """Shows every limit of TENANT and its parents as a bar that moves, consuming nothing.

    As json it writes one document per look.
    """
    looks = itertools.count() if count is None else range(count)
    with Live(console=output_console(), auto_refresh=False) as live:
        for look in looks:
            if look:
                app.wait(interval_s)
            limits = app.meter.quota_status(tenant_name)
            if output == JSON:
                write_json({"tenant": tenant_name, "limits": [_limit(found) for found in limits]})
            else:
                live.update(limit_bars(tenant_name, limits), refresh=True)


def _tenant(found: Tenant) -> dict[str, Any]:
    cost_picos = found.limits.cost_per_day_picos
    return {
        "name": found.name,
        "display_name": found.display_name,
        "requests_per_minute": found.limits.requests_per_minute,
        "tokens_per_day": found.limits.tokens_per_day,
        "cost_per_day": None if cost_picos is None else decimal_string(cost_picos, 2),
        "update_time": time_text(found.update_time),
    }


def _write_tenant(found: Tenant, output: str) -> None:
    fields = _tenant(found)
    if output == JSON:
        write_json(fields)
    else:
        write_fields(fields)


def _limit(found: LimitStatus) -> dict[str, Any]:
    def quantity(value: int) -> int | str:
        return quantity_text(found, value) if found.kind is LimitKind.COST_PER_DAY else value

    return {
        "tenant": found.tenant,
        "limit": found.kind.value.lower(),
        "maximum": quantity(found.maximum),
        "used": quantity(found.used),
        "held": quantity(found.held),
        "remaining": quantity(found.remaining),
        "exceeded": found.exceeded,
        "reset_time": time_text(found.reset_time),
    }
