# SPDX-License-Identifier: Apache-2.0
"""`taximeter record`: records that should have said something else, and readings of levels."""

from datetime import datetime
from typing import Any

import click

from taximeter.cli.app import App, pass_app
from taximeter.cli.estimate import USAGE_FIELDS, quantities_of, usage_options
from taximeter.cli.output import JSON, TABLE, output_option, time_text, write_fields, write_json
from taximeter.cli.parameters import COUNT, INT64_MAX, InstantType, PairType, SecondsType
from taximeter.corrections import CorrectedRecord
from taximeter.money import decimal_string
from taximeter.usage import Usage


@click.group()
def record() -> None:
    """Corrects what was recorded, and records levels such as bytes stored."""


def _target_options(command: Any) -> Any:
    options = (
        click.argument("record_id"),
        click.option("--tenant", required=True, help="Tenant of the record."),
        click.option("--reason", required=True, help="Why; kept with the author in the ledger."),
        click.option("--at", "occur_time", type=InstantType(),
                     help="When the record happened, where its id came again."),
        output_option(TABLE, JSON),
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


@record.command()
@_target_options
@pass_app
def void(
    app: App, record_id: str, tenant: str, reason: str, occur_time: datetime | None, output: str
) -> None:
    """Takes a record back: a reversing entry is appended, the record itself never changes.

    Reports show both. What was counted against a limit of the day stays counted.
    """
    _write(app.meter.void_record(tenant, record_id, reason=reason, occur_time=occur_time), output)


@record.command()
@_target_options
@usage_options
@click.option("--sandbox-seconds", "sandbox_ms", type=SecondsType(), default=0, help="Sandbox time.")
@click.option("--other", type=PairType(), multiple=True, help="Further class, such as input_audio=1200.")
@click.option(
    "--calls", type=click.IntRange(1, INT64_MAX), default=1, show_default=True, help="Calls of the record."
)
@pass_app
def amend(
    app: App,
    /,
    *,
    record_id: str,
    tenant: str,
    reason: str,
    occur_time: datetime | None,
    output: str,
    calls: int,
    other: tuple[tuple[str, str], ...],
    **values: int,
) -> None:
    """Says what a record should have said: all its quantities, every token in exactly one class.

    It is charged by the record's own card, at the record's own time. Reports show the record and the correction.
    """
    fields = {field: values[field] for field in (*USAGE_FIELDS, "sandbox_ms")}
    usage = Usage(**fields, calls=calls, other=quantities_of(other, "--other"))
    corrected = app.meter.amend_record(tenant, record_id, usage, reason=reason, occur_time=occur_time)
    _write(corrected, output)


@record.command()
@click.argument("tenant")
@click.argument("series")
@click.argument("level_bytes", type=COUNT)
@click.option("--at", "occur_time", type=InstantType(), help="When it was read. Default: now.")
@click.option("--attribute", type=PairType(), multiple=True, help="Attribute, such as project=x. Repeatable.")
@output_option(TABLE, JSON)
@pass_app
def level(
    app: App,
    tenant: str,
    series: str,
    level_bytes: int,
    occur_time: datetime | None,
    attribute: tuple[tuple[str, str], ...],
    output: str,
) -> None:
    """Records a reading of a level: TENANT has LEVEL_BYTES of SERIES stored, until the next reading.

    Answers what the level before has come to, which is recorded as byte-hours, hour by hour.
    """
    found = app.meter.record_level(
        tenant, series, level_bytes, occur_time=occur_time or app.now(), attributes=dict(attribute)
    )
    fields = {
        "duplicate": found.duplicate,
        "byte_hours": found.byte_hours,
        "cost": decimal_string(found.cost.picos, 2),
        "currency": found.cost.currency_code,
        "unrecorded_seconds": int(found.unrecorded.total_seconds()),
    }
    if output == JSON:
        write_json(fields)
    else:
        write_fields(fields)


def _write(corrected: CorrectedRecord, output: str) -> None:
    fields = {
        "correction_id": corrected.correction_id or None,
        "duplicate": corrected.duplicate,
        "occur_time": time_text(corrected.occur_time),
        "previous_cost": decimal_string(corrected.previous_cost.picos, 2),
        "cost": decimal_string(corrected.cost.picos, 2),
        "currency": corrected.cost.currency_code,
    }
    if output == JSON:
        lines = [
            {
                "usage_class": line.usage_class,
                "quantity": line.quantity,
                "unit_price": line.unit_price or None,
                "per": line.per or None,
                "cost": decimal_string(line.cost_picos, 2),
                "unpriced": line.unpriced,
            }
            for line in corrected.lines
        ]
        write_json({**fields, "lines": lines})
    else:
        write_fields(fields)
