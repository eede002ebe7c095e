# SPDX-License-Identifier: Apache-2.0
"""`taximeter spool`: what a client's spool holds, and getting rid of it."""

import json
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from taximeter._spool_directory import SpoolFiles, record_of
from taximeter._spool_reading import read_status
from taximeter.cli.app import App, TaximeterGroup, pass_app
from taximeter.cli.output import (
    JSON,
    TABLE,
    Column,
    output_option,
    time_text,
    write,
    write_fields,
    write_json,
)
from taximeter.cli.parameters import DurationType
from taximeter.spool import Spool, SpoolSettings, SpoolStatus
from taximeter.v1 import usage_pb2

_LETTER_COLUMNS = (
    Column("record_id", "record"),
    Column("tenant", "tenant"),
    Column("time", "spooled"),
    Column("reason", "reason"),
    Column("message", "why"),
)
_POLL_S = 1
_directory = click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))


@click.group(cls=TaximeterGroup)
def spool() -> None:
    """Look after the spool of a client that keeps records on disk, Meter(spool=DIRECTORY).

    One process at a time may send or change what is in it: stop the client first. Looking is always possible.
    """


@spool.command()
@_directory
@output_option(TABLE, JSON)
@pass_app
def status(app: App, directory: Path, output: str) -> None:
    """Shows how much waits in DIRECTORY, since when, and what was refused or damaged, also while a client uses it."""
    _write(_status(read_status(directory, app.clock)), output)


@spool.command()
@_directory
@click.option("--for", "duration", type=DurationType(), default="1h", help="How long to try. Default: 1h.")
@output_option(TABLE, JSON)
@pass_app
def drain(app: App, directory: Path, duration: timedelta, output: str) -> None:
    """Sends what waits in DIRECTORY to the server, and ends when the server has it.

    Exit code 1 when something still waits; what the server refused for good is then, as always, a dead letter.
    """
    settings = SpoolSettings(directory=directory, start_delay_max_s=0)
    deadline = app.now() + duration
    with app.meter_with(settings) as meter:
        while (found := meter.spool_status()).backlog_bytes and app.now() < deadline:
            app.wait(_POLL_S)
    _write(_status(found), output)
    if found.backlog_bytes:
        raise click.exceptions.Exit(1)


@spool.group("dead-letters", cls=TaximeterGroup)
def dead_letters() -> None:
    """Records that the server refused for good: they stay until somebody decides."""


@dead_letters.command("list")
@_directory
@output_option(TABLE, JSON)
def list_command(directory: Path, output: str) -> None:
    """Lists the dead letters of DIRECTORY, oldest first, each with why it was refused."""
    letters = [_letter(payload) for payload in SpoolFiles(directory).dead_letters()]
    write(output, {"dead_letters": letters}, _LETTER_COLUMNS, letters, empty="No record was refused.")


@dead_letters.command()
@_directory
@output_option(TABLE, JSON)
def retry(directory: Path, output: str) -> None:
    """Puts the dead letters of DIRECTORY back into the spool, once what they were refused for is mended.

    They keep their ids, so that none counts twice. The next client that opens the spool sends them, or `spool drain`.
    """
    with closing(_open(directory)) as opened:
        count = opened.take_dead_letters(opened.append)
    _write({"put_back": count}, output)


@dead_letters.command()
@_directory
@click.option("--yes", is_flag=True, help="Do not ask.")
@output_option(TABLE, JSON)
def remove(directory: Path, yes: bool, output: str) -> None:  # noqa: FBT001 (a flag of the command line)
    """Removes the dead letters of DIRECTORY for good. What they say was used is then charged to nobody."""
    if not yes:
        click.confirm("Remove the dead letters? Nothing else has these records.", abort=True, err=True)
    with closing(_open(directory)) as opened:
        count = opened.take_dead_letters(lambda _record: None)
    _write({"removed": count}, output)


def _open(directory: Path) -> Spool:
    return Spool(SpoolSettings(directory=directory))


def _status(found: SpoolStatus) -> dict[str, Any]:
    return {
        "backlog_bytes": found.backlog_bytes,
        "backlog_age_s": found.backlog_age_ms // 1_000,
        "dead_letters": found.dead_letter_count,
        "damaged": found.damaged_count,
    }


def _letter(payload: bytes) -> dict[str, Any]:
    letter = json.loads(payload)
    record = usage_pb2.UsageRecord.FromString(record_of(payload))
    spooled = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=letter["time_ms"])
    return {
        "record_id": record.record_id,
        "tenant": record.tenant,
        "model": record.model,
        "time": time_text(spooled),
        "code": letter["code"],
        "reason": letter["reason"],
        "message": letter["message"],
    }


def _write(fields: dict[str, Any], output: str) -> None:
    if output == JSON:
        write_json(fields)
    else:
        write_fields(fields)
