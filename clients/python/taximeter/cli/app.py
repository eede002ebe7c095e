# SPDX-License-Identifier: Apache-2.0
"""What every command shares: the connection, the clock, and how errors end a command."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import click

from taximeter.client import Meter
from taximeter.clock import system_clock_ms
from taximeter.config import resolve_connection
from taximeter.errors import (
    ConfigurationError,
    ForbiddenError,
    ServerError,
    TaximeterError,
    UnauthenticatedError,
)
from taximeter.spool import SpoolSettings


@dataclass
class App:
    """The options before the command, and the client that they make."""

    url: str | None = None
    profile: str | None = None
    key_file: Path | None = None
    clock: Callable[[], int] = system_clock_ms
    wait: Callable[[int], None] = time.sleep
    """Waits for so many seconds."""
    _meter: Meter | None = field(default=None, init=False)

    @property
    def meter(self) -> Meter:
        """The client, made when first asked for, so that --help and bad usage need no server."""
        if self._meter is None:
            self._meter = self.meter_with(None)
        return self._meter

    def meter_with(self, spool: SpoolSettings | None) -> Meter:
        """Makes a client with a spool of its own, which the caller closes."""
        key = None if self.key_file is None else _read_key(self.key_file)
        return Meter(connection=resolve_connection(self.url, key, self.profile), spool=spool)

    @property
    def utc(self) -> ZoneInfo:
        """The zone of days without --tz."""
        return ZoneInfo("UTC")

    def now(self) -> datetime:
        """The instant by the clock, to the millisecond."""
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=self.clock())

    def close(self) -> None:
        """Closes the client, if there is one."""
        if self._meter is not None:
            self._meter.close()


pass_app = click.make_pass_decorator(App)


class TaximeterGroup(click.Group):
    """A group of commands that ends with exit code 1 when a call fails."""

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command and turns what went wrong into a message."""
        try:
            return super().invoke(ctx)
        except TaximeterError as error:
            report_error(error)
            ctx.exit(1)


def report_error(error: TaximeterError) -> None:
    """Writes an error to stderr; a forbidden key is also a JSON object on stdout, for scripts."""
    if isinstance(error, ForbiddenError):
        click.echo(json.dumps({"errorMessage": "forbidden"}))
    click.echo(f"Error: {error}", err=True)
    if isinstance(error, UnauthenticatedError):
        click.echo("Give a key: TAXIMETER_KEY, --key-file, or a profile; see taximeter --help.", err=True)
    if isinstance(error, ServerError) and "error_id" in error.metadata:
        click.echo(f"The server's log has more under error_id {error.metadata['error_id']}.", err=True)


def _read_key(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        message = f"cannot read {path}: {error}"
        raise ConfigurationError(message) from error
