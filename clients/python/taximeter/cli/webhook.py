# SPDX-License-Identifier: Apache-2.0
"""`taximeter webhook`: where events are sent."""

from datetime import timedelta
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
from taximeter.cli.quota_events import event_fields
from taximeter.events import WebhookDelivery, WebhookEndpoint, WebhookSecret

_ENDPOINT_COLUMNS = (
    Column("id", "endpoint"),
    Column("url", "url"),
    Column("tenants", "tenants"),
    Column("threshold_percent_min", "from %", numeric=True),
    Column("state", "state"),
    Column("failing_since_time", "failing since"),
    Column("note", "note"),
)
_DELIVERY_COLUMNS = (
    Column("id", "event"),
    Column("tenant", "tenant"),
    Column("limit", "limit"),
    Column("threshold_percent", "%", numeric=True),
    Column("state", "state"),
    Column("attempt_count", "attempts", numeric=True),
    Column("last_attempt_time", "last"),
    Column("last_problem", "problem"),
    Column("next_attempt_time", "next"),
)


@click.group(cls=TaximeterGroup)
def webhook() -> None:
    """Send events to HTTP endpoints, signed."""


@webhook.command()
@click.argument("url")
@click.option(
    "--id", "endpoint_id", default="", help="Change this endpoint, and enable it. Default: a new one."
)
@click.option(
    "--tenant", "tenants", multiple=True, help="Only events of this tenant and those below; repeatable."
)
@click.option(
    "--from-percent",
    "threshold_percent_min",
    type=click.IntRange(0, 100),
    default=0,
    help="Only thresholds from this on. Default: all.",
)
@click.option("--note", default="", help="What the endpoint is for.")
@output_option(TABLE, JSON)
@pass_app
def put(app: App, /, url: str, output: str, **settings: Any) -> None:
    """Sends events to URL from now on: https, or http on the server's own machine.

    The secret that signs is shown now and never again.
    """
    _write_secret(app.meter.put_webhook(url, **settings), output)


@webhook.command("list")
@output_option(TABLE, JSON, CSV)
@pass_app
def list_command(app: App, output: str) -> None:
    """Lists endpoints without their secrets, oldest first."""
    endpoints = [_endpoint(found) for found in app.meter.list_webhooks()]
    rows = [{**found, "tenants": " ".join(found["tenants"]) or "all"} for found in endpoints]
    write(output, {"endpoints": endpoints}, _ENDPOINT_COLUMNS, rows, empty="There are no endpoints.")


@webhook.command("rotate-secret")
@click.argument("endpoint_id")
@click.option(
    "--overlap-hours",
    type=click.IntRange(0, 720),
    default=24,
    show_default=True,
    help="How long the present secret signs, too.",
)
@output_option(TABLE, JSON)
@pass_app
def rotate_secret(app: App, endpoint_id: str, overlap_hours: int, output: str) -> None:
    """Gives an endpoint another secret, which is shown now and never again."""
    overlap = timedelta(hours=overlap_hours)
    _write_secret(app.meter.rotate_webhook_secret(endpoint_id, overlap=overlap), output)


@webhook.command()
@click.argument("endpoint_id")
@output_option(TABLE, JSON)
@pass_app
def remove(app: App, endpoint_id: str, output: str) -> None:
    """Removes an endpoint and what is still to be sent to it."""
    app.meter.remove_webhook(endpoint_id)
    fields = {"id": endpoint_id, "state": "removed"}
    if output == JSON:
        write_json(fields)
    else:
        write_fields(fields)


@webhook.command()
@click.argument("endpoint_id")
@output_option(TABLE, JSON, CSV)
@pass_app
def deliveries(app: App, endpoint_id: str, output: str) -> None:
    """Lists what was sent to an endpoint and what is to be, newest first."""
    found = [_delivery(delivery) for delivery in app.meter.list_webhook_deliveries(endpoint_id)]
    write(output, {"deliveries": found}, _DELIVERY_COLUMNS, found, empty="Nothing was to be sent.")


def _write_secret(created: WebhookSecret, output: str) -> None:
    fields = _endpoint(created.endpoint)
    if created.secret:
        fields["secret"] = created.secret
    if output == JSON:
        write_json(fields)
        return
    write_fields({**fields, "tenants": fields["tenants"] or "all"})
    if created.secret:
        click.echo("Keep the secret now: it is not shown again.", err=True)


def _endpoint(found: WebhookEndpoint) -> dict[str, Any]:
    return {
        "id": found.id,
        "url": found.url,
        "tenants": list(found.tenants),
        "threshold_percent_min": found.threshold_percent_min,
        "note": found.note,
        "state": found.state.value.lower(),
        "create_time": time_text(found.create_time),
        "failing_since_time": time_text(found.failing_since_time),
        "old_secret_expire_time": time_text(found.old_secret_expire_time),
    }


def _delivery(found: WebhookDelivery) -> dict[str, Any]:
    return {
        **event_fields(found.event),
        "state": found.state.value.lower(),
        "attempt_count": found.attempt_count,
        "last_attempt_time": time_text(found.last_attempt_time),
        "last_status": found.last_status,
        "last_problem": found.last_problem,
        "next_attempt_time": time_text(found.next_attempt_time),
    }
