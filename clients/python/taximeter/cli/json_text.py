# SPDX-License-Identifier: Apache-2.0
"""JSON written by hand, for numbers that are exact decimals, which no float of a library could hold."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from taximeter.money import decimal_string

_PICOS_PER_MICRO = 10**6


class Exact(str):
    """A number as it is to stand in the document."""

    __slots__ = ()


def exact_micros(micros: int) -> Exact:
    """Returns millionths as a number."""
    return Exact(decimal_string(micros * _PICOS_PER_MICRO))


def json_object(parts: Mapping[str, str]) -> str:
    """Writes an object of values that are written already."""
    return "{" + ", ".join(f"{json.dumps(name)}: {text}" for name, text in parts.items()) + "}"


def json_array(texts: Iterable[str]) -> str:
    """Writes a list of values that are written already."""
    return "[" + ", ".join(texts) + "]"


def json_text(value: Any) -> str:
    """Writes a document that may hold Exact numbers."""
    if isinstance(value, Exact):
        return str(value)
    if isinstance(value, Mapping):
        return json_object({name: json_text(below) for name, below in value.items()})
    if isinstance(value, (list, tuple)):
        return json_array(json_text(below) for below in value)
    return json.dumps(value, ensure_ascii=False)
