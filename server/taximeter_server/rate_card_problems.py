# SPDX-License-Identifier: Apache-2.0
"""What is wrong in a rate card: every problem with its place, all of them at once."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from taximeter_server._native import Mark, shown
from taximeter_server.errors import FieldViolation, InvalidFieldsError

PROBLEMS_MAX = 100
"""Reading stops here: a file with this many problems is not a rate card."""

_COMPARED_LENGTH_MAX = 32
"""Characters of the file that are compared with the words that it could have been, which costs by their number."""


WHOLE_FILE = Mark(0, 1)
"""Line and column count from 1."""


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

    def raise_if_any(self, error: type[RateCardInvalidError] = RateCardInvalidError) -> None:
        """Raise error when a problem was noted."""
        if self._problems:
            raise error(tuple(sorted(self._problems, key=lambda found: (found.line, found.column))))

    def __bool__(self) -> bool:
        return bool(self._problems)


def suggestion(text: str, words: Iterable[str]) -> str:
    """Return what the author may have meant, as the end of a message."""
    nearest = difflib.get_close_matches(text[:_COMPARED_LENGTH_MAX].lower(), list(words), n=1)
    return f"; did you mean {shown(nearest[0])}?" if nearest else ""
