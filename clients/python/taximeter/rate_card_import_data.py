# SPDX-License-Identifier: Apache-2.0
"""Finds and reads the price data of other packages: that of the installed package, or a file of the same shape."""

import dataclasses
import hashlib
import importlib
import importlib.metadata
import json
from collections.abc import Mapping
from datetime import date, time
from decimal import Decimal
from pathlib import Path
from typing import Any

from taximeter import rate_card_import_genai_prices as genai_prices
from taximeter import rate_card_import_litellm as litellm
from taximeter.rate_card_import_card import ImportedCard, ImportedDataError, Origin

IMPORTS = {genai_prices.PACKAGE: genai_prices.import_genai_prices, litellm.PACKAGE: litellm.import_litellm}


def import_card(package: str, data_file: Path | None = None, providers: tuple[str, ...] = ()) -> ImportedCard:
    """Returns the rate card of a package's data.

    package: a key of IMPORTS. data_file: JSON instead of the installed package. providers: only these, by the names
    that the data has for them. Raises ImportedDataError when there is no data, or it is of another shape.
    """
    if data_file is None:
        data, origin = _installed(package)
    else:
        content = _read(data_file)
        data, origin = _parsed(content, data_file), Origin(package, _file_version(data_file, content))
    try:
        return IMPORTS[package](data, origin, providers)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, ArithmeticError) as error:
        message = f"not the data of {package}: {type(error).__name__}: {error}"
        raise ImportedDataError(message) from error


def _file_version(path: Path, content: bytes) -> str:
    return f"{path.name} (SHA-256 {hashlib.sha256(content).hexdigest()})"


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        message = f"cannot read {path}: {error.strerror}"
        raise ImportedDataError(message) from error


def _parsed(content: bytes, path: Path) -> Any:
    """Parses JSON; its numbers stay the decimals that they are in the text."""
    try:
        return json.loads(content, parse_float=Decimal)
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        message = f"{path} is not JSON: {error}"
        raise ImportedDataError(message) from error


def _installed(package: str) -> tuple[Any, Origin]:
    try:
        found = importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError as error:
        message = (
            f"{package} is not installed beside taximeter; install it, or give its data with --data FILE"
        )
        raise ImportedDataError(message) from error
    origin = Origin(package, found.version)
    if package == litellm.PACKAGE:
        path = Path(str(found.locate_file(litellm.DATA_FILE)))
        return _parsed(_read(path), path), origin
    try:
        module = importlib.import_module("genai_prices.data")
    except ImportError as error:
        message = f"cannot load the data of {package}: {error}"
        raise ImportedDataError(message) from error
    return plain(module.providers), origin


def plain(value: Any) -> Any:
    """Returns objects of genai-prices in the shape of its JSON; what they do not have is left out."""
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, date | time):
        return value.isoformat()
    if not hasattr(value, "__dict__"):
        return value
    names = (
        [each.name for each in dataclasses.fields(value)] if dataclasses.is_dataclass(value) else vars(value)
    )
    return {
        name.rstrip("_"): plain(found)
        for name in names
        if not name.startswith("_") and name != "extractors" and (found := getattr(value, name)) is not None
    }
