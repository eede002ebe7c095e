# SPDX-License-Identifier: Apache-2.0
"""Says all that is wrong with a request at once, and not one field per attempt."""

from types import TracebackType

from taximeter_server.errors import FieldViolation, InvalidFieldsError


class Violations:
    """What is wrong with one request, as errors: each ``with violations:`` notes what its block refuses."""

    def __init__(self) -> None:
        self.errors: list[InvalidFieldsError] = []

    def __enter__(self) -> None:
        """Begin a block whose InvalidFieldsError is noted and not raised."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if not isinstance(error, InvalidFieldsError):
            return False
        self.errors.append(error)
        return True

    def add(self, field: str, description: str) -> None:
        """Note a field outside its range or alphabet."""
        self.errors.append(InvalidFieldsError.of(field, description))

    def extend(self, others: "Violations", *, within: str = "") -> None:
        """Note what is wrong with a part of the request, whose fields are within its path."""
        for error in others.errors:
            relabelled = [
                FieldViolation(f"{within}{each.field}", each.description, each.reason)
                for each in error.violations
            ]
            self.errors.append(InvalidFieldsError(relabelled) if within else error)

    def raise_any(self) -> None:
        """Raise what was noted: one error as it is, several as one InvalidFieldsError in their order."""
        if len(self.errors) == 1:
            raise self.errors[0]
        if self.errors:
            raise InvalidFieldsError([each for error in self.errors for each in error.violations])
