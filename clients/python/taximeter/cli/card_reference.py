# SPDX-License-Identifier: Apache-2.0
"""How a rate card is named on the command line."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from taximeter.cli.app import App
from taximeter.cli.output import TABLE, Column, time_text, write
from taximeter.cli.parameters import InstantType
from taximeter.rate_cards import CURRENT_CARD, CardIdentity, CardReference
from taximeter.settings import RateCardProblem

SHORT_ID = 12
CURRENT, RECORDED = "current", "recorded"
PROBLEM_COLUMNS = (
    Column("line", "line", numeric=True),
    Column("column", "column", numeric=True),
    Column("field", "field"),
    Column("reason", "reason"),
    Column("message", "message"),
)

_VERSION = re.compile(r"v?([1-9][0-9]{0,6})", re.ASCII)
_CARD_ID = re.compile(r"[0-9a-f]{8,64}", re.ASCII)
_YAML_SUFFIXES = {".yaml", ".yml"}


@dataclass(frozen=True, slots=True)
class NamedCard:
    """A card as it was named. reference is None for "recorded": what was charged."""

    text: str
    reference: CardReference | None


class CardType(click.ParamType[NamedCard]):
    """A card: an id, a version, @TIME, current, a YAML file, or recorded where that is accepted."""

    name = "card"

    def __init__(self, *, accept_recorded: bool = False) -> None:
        """Takes whether "recorded" is accepted."""
        self._accept_recorded = accept_recorded

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> NamedCard:
        """Reads the name, and the file where one is named."""
        if isinstance(value, NamedCard):
            return value
        if value == RECORDED and self._accept_recorded:
            return NamedCard(value, None)
        return NamedCard(value, self._reference(value, param, ctx))

    def _reference(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> CardReference:
        if value == CURRENT:
            return CURRENT_CARD
        if value.startswith("@"):
            return CardReference(at_time=InstantType().convert(value[1:], param, ctx))
        if Path(value).suffix in _YAML_SUFFIXES:
            return CardReference(yaml=self._read(value, param, ctx))
        if version := _VERSION.fullmatch(value):
            return CardReference(version=int(version[1]))
        if not _CARD_ID.fullmatch(value):
            recorded = f", {RECORDED}" if self._accept_recorded else ""
            wanted = (
                f"a card id or its first 8 or more digits, a version, @TIME, current{recorded}, a .yaml file"
            )
            self.fail(f"{value!r} is none of: {wanted}", param, ctx)
        return CardReference(rate_card_id=value)

    def _read(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            text = Path(value).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            self.fail(f"cannot read {value}: {error}", param, ctx)
        if not text:
            self.fail(f"{value} is empty", param, ctx)
        return text


def published_id(app: App, named: str) -> str:
    """Returns the id, or the start of one, of a card that is named by it or by its version."""
    version = _VERSION.fullmatch(named)
    if version is None:
        return named
    for entry in app.meter.list_rate_cards():
        if entry.version == int(version[1]) and entry.rate_card_id:
            return entry.rate_card_id
    message = f"{named}: no card has this version; taximeter rate-card list shows all."
    raise click.UsageError(message)


def require_good_files(ctx: click.Context, *cards: NamedCard) -> None:
    """Ends with all problems of the files that are no cards, as `validate` shows them."""
    has_problems = False
    for card in cards:
        if card.reference is None or not card.reference.yaml:
            continue
        check = ctx.ensure_object(App).meter.validate_rate_card(card.reference.yaml)
        if check.problems:
            has_problems = True
            rows = [problem_row(problem) for problem in check.problems]
            write(TABLE, None, PROBLEM_COLUMNS, rows, title=card.text)
    if has_problems:
        ctx.exit(1)


def problem_row(problem: RateCardProblem) -> dict[str, Any]:
    """Returns a problem or a warning as a row of PROBLEM_COLUMNS."""
    return {
        "line": problem.line,
        "column": problem.column,
        "field": problem.field,
        "reason": problem.reason,
        "message": problem.message,
    }


def identity_document(card: CardIdentity) -> dict[str, Any]:
    """Returns the card that was meant, for JSON."""
    return {
        "rate_card_id": card.rate_card_id,
        "version": card.version or None,
        "effective_time": time_text(card.effective_time),
    }


def identity_text(named: str, card: CardIdentity | None) -> str:
    """Returns the card that was meant, for people."""
    if card is None:
        return "what was charged"
    if not card.version:
        return f"{named} ({card.rate_card_id[:SHORT_ID]}, not published)"
    return f"version {card.version} ({card.rate_card_id[:SHORT_ID]})"
