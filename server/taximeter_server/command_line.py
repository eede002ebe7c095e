# SPDX-License-Identifier: Apache-2.0
"""The command ``taximeter-server``: reads flags, runs serve(), turns signals and errors into an exit status."""

import argparse
import asyncio
import os
import resource
import signal
import sys
import threading
from collections.abc import Sequence

from taximeter_server import __version__
from taximeter_server.clock import wall_clock_ms
from taximeter_server.config import (
    ATTRIBUTE_SETS_DEFAULT,
    LISTEN_DEFAULT,
    LOG_FORMATS,
    SETTINGS,
    STRIPE_METER_EVENT_DEFAULT,
    STRIPE_URL_DEFAULT,
    Config,
    load_config,
)
from taximeter_server.errors import StartError
from taximeter_server.log_output import configure_logging
from taximeter_server.serve import serve

_EPILOG = """\
Every option can also be set in the environment (--store-binary is TAXIMETER_STORE_BINARY) or in the TOML file named by
--config (store_binary = "/usr/bin/redis-server"). An option wins over the environment, that over the file.

At its first start the server makes an admin key and writes it to admin.key in the data directory, where the taximeter
command of the same user finds it.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and exit: 0 after a clean stop, 1 when it cannot start, 2 for a wrong setting."""
    options = vars(_parser().parse_args(arguments))
    try:
        config = load_config({name: options[name] for name in SETTINGS}, config_file=options["config"])
        configure_logging(config.log_format)
        # Whatever is created from here on, by us or by the store, is ours alone.
        os.umask(0o077)
        # What a process that dies leaves behind would hold keys and passwords. The store inherits it.
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        asyncio.run(_serve_until_signalled(config))
    except StartError as error:
        sys.stderr.write(f"taximeter-server: error: {error}\n")
        sys.exit(error.exit_status)
    _exit()


def _exit() -> None:
    """Exit with 0, also where a report is still being computed that nobody waits for any more."""
    sys.stdout.flush()
    sys.stderr.flush()
    others = [thread for thread in threading.enumerate() if thread is not threading.main_thread()]
    if any(not thread.daemon for thread in others):
        # All that matters is closed; the interpreter would wait for such threads without limit.
        os._exit(0)
    sys.exit(0)


async def _serve_until_signalled(config: Config) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await serve(config, clock=wall_clock_ms, stop=stop)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="taximeter-server",
        description="Meters what AI workloads use, prices it by a rate card, and decides before each call.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    serve_parser = commands.add_parser(
        "serve",
        help="run the server until SIGTERM or SIGINT",
        description="Runs the server until SIGTERM or SIGINT.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_options(serve_parser)
    _add_access_options(serve_parser)
    _add_payment_options(serve_parser)
    return parser


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data",
        metavar="DIR",
        help="directory of the store, journal, ledger and admin key, one server at a time (default:"
        " ~/.local/share/taximeter)",
    )
    parser.add_argument(
        "--listen", metavar="HOST:PORT", help=f"public port; port 0 picks one (default: {LISTEN_DEFAULT})"
    )
    parser.add_argument(
        "--store",
        metavar="URL",
        help="use this Redis or Valkey, redis://[USER:PASSWORD@]HOST:PORT[/DB] or unix://[USER:PASSWORD@]/PATH"
        " (default: an embedded one in the data directory); a URL with a password belongs in the environment or"
        " config file",
    )
    parser.add_argument(
        "--store-binary",
        metavar="PATH",
        help="server to embed, Valkey 8 or Redis 7 or later (default: the one that was installed along)",
    )
    parser.add_argument(
        "--ledger",
        metavar="DIR",
        help="directory of the ledger's files, shared by the servers on one store (default: in the data directory)",
    )
    parser.add_argument(
        "--allow-volatile",
        action="store_const",
        const="true",
        help="serve on a store whose settings can lose what it acknowledged; answers then say VOLATILE",
    )
    parser.add_argument(
        "--attribute-sets",
        metavar="COUNT",
        help="most distinct sets of attributes per tenant and UTC day; more count under __other__ (default:"
        f" {ATTRIBUTE_SETS_DEFAULT:,})",
    )
    parser.add_argument(
        "--insecure-webhooks",
        action="store_const",
        const="true",
        help="let webhook endpoints on other machines be http, where anyone between can read the events",
    )
    parser.add_argument(
        "--invoice-grace-s",
        metavar="SECONDS",
        help="time after the end of a period until its invoice is finalised by itself (default: 3,600)",
    )
    parser.add_argument(
        "--log-format",
        metavar="FORMAT",
        help=f"{', '.join(LOG_FORMATS)}; auto is console on a terminal (default: auto)",
    )
    parser.add_argument("--config", metavar="FILE", help="TOML file with any of these settings")


def _add_payment_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--invoice-issuer",
        metavar="FILE",
        help="TOML file: who sends the invoices, as their documents say it",
    )
    parser.add_argument(
        "--stripe-key-file",
        metavar="FILE",
        help="file with the secret key of a Stripe account, which then is the payment provider",
    )
    parser.add_argument(
        "--stripe-webhook-secret-file",
        metavar="FILE",
        help="file with the secret that signs Stripe's events to /webhooks/payments",
    )
    parser.add_argument(
        "--stripe-url", metavar="URL", help=f"base of Stripe's API (default: {STRIPE_URL_DEFAULT})"
    )
    parser.add_argument(
        "--stripe-meter-event",
        metavar="NAME",
        help=f"event name of the meter that usage is reported to (default: {STRIPE_METER_EVENT_DEFAULT})",
    )


def _add_access_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--tls-cert", metavar="FILE", help="PEM file with the server's certificate and its chain"
    )
    parser.add_argument("--tls-key", metavar="FILE", help="PEM file with the key of --tls-cert")
    parser.add_argument(
        "--tls-client-ca",
        metavar="FILE",
        help="PEM file; clients must show a certificate that one of these issued",
    )
    parser.add_argument(
        "--tls-client-optional",
        action="store_const",
        const="true",
        help="a client may do without a certificate and come with a key",
    )
    parser.add_argument(
        "--identities",
        metavar="FILE",
        help="TOML file that gives client certificates and tokens (JWT) roles and tenants",
    )
    parser.add_argument(
        "--insecure",
        action="store_const",
        const="true",
        help="listen beyond this machine without TLS although keys then travel unencrypted",
    )
    parser.add_argument(
        "--connections-max",
        metavar="COUNT",
        help="most connections at once; where all are taken, those go first on which nobody known called (default:"
        " 1,000)",
    )
    parser.add_argument(
        "--connection-age-max-s",
        metavar="SECONDS",
        help="a connection that is this old is closed once its calls have ended (default: 1,800)",
    )
    parser.add_argument(
        "--calls-max",
        metavar="COUNT",
        help="most records, checks and holds in progress at once; one key has half of them at most (default: 1,024)",
    )
    parser.add_argument(
        "--no-reflection",
        action="store_const",
        const="true",
        help="do not tell clients by gRPC reflection what the API is",
    )
