# SPDX-License-Identifier: Apache-2.0
"""Writes the files of one rollup or month, and says what the manifest has to know of them."""

from taximeter_server.ledger_directory import LedgerDirectory
from taximeter_server.ledger_manifest import Manifest, MonthFile, RollupFile
from taximeter_server.ledger_merge import MONTH_ROW_GROUP_ROWS, FileMerger
from taximeter_server.ledger_month import MonthPlan, month_days_statement, month_sums_statement
from taximeter_server.ledger_rollup import (
    FORMAT,
    GRAIN_HOUR,
    GRAIN_TENANT,
    RollupPlan,
    attributes_statement,
    days_statement,
    hours_statement,
)

_ATTRIBUTES_ROWS_MIN = 65_536
"""Rows of a file of attributes that is not worth asking whether it is worth it."""
_WORTH_ROWS = 2
"""Ledger rows that a row of the file of attributes stands for at least on the average."""


def write_rollup(
    plan: RollupPlan, manifest: Manifest, directory: LedgerDirectory, merger: FileMerger
) -> RollupFile:
    """Write the rollup of a plan, which the next version of the manifest can have."""
    files = [directory.absolute(file.path) for file in plan.files]
    stem = f"rollups/{plan.folder}/{manifest.generation + 1:012d}"
    path, days_path, attributes_path = (f"{stem}{part}.parquet" for part in ("", ".days", ".attributes"))
    with merger.writer() as writer:
        with directory.writing(path) as hours:
            rollups = [directory.absolute(rollup.path) for rollup in plan.rollups]
            row_count = writer.roll_up(hours_statement(files, rollups), hours)
        with directory.writing(days_path) as days:
            days_row_count = writer.roll_up(days_statement(str(hours)), days)
        tenant_day_row_count, together_row_count = (
            writer.count_rows(days, f"grain = {grain}") for grain in (GRAIN_TENANT, GRAIN_HOUR)
        )
        attributes_size_bytes = attributes_row_count = 0
        if all(rollup.attributes_path for rollup in plan.rollups):
            with directory.writing(attributes_path) as attributes:
                rollups = [directory.absolute(rollup.attributes_path) for rollup in plan.rollups]
                attributes_row_count = writer.roll_up(attributes_statement(files, rollups), attributes)
            attributes_size_bytes = attributes.stat().st_size
    if attributes_row_count > _ATTRIBUTES_ROWS_MIN and attributes_row_count * _WORTH_ROWS > _row_count(
        plan, manifest
    ):
        directory.remove_file(attributes_path)
        attributes_size_bytes = attributes_row_count = 0
    return RollupFile(
        path=path,
        row_count=row_count,
        size_bytes=hours.stat().st_size,
        days_path=days_path,
        day_row_count=days_row_count - tenant_day_row_count - together_row_count,
        tenant_day_row_count=tenant_day_row_count,
        together_row_count=together_row_count,
        days_size_bytes=days.stat().st_size,
        attributes_path=attributes_path if attributes_size_bytes else "",
        attributes_size_bytes=attributes_size_bytes,
        attributes_row_count=attributes_row_count,
        stream_ms_max=max(part.stream_ms_max for part in plan.parts),
        generation=max(part.generation for part in plan.parts),
        format=FORMAT,
    )


def write_month(
    plan: MonthPlan, manifest: Manifest, directory: LedgerDirectory, merger: FileMerger
) -> MonthFile:
    """Write the month of a plan, which the next version of the manifest can have."""
    stem = f"rollups/{plan.folder}/{manifest.generation + 1:012d}"
    path, month_path = f"{stem}.days.parquet", f"{stem}.parquet"
    with merger.writer() as writer:
        with directory.writing(path) as days:
            parts = [directory.absolute(rollup.days_path) for rollup in plan.rollups]
            writer.roll_up(month_days_statement(parts), days, row_group_rows=MONTH_ROW_GROUP_ROWS)
        with directory.writing(month_path) as month:
            writer.roll_up(month_sums_statement(str(days), plan.start_us), month)
    return MonthFile(
        path=path,
        size_bytes=days.stat().st_size,
        month_path=month_path,
        month_size_bytes=month.stat().st_size,
        date_count=len({rollup.folder for rollup in plan.rollups}),
        format=FORMAT,
    )


def _row_count(plan: RollupPlan, manifest: Manifest) -> int:
    """Return how many rows of the ledger a plan sums."""
    done = {rollup.path for rollup in plan.rollups}
    of_rollups = sum(file.row_count for file in manifest.files if file.rollup in done)
    return of_rollups + sum(file.row_count for file in plan.files)
