# SPDX-License-Identifier: Apache-2.0
"""`taximeter quota`: what is used of the limits."""

import itertools
from typing import Any

import click
from rich.live import Live

from taximeter.cli.app import App, TaximeterGroup, pass_app
from taximeter.cli.limit_bars import limit_bars, shown_quantity
from taximeter.cli.limit_options import limit_options, taken_limits
from taximeter.cli.output import (
    CSV,
    JSON,
    TABLE,
    Column,
    output_console,
    output_option,
    progress_console,
    time_text,
    write,
    write_json,
)
from taximeter.cli.parameters import period_options
from taximeter.period import Period
from taximeter.results import LimitStatus
from taximeter.settings import Limits
from taximeter.simulation import SimulatedTenant

_LIMIT_COLUMNS = (
    Column("tenant", "tenant"),
    Column("limit", "limit"),
    Column("maximum", "maximum", numeric=True),
    Column("used", "used", numeric=True),
    Column("held", "held", numeric=True),
    Column("remaining", "remaining", numeric=True),
    Column("exceeded", "exceeded"),
    Column("mode", "mode"),
    Column("would_deny", "would deny"),
    Column("temporary_until_time", "until"),
    Column("reset_time", "room again"),
)


_SIMULATED_COLUMNS = (
    Column("tenant", "tenant"),
    Column("calls", "calls", numeric=True),
    Column("denied_calls", "denied", numeric=True),
    Column("first_denied_time", "first"),
    Column("denied_by", "by"),
)


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
    console = output_console()
    with Live(console=console, auto_refresh=False) as live:
        for look in looks:
            if look:
                app.wait(interval_s)
            limits = app.meter.quota_status(tenant_name)
            if output == JSON:
                write_json({"tenant": tenant_name, "limits": [_limit(found) for found in limits]})
            elif console.is_terminal:
                live.update(limit_bars(tenant_name, limits), refresh=True)
            else:
                # A file or a pipe gets each look.
                console.print(limit_bars(tenant_name, limits))


@quota.command()
@click.argument("tenant_name", metavar="[TENANT]", default="")
@period_options()
@limit_options
@click.option("--plan", default="", help="Simulate the limits of this plan instead.")
@click.option(
    "--depth",
    type=click.IntRange(1, 4),
    help="Limit every level of this depth, such as 1 for first segments. Default: TENANT alone, or 1 without it.",
)
@click.option(
    "--with-estimates", is_flag=True, help="As if each call had been checked with what it then used."
)
@output_option(TABLE, JSON, CSV)
@pass_app
def simulate(
    app: App,
    /,
    tenant_name: str,
    period: Period,
    plan: str,
    depth: int | None,
    with_estimates: bool,  # noqa: FBT001 (a flag of the command line)
    output: str,
    **options: Any,
) -> None:
    """Replays recorded usage against other limits and says whom they would have stopped.

    Usage is that of TENANT and everything below it, or of all. Nothing changes. Limits in force now are not looked
    at.
    """
    limits = taken_limits(options)
    if bool(plan) == (limits != Limits()):
        raise click.UsageError("Give limits, or --plan: without any nobody would be stopped.")
    if plan:
        limits = app.meter.get_plan(plan).limits
    if depth is None and tenant_name:
        levels, by_depth = {tenant_name: limits}, []
    else:
        levels, by_depth = {}, [Limits()] * ((depth or 1) - 1) + [limits]
    with progress_console().status("Replaying usage") as status:
        found = app.meter.simulate_quota(
            period.start_time,
            period.end_time,
            tenant=tenant_name,
            levels=levels,
            limits_by_depth=by_depth,
            with_estimates=with_estimates,
            progress=lambda count: status.update(f"Replaying usage: {count:,} records"),
        )
    rows = [_simulated(row) for row in found.rows]
    document = {"tenants": rows, "total": _simulated(found.total), "as_of_time": time_text(found.as_of_time)}
    write(output, document, _SIMULATED_COLUMNS, rows, empty="There is no usage.")


def _simulated(found: SimulatedTenant) -> dict[str, Any]:
    return {
        "tenant": found.tenant,
        "calls": found.calls,
        "denied_calls": found.denied_calls,
        "first_denied_time": time_text(found.first_denied_time),
        "denials": [
            {
                "tenant": denial.tenant,
                "limit": denial.kind.value.lower(),
                "denied_calls": denial.denied_calls,
                "first_denied_time": time_text(denial.first_denied_time),
            }
            for denial in found.denials
        ],
        "denied_by": ", ".join(f"{denial.kind.value.lower()} of {denial.tenant}" for denial in found.denials),
    }


def _limit(found: LimitStatus) -> dict[str, Any]:
    def quantity(value: int) -> int | str:
        return shown_quantity(found.kind, value)

    return {
        "tenant": found.tenant,
        "limit": found.kind.value.lower(),
        "maximum": quantity(found.maximum),
        "used": quantity(found.used),
        "held": quantity(found.held),
        "remaining": quantity(found.remaining),
        "exceeded": found.exceeded,
        "would_deny": found.would_deny,
        "mode": "shadow" if found.shadow else "enforce",
        "temporary_until_time": time_text(found.temporary_until_time),
        "reset_time": time_text(found.reset_time),
    }
