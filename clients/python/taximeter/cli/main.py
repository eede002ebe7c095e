# SPDX-License-Identifier: Apache-2.0
"""The command `taximeter`."""

from pathlib import Path

import click
from click.shell_completion import get_completion_class

from taximeter._channel import client_version
from taximeter.cli.app import App, TaximeterGroup, pass_app
from taximeter.cli.audit import audit
from taximeter.cli.billing import billing
from taximeter.cli.billing_export import export
from taximeter.cli.estimate import estimate
from taximeter.cli.invoice import invoice
from taximeter.cli.key import key
from taximeter.cli.output import JSON, TABLE, output_option, write_fields, write_json
from taximeter.cli.payments import payments
from taximeter.cli.plan import plan
from taximeter.cli.quota import quota
from taximeter.cli.quota_events import events
from taximeter.cli.rate_card import rate_card
from taximeter.cli.rate_card_compare import compare
from taximeter.cli.rate_card_diff import diff
from taximeter.cli.rate_card_explain import explain
from taximeter.cli.rate_card_import import import_command
from taximeter.cli.record import record
from taximeter.cli.server import server
from taximeter.cli.spool import spool
from taximeter.cli.subscription import subscription
from taximeter.cli.tenant import tenant
from taximeter.cli.timeline import tenant_prices, verify, withdraw
from taximeter.cli.usage import usage
from taximeter.cli.webhook import webhook

_EPILOG = """\b
Environment:
  TAXIMETER_URL               address of the server
  TAXIMETER_KEY               API key
  TAXIMETER_PROFILE           profile of ~/.config/taximeter/profiles.toml
  TAXIMETER_DATA              data directory of the server on this machine: its address and admin key
  TAXIMETER_CA_FILE           certificates to trust
  TAXIMETER_CLIENT_CERT_FILE  certificate to show to the server
  TAXIMETER_CLIENT_KEY_FILE   private key of that certificate

Completion: eval "$(taximeter completion bash)"
"""


@click.group(cls=TaximeterGroup, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(client_version(), prog_name="taximeter")
@click.option("--url", help="Address of the server: http://host:port, https://host:port or host:port.")
@click.option("--key-file", type=click.Path(path_type=Path), help="File with the API key.")
@click.option("--profile", help="Profile of ~/.config/taximeter/profiles.toml.")
@click.pass_context
def cli(ctx: click.Context, url: str | None, key_file: Path | None, profile: str | None) -> None:
    """Meter, price and limit what AI workloads use."""
    app = ctx.ensure_object(App)
    app.url, app.key_file, app.profile = url, key_file, profile
    ctx.call_on_close(app.close)


@cli.command()
@output_option(TABLE, JSON)
@pass_app
def whoami(app: App, output: str) -> None:
    """Shows which key this is and what it may do."""
    caller = app.meter.whoami()
    fields = {
        "key_id": caller.key_id,
        "role": caller.role.value.lower(),
        "tenants": list(caller.tenants),
        "server_url": str(app.meter.connection.address),
        "server_version": caller.server_version,
    }
    if output == JSON:
        write_json(fields)
    else:
        write_fields({**fields, "tenants": fields["tenants"] or "all"})


@cli.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Prints the completion script of a shell."""
    completion_class = get_completion_class(shell)
    if completion_class is None:
        message = f"no completion for {shell}"
        raise click.ClickException(message)
    click.echo(completion_class(cli, {}, "taximeter", "_TAXIMETER_COMPLETE").source())


for command in (billing, record, rate_card, plan, tenant, quota, key, audit, server, webhook, spool):
    cli.add_command(command)
billing.add_command(estimate)
for part in (usage, subscription, invoice, payments, export):
    billing.add_command(part)
quota.add_command(events)
for tool in (withdraw, verify, tenant_prices, diff, compare, explain, import_command):
    rate_card.add_command(tool)


def main() -> None:
    """Runs the command line."""
    cli(prog_name="taximeter")
