# SPDX-License-Identifier: Apache-2.0
"""`taximeter plan`: named sets of limits, with or without a price."""

from pathlib import Path
from typing import Any

import click

from taximeter.billing import CreditTerms
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
from taximeter.money import decimal_string
from taximeter.settings import Limits, Plan

_MICRO = 10**6

_COLUMNS = (
    Column("name", "plan"),
    Column("display_name", "name"),
    *LIMIT_COLUMNS,
    Column("price", "price", numeric=True),
    Column("currency", "currency"),
    Column("cadence", "per"),
    Column("update_time", "changed"),
)


@click.group(cls=TaximeterGroup)
def plan() -> None:
    """Set and show plans: named limits of many tenants."""


@plan.command()
@click.argument("name", metavar="NAME|FILE.yaml")
@click.option("--display-name", default="", help="Name for people.")
@limit_options
@output_option(TABLE, JSON)
@pass_app
def put(app: App, /, name: str, display_name: str, output: str, **limits: Any) -> None:
    """Creates or replaces the plan NAME, or that of a file, for all its tenants at once.

    A file says all of a plan: its name, its limits, and what a subscription to it costs; docs/billing.md has one.
    Without a file, a limit that is not given is removed, and so is the price; 0 lets nothing pass. The plan default
    is that of tenants without settings; default-2, default-3 and default-4 are those of levels below them.
    """
    taken = taken_limits(limits)
    if not name.endswith((".yaml", ".yml")):
        _write(app.meter.put_plan(name, taken, display_name=display_name), output)
        return
    if display_name or taken != Limits():
        raise click.UsageError("A file says all of a plan: leave the options out.")
    _write(app.meter.put_plan_file(_text_of(Path(name))), output)


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


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        message = f"cannot read {path}: {reason}"
        raise click.ClickException(message) from error


def _plan(found: Plan) -> dict[str, Any]:
    terms = found.terms
    return {
        "name": found.name,
        "display_name": found.display_name,
        **limit_fields(found.limits),
        "price": decimal_string(terms.price.picos, 2) if terms else None,
        "currency": terms.currency_code if terms else None,
        "cadence": str(terms.cadence) if terms else None,
        "due_days": terms.due_days if terms else None,
        "credits": _credits(terms.credits) if terms and terms.credits else None,
        "update_time": time_text(found.update_time),
    }


def _credits(terms: CreditTerms) -> dict[str, Any]:
    top_up = terms.top_up
    return {
        "price": decimal_string(terms.picos_per_microcredit * _MICRO, 2),
        "included": decimal_string(terms.included_microcredits * _MICRO),
        "expire_days": terms.included_expire_days,
        "overage_price": decimal_string(terms.overage_price.picos, 2) if terms.overage_price else None,
        "overage_policy": terms.overage_policy.value.lower(),
        "overdraft": decimal_string(terms.overdraft_microcredits * _MICRO),
        "top_up": top_up
        and {
            "amount": decimal_string(top_up.amount_microcredits * _MICRO),
            "price": decimal_string(top_up.price.picos, 2),
            "below": decimal_string(top_up.threshold_microcredits * _MICRO),
            "cooldown_seconds": int(top_up.cooldown.total_seconds()),
            "daily_max": top_up.daily_count_max,
        },
    }


def _write(found: Plan, output: str) -> None:
    if output == JSON:
        write_json(_plan(found))
    else:
        write_fields(_plan(found))
