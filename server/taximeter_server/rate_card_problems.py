# SPDX-License-Identifier: Apache-2.0
"""What is wrong in a rate card: every problem with its place, all of them at once."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from taximeter_server.errors import FieldViolation, InvalidFieldsError

PROBLEMS_MAX = 100
"""Reading stops here: a file with this many problems is not a rate card."""

SHOWN_LENGTH_MAX = 32
"""Characters of the file that a message repeats at most."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in the file, line and column from 1; line 0 stands for the whole file."""

    line: int
    column: int


WHOLE_FILE = Mark(0, 1)


@dataclass(frozen=True, slots=True)
class RateCardProblem:
    """One thing wrong. field is a path such as ``rate_card.gpt-5.input``; reason is a stable name."""

    line: int
    column: int
    field: str
    reason: str
    message: str


class RateCardInvalidError(InvalidFieldsError):
    """A rate card with problems, in the order of the file."""

    reason = "CARD_INVALID"

    def __init__(self, problems: tuple[RateCardProblem, ...]) -> None:
        super().__init__(
            [
                FieldViolation(
                    problem.field or "yaml",
                    f"line {problem.line}, column {problem.column}: {problem.message}",
                    problem.reason,
                )
                for problem in problems
            ]
        )
        self.problems = problems


class TooManyProblemsError(Exception):
    """Reading cannot go on: the limit of problems is reached, or what follows would not make sense."""


class ProblemList:
    """Collects problems."""

    def __init__(self) -> None:
        self._problems: list[RateCardProblem] = []

    def add(self, mark: Mark, field: str, reason: str, message: str) -> None:
        """Note a problem. Raises TooManyProblemsError when it is the last one worth noting."""
        self._problems.append(RateCardProblem(mark.line, mark.column, field, reason, message))
        if len(self._problems) >= PROBLEMS_MAX:
            raise TooManyProblemsError

    def stop(self, mark: Mark, field: str, reason: str, message: str) -> TooManyProblemsError:
        """Note a problem that makes the rest of the file unreadable; returns the error to raise."""
        self.add(mark, field, reason, message)
        return TooManyProblemsError()

    def raise_if_any(self) -> None:
        """Raise RateCardInvalidError when a problem was noted."""
        if self._problems:
            raise RateCardInvalidError(
                tuple(sorted(self._problems, key=lambda found: (found.line, found.column)))
            )

    def __bool__(self) -> bool:
        return bool(self._problems)


def path_part(key: str) -> str:
    """Return a key of the file as part of a path, as far as it can be repeated safely."""
    if len(key) <= SHOWN_LENGTH_MAX and key.isascii() and key.isprintable():
        return key
    start = key[:SHOWN_LENGTH_MAX]
    printable = "".join(character if " " <= character <= "~" else "?" for character in start)
    return printable if len(key) <= SHOWN_LENGTH_MAX else f"{printable}..."


def shown(text: str) -> str:
    """Quote what the file says, as far as it can be repeated safely."""
    return f'"{path_part(text)}"'


def suggestion(text: str, words: Iterable[str]) -> str:
    """Return what the author may have meant, as the end of a message."""
    nearest = difflib.get_close_matches(text[:SHOWN_LENGTH_MAX].lower(), list(words), n=1)
    return f"; did you mean {shown(nearest[0])}?" if nearest else ""
