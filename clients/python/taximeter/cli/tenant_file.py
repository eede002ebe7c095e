# SPDX-License-Identifier: Apache-2.0
"""Settings of many tenants in one file."""

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from taximeter.cli.limit_options import count_of_field, limits_of_fields
from taximeter.settings import Tenant

_FIELDS = frozenset(
    {
        "name",
        "display_name",
        "plan",
        "requests_per_minute",
        "tokens_per_day",
        "cost_per_day",
        "shadow",
        "fail_open_requests",
    }
)


def read_tenants(path: Path) -> list[Tenant]:
    """Returns the tenants in a .csv or .jsonl file. Raises click.ClickException that names the line."""
    rows = {".csv": _csv_rows, ".jsonl": _json_rows}.get(path.suffix)
    if rows is None:
        message = f"{path} is neither .csv nor .jsonl"
        raise click.ClickException(message)
    try:
        return [_tenant(path, line, row) for line, row in rows(path)]
    except OSError as error:
        message = f"cannot read {path}: {error.strerror}"
        raise click.ClickException(message) from error
    except UnicodeDecodeError as error:
        message = f"{path} is not UTF-8"
        raise click.ClickException(message) from error


def _csv_rows(path: Path) -> Iterator[tuple[int, Mapping[Any, Any]]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        for row in reader:
            yield (reader.line_num, {name: text for name, text in row.items() if text})


def _json_rows(path: Path) -> Iterator[tuple[int, Mapping[Any, Any]]]:
    with path.open(encoding="utf-8") as file:
        for line, text in enumerate(file, 1):
            if not text.strip():
                continue
            try:
                # Numbers stay as they are written: an amount is no float.
                row = json.loads(text, parse_float=str, parse_int=str)
            except ValueError as error:
                raise _problem(path, line, "is no JSON") from error
            if not isinstance(row, dict):
                raise _problem(path, line, "is no object")
            yield (line, {name: value for name, value in row.items() if value is not None})


def _tenant(path: Path, line: int, row: Mapping[Any, Any]) -> Tenant:
    unknown = sorted(str(name) for name in set(row) - _FIELDS)
    if unknown:
        raise _problem(path, line, f"has an unknown field: {unknown[0]}")
    if not isinstance(row.get("name"), str):
        raise _problem(path, line, "has no name")
    try:
        limits, lease = limits_of_fields(row), count_of_field(row, "fail_open_requests") or 0
    except ValueError as error:
        raise _problem(path, line, str(error)) from error
    texts = {field: row.get(field, "") for field in ("display_name", "plan")}
    for field, text in texts.items():
        if not isinstance(text, str):
            raise _problem(path, line, f"has a {field} that is no text")
    return Tenant(
        row["name"], texts["display_name"], limits, None, plan=texts["plan"], fail_open_requests=lease
    )


def _problem(path: Path, line: int, problem: str) -> click.ClickException:
    return click.ClickException(f"{path}, line {line}: {problem}")
