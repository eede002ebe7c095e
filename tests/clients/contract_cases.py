# SPDX-License-Identifier: Apache-2.0
"""The cases of the contract suite, tests/cases/contract/*.yaml; README.md there says what a case may hold."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from harness.tidy_rules import ROOT
from taximeter import new_record_id

FOLDER = ROOT / "tests" / "cases" / "contract"
Step = Mapping[str, Any]
_VARIABLE = re.compile(r"\$([a-z][a-z0-9_]*)")


@dataclass(frozen=True, slots=True)
class Case:
    """One case: `area` is the file's name; what it is given, and its steps."""

    area: str
    name: str
    given: Mapping[str, Any]
    steps: tuple[Step, ...]

    @property
    def title(self) -> str:
        """Area and name, for the table."""
        return f"{self.area}: {self.name}"

    @property
    def needs(self) -> str:
        """Part of a client that not every language has: "gateway", or nothing."""
        return "gateway" if self.area == "gateway" else ""


def load_cases(folder: Path = FOLDER) -> Iterator[Case]:
    """Yields every case of every file."""
    for path in sorted(folder.glob("*.yaml")):
        for case in yaml.safe_load(path.read_text()):
            unknown = case.keys() - {"name", "given", "steps"}
            if unknown:
                raise ValueError(f"{path.name}: {case.get('name')}: unknown {sorted(unknown)}")
            yield Case(path.stem, case["name"], case.get("given", {}), tuple(case["steps"]))


class Variables:
    """What stands for $name in the data of one run: given values, answers that were kept, new ids."""

    def __init__(self, **known: str) -> None:
        """Takes the values that are known before the first step."""
        self._values = dict(known)

    def keep(self, name: str, value: str) -> None:
        """Keeps a value of an answer for later steps."""
        self._values[name] = value

    def fill(self, data: Any) -> Any:
        """Returns the data with every $name replaced, in keys and values. $id, $id2 ... are made when first seen."""
        if isinstance(data, str):
            return _VARIABLE.sub(lambda found: self._value(found[1]), data)
        if isinstance(data, Mapping):
            return {self.fill(name): self.fill(value) for name, value in data.items()}
        if isinstance(data, list):
            return [self.fill(item) for item in data]
        return data

    def _value(self, name: str) -> str:
        if name not in self._values and re.fullmatch(r"id\d*", name):
            self._values[name] = new_record_id()
        return self._values[name]


def differences(wanted: Any, found: Any, path: str = "answer") -> Iterator[str]:
    """Yields where `found` is not what is wanted. Of a mapping only the names in `wanted` are looked at.

    Numbers equal their text, because JSON carries 64 bits as text; 0, "", false, [] and {} equal what is absent. A text
    that begins with ~ is a regular expression; {between: [a, b]} is a range, for durations in seconds.
    """
    if isinstance(wanted, Mapping) and set(wanted) == {"between"}:
        low, high = wanted["between"]
        if not low <= float(str(found or "nan").removesuffix("s")) <= high:
            yield f"{path}: {found!r} is not between {low} and {high}"
    elif isinstance(wanted, Mapping) and wanted:
        if not isinstance(found, Mapping):
            yield f"{path}: wanted {wanted!r}, found {found!r}"
            return
        for name, value in wanted.items():
            yield from differences(value, found.get(name), f"{path}.{name}")
    elif isinstance(wanted, list) and wanted:
        if not isinstance(found, list) or len(found) != len(wanted):
            yield f"{path}: wanted {len(wanted)} items, found {found!r}"
            return
        for number, (one, other) in enumerate(zip(wanted, found, strict=True)):
            yield from differences(one, other, f"{path}[{number}]")
    elif isinstance(wanted, str) and wanted.startswith("~"):
        if not re.fullmatch(wanted[1:], str(found or "")):
            yield f"{path}: {found!r} does not match {wanted[1:]!r}"
    elif _plain(wanted) != _plain(found):
        yield f"{path}: wanted {wanted!r}, found {found!r}"


def _plain(value: Any) -> str:
    return "" if value in (None, False, 0, "", "0", [], {}) else str(value)
