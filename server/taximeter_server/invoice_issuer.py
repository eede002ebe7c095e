# SPDX-License-Identifier: Apache-2.0
"""Who sends the invoices, as a TOML file says it."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from taximeter_server.errors import ConfigError

TEXT_LENGTH_MAX = 2_000
LINES_MAX = 12
SETTING = "invoice_issuer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuer:
    """What documents say of their sender. Empty is left out."""

    name: str = ""
    address_lines: tuple[str, ...] = ()
    email: str = ""
    website: str = ""
    tax_id: str = ""
    tax_note: str = ""
    """Printed below the total. Without it nothing is said about taxes."""
    payment_note: str = ""
    """How to pay, printed on what is still to be paid."""
    footer: str = ""
    font_file: str = ""
    """TrueType font of the PDF, for names that the built-in one cannot write."""
    bold_font_file: str = ""


def read_issuer(path: Path | None) -> Issuer:
    """Return what the file says, nothing without one. Raises ConfigError."""
    if path is None:
        return Issuer()
    try:
        with path.open("rb") as file:
            document = tomllib.load(file)
    except OSError as error:
        raise ConfigError(SETTING, str(path), error.strerror or "cannot be read") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(SETTING, str(path), f"not valid TOML: {error}") from None
    return _issuer(document, path)


def _issuer(document: Mapping[str, Any], path: Path) -> Issuer:
    known = [field.name for field in fields(Issuer)]
    values: dict[str, Any] = {}
    for name, value in document.items():
        if name not in known:
            raise ConfigError(SETTING, str(path), f"{name}: no such key; known are {', '.join(known)}")
        if name == "address_lines":
            values[name] = _lines(value, path)
        elif isinstance(value, str) and len(value) <= TEXT_LENGTH_MAX:
            values[name] = value
        else:
            raise ConfigError(
                SETTING, str(path), f"{name}: must be a text of at most {TEXT_LENGTH_MAX} characters"
            )
    return Issuer(**values)


def _lines(value: object, path: Path) -> tuple[str, ...]:
    if (
        not isinstance(value, list)
        or len(value) > LINES_MAX
        or not all(isinstance(line, str) for line in value)
    ):
        raise ConfigError(SETTING, str(path), f"address_lines: must be a list of at most {LINES_MAX} texts")
    return tuple(value)
