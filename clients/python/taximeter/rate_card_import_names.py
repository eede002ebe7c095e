# SPDX-License-Identifier: Apache-2.0
"""Which names lead to which model in genai-prices, and how much of it the names and patterns of a rate card can say."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from taximeter.rate_card_import_card import ImportedDataError, ImportedRow

Model = Mapping[str, Any]


def matches(clause: Mapping[str, Any], name: str) -> bool:
    """Tells whether a rule of the package is for a name. Raises ImportedDataError for one that it does not have."""
    ((kind, value),) = clause.items()
    lower = name.lower()
    if kind in ("or", "and"):
        found = [matches(part, name) for part in value]
        return any(found) if kind == "or" else all(found)
    if kind == "regex":
        return re.search(value, lower) is not None
    text = value.lower()
    if kind == "equals":
        return bool(lower == text)
    if kind == "starts_with":
        return lower.startswith(text)
    if kind == "ends_with":
        return lower.endswith(text)
    if kind == "contains":
        return text in lower
    message = f"unknown match rule {kind}"
    raise ImportedDataError(message)


class NameOwners:
    """Knows whose a name is: the first provider's and the first model's whose rules are for it."""

    def __init__(self, providers: Sequence[Mapping[str, Any]]) -> None:
        """Takes all providers of the data."""
        self._providers = [provider for provider in providers if provider.get("model_match")]
        self._found: dict[str, str] = {}

    def provider_id(self, name: str) -> str:
        """Returns the provider of a name that comes without one, "" for none."""
        if name not in self._found:
            owners = (
                provider["id"] for provider in self._providers if matches(provider["model_match"], name)
            )
            self._found[name] = next(owners, "")
        return self._found[name]


def add_aliases(row: ImportedRow, model: Model, provider: Mapping[str, Any], owners: NameOwners) -> None:
    """Adds the names of a model, with its provider in front, and without where it is that of the bare name."""
    for pattern, sample in _patterns(row, model["match"]):
        owner = next(
            other for other in provider["models"] if other is model or matches(other["match"], sample)
        )
        if owner is not model:
            row.drop(f"name {pattern}", "an earlier model of the provider has the name")
            continue
        # The package's rules are for names in lower case.
        names = [pattern, pattern.lower()]
        row.aliases += [f"{provider['id']}/{name}" for name in names]
        if owners.provider_id(sample) == provider["id"]:
            row.aliases += names


def _patterns(row: ImportedRow, clause: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yields each pattern of a rule with a name that it is for."""
    ((kind, value),) = clause.items()
    if kind == "or":
        for part in value:
            yield from _patterns(row, part)
    elif kind in ("regex", "and") or "*" in value:
        row.drop(f"match rule {kind} {value}", "a match rule that no pattern of names can say")
    else:
        before = "*" if kind in ("ends_with", "contains") else ""
        after = "*" if kind in ("starts_with", "contains") else ""
        yield f"{before}{value}{after}", value
